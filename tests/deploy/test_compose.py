"""docker-compose.yml keeps to the compose specification, and names what exists.

Each test says with what change of the files that it reads it was seen to fail.
"""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest
import yaml
from support.deployment import ROOT

from hyperoracle_client.cli import main
from hyperoracle_client.settings import ClientSettings
from hyperoracle_server.settings import ServerSettings

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
JOBS = [name for name, service in SERVICES.items() if service.get("profiles") == ["example"]]
# check-jsonschema ships the specification's schema under its licence (Apache-2.0).
SCHEMA = json.loads(
    files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text()
)


def errors(document):
    validator = jsonschema.validators.validator_for(SCHEMA)(SCHEMA)
    return [error.message for error in validator.iter_errors(document)]


def test_the_file_keeps_to_the_specifications_schema():
    """Seen to fail with `read-only` for `read_only`."""
    assert errors(COMPOSE) == []


@pytest.mark.parametrize(
    "mistake",
    [
        {"services": {"oracle": {"read-only": True}}},
        {"services": {"oracle": {"ports": "8080"}}},
        {"service": {}},
    ],
)
def test_the_schema_finds_mistakes(mistake):
    assert errors(mistake) != []


def test_what_is_built_and_mounted_exists():
    """Seen to fail with another name of a Dockerfile, a volume, or a config."""
    for name, service in SERVICES.items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file(), name
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            known = (ROOT / source).exists() if source.startswith(".") else (
                source in COMPOSE["volumes"]
            )  # fmt: skip
            assert known, (name, source)
        for config in service.get("configs", ()):
            assert config["source"] in COMPOSE["configs"]


def test_every_container_is_confined_and_every_port_is_on_loopback():
    """Seen to fail without `read_only`, with a capability that is not dropped, with privileges that
    may be gained, and with a port on all interfaces."""
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


def test_profiles_leave_the_plain_oracle_alone():
    """Seen to fail with Prometheus in the profile of the example."""
    assert [name for name, s in SERVICES.items() if not s.get("profiles")] == ["oracle"]
    assert JOBS == ["job-1", "job-2"]
    assert {n for n, s in SERVICES.items() if s.get("profiles") == ["monitoring"]} == {
        "prometheus", "grafana",
    }  # fmt: skip


def test_environment_variables_are_settings():
    """Seen to fail with a variable that is misspelt."""
    for name, fields in (
        ("oracle", ServerSettings.model_fields),
        *((job, ClientSettings.model_fields) for job in JOBS),
    ):
        for variable in SERVICES[name]["environment"]:
            assert variable.removeprefix("HYPERORACLE_").lower() in fields, variable


@pytest.mark.parametrize("job", JOBS)
def test_a_jobs_command_is_one_that_the_trainer_takes(job, capsys):
    """Seen to fail with an option that is misspelt."""
    assert main([*SERVICES[job]["command"], "--dry-run"]) == 0
    assert "Hopper-v5" in capsys.readouterr().out


def test_prometheus_finds_the_oracle_by_its_name_here():
    """Seen to fail with another host to scrape, and with the oracle's port elsewhere."""
    configuration = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    scraped = configuration["scrape_configs"][0]
    host, port = scraped["static_configs"][0]["targets"][0].split(":")
    assert SERVICES[host]["ports"] == [f"127.0.0.1:8080:{port}"]
    token = SERVICES["prometheus"]["configs"][0]
    assert token["target"] == scraped["authorization"]["credentials_file"]


def test_grafana_finds_prometheus_and_the_dashboards():
    """Seen to fail with another port of Prometheus, and another folder of dashboards."""
    provisioning = ROOT / "deploy/grafana/provisioning"
    source = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    provider = yaml.safe_load((provisioning / "dashboards/hyperoracle.yml").read_text())
    path = provider["providers"][0]["options"]["path"]
    assert f"./deploy/grafana/dashboards:{path}:ro" in SERVICES["grafana"]["volumes"]
