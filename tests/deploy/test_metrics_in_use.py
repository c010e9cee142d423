"""Dashboard and alerts ask only for what `/metrics` really serves, and operations.md knows each.

Tests say with what change they were seen to fail.
"""

from __future__ import annotations

import json
import re

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.deployment import DEPLOY, ROOT
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport

EPGT = {"name": "epgt", "encoder": {"minimum_samples": 4}}
RULES = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/hyperoracle.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OPERATIONS = (ROOT / "docs/operations.md").read_text()
OF_PROMETHEUS = {"up": {"job": {"hyperoracle"}, "instance": set()}}


def target_queries():
    for panel in PANELS:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
            yield pytest.param(query, id=panel["title"])


QUERIES = [
    *target_queries(),
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in RULES),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Labels and their values by the name of each sample of a running oracle's `/metrics`."""
    transport = EmbeddedTransport(str(tmp_path_factory.mktemp("oracle") / "oracle.db"))
    wire = Wire(transport=transport)
    wire.study("s", strategy=EPGT)
    job = wire.job("s")
    wire.propose(job, 1)
    wire.report(job, 2, 1)
    text = wire.call("GET", "/metrics").json
    transport.close()
    found = {name: dict(labels) for name, labels in OF_PROMETHEUS.items()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {"job": {"hyperoracle"}, "instance": set()})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def selectors(expression):
    """Every selector of a parsed query."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for part in ("lhs", "rhs", "expr", "vector_selector", "param"):
        child = getattr(expression, part, None)
        if isinstance(child, promql_parser.Expr):
            yield from selectors(child)
    if isinstance(expression, promql_parser.Call):
        for argument in expression.args:
            yield from selectors(argument)


def faults(query, served):
    """What a query asks for that is not served."""
    found = []
    names = list(selectors(promql_parser.parse(query)))
    assert names, query
    for selector in names:
        if selector.name not in served:
            found.append(f"no metric {selector.name}")
            continue
        labels = served[selector.name]
        for matcher in selector.matchers.matchers:
            pattern = ".*" if matcher.name == "instance" else matcher.value
            known = labels.get(matcher.name)
            if known is None:
                found.append(f"{selector.name} has no label {matcher.name}")
            elif known and not all(
                any(re.fullmatch(option, value) for value in known) for option in pattern.split("|")
            ):
                found.append(f"{selector.name} never has {matcher.name}={pattern}")
    return found


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_what_is_served(query, served):
    """Seen to fail with another name of a metric in `metrics.py`; the next test has more."""
    assert faults(query, served) == []


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("rate(hyperoracle_reprots_total[5m])", "no metric hyperoracle_reprots_total"),
        ('hyperoracle_reports_total{status="late"}', "has no label status"),
        ('hyperoracle_reports_total{result=~"late|lost"}', "never has result"),
    ],
)
def test_this_check_finds_faults(query, fault, served):
    assert any(fault in found for found in faults(query, served))


def test_the_dashboards_variable_is_served(served):
    """Seen to fail with a metric that is misspelt in the dashboard's variable."""
    variable = next(v for v in DASHBOARD["templating"]["list"] if v["name"] == "instance")
    name = re.fullmatch(r"label_values\((\w+), instance\)", variable["query"]["query"])[1]
    assert name in served


def test_panels_lie_beside_each_other_and_have_titles_of_their_own():
    """Seen to fail with a panel one column further left."""
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(set(titles)) == len(titles)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(titles)


def test_every_alert_says_how_urgent_it_is_and_where_to_read_on():
    """Seen to fail with another severity, and with another pointer to the guide."""
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert f"See {rule['alert']} in docs/operations.md" in rule["annotations"]["description"]


def test_every_alert_has_its_section_in_the_operations_guide_and_no_section_is_left_over():
    """Seen to fail with another heading, and with a section that does not say what it means."""
    described = re.findall(r"^### (Oracle\w+)$", OPERATIONS, re.MULTILINE)
    assert sorted(described) == sorted(rule["alert"] for rule in RULES)
    for name in described:
        section = OPERATIONS.split(f"### {name}\n")[1].split("\n### ")[0]
        assert "**Means**" in section, name
        assert "**Do**" in section, name


def test_every_metric_of_the_oracle_is_described_in_the_operations_guide(served):
    """Seen to fail with another name in `metrics.py`, and with one left out of the guide."""
    names = {name for name in served if name.startswith("hyperoracle_")}
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in names}
    assert [name for name in sorted(families) if f"`{name}" not in OPERATIONS] == []


def test_prometheus_reads_the_rules_that_are_here():
    """Seen to fail with another file of rules."""
    configuration = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert configuration["rule_files"] == ["alerts.yml"]
    assert configuration["scrape_configs"][0]["job_name"] == "hyperoracle"
