"""What is computed, beside what was measured on one core of an idle machine; what is refused."""

from __future__ import annotations

import pytest
from support.handles import oracle_of
from support.wire_client import LEARNING_RATE, Wire

from hyperoracle_protocol.hyper_state import HyperStateLayout, SketchedTensor
from hyperoracle_protocol.strategies import QLearningSetting
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.keyed.cost import encode_seconds, gradient_step_seconds, scan_seconds
from hyperoracle_server.strategies.cost import (
    LEAST_OPEN,
    MOST_OPEN,
    CostLimits,
    check_cost,
    most_open_proposals,
    study_cost,
)

FACTOR = 3.0
"""Within which what is computed has to lie of what was measured."""


def defined(strategy, space=LEARNING_RATE) -> StudyDefinition:
    return StudyDefinition.model_validate({"space": space, "strategy": strategy})


def layout(rows: int, name: str = "w", width: int = 8, orders: int = 2) -> HyperStateLayout:
    """A sketch of `rows` × `width` × (`orders` + 1) features."""
    tensor = SketchedTensor(name=name, rows=rows, columns=1)
    return HyperStateLayout(kind="sketch", width=width, orders=orders, tensors=(tensor,))


@pytest.mark.parametrize(
    ("hidden", "layers", "batch", "actions", "milliseconds"),
    [(64, 2, 32, 7, 0.45), (64, 2, 32, 625, 0.91), (256, 2, 256, 3, 3.2), (256, 2, 256, 625, 17.7),
     (1024, 2, 256, 625, 123.0), (256, 2, 256, 10_000, 122.0), (1024, 8, 32, 7, 137.0),
     (1024, 2, 4096, 625, 715.0), (256, 8, 4096, 7, 255.0), (1, 1, 4096, 7, 1.3)],
)  # fmt: skip
def test_a_gradient_step_takes_about_what_was_measured(
    hidden, layers, batch, actions, milliseconds
):
    setting = QLearningSetting(hidden_size=hidden, hidden_layers=layers, batch_size=batch)
    computed = 1e3 * gradient_step_seconds(32, actions, setting)
    assert milliseconds / FACTOR < computed < milliseconds * FACTOR


@pytest.mark.parametrize(
    ("features", "units", "milliseconds"),
    [(65_520, 1024, 30.0), (65_520, 384, 15.1), (65_520, 256, 12.6), (65_520, 64, 3.4),
     (16_800, 1024, 11.5)],
)  # fmt: skip
def test_a_key_takes_about_what_was_measured(features, units, milliseconds):
    computed = 1e3 * encode_seconds(features, units)
    assert milliseconds / FACTOR < computed < milliseconds * FACTOR


@pytest.mark.parametrize(
    ("entries", "key_size", "milliseconds"),
    [(10_000, 32, 0.28), (100_000, 32, 2.5), (100_000, 256, 12.5), (1_000_000, 32, 51.0)],
)
def test_a_scan_takes_about_what_was_measured(entries, key_size, milliseconds):
    computed = 1e3 * scan_seconds(entries, key_size)
    assert milliseconds / FACTOR < computed < milliseconds * FACTOR


@pytest.mark.parametrize(
    ("rows", "units", "megabytes"), [(2730, 1024, 1715), (2730, 384, 650), (2730, 64, 116)]
)
def test_an_encoder_takes_about_the_memory_that_was_measured_while_one_was_made(
    rows, units, megabytes
):
    strategy = {"name": "epgt", "encoder": {"hidden_size": units}, "memory": {"capacity": 1}}
    computed = study_cost(defined(strategy), [layout(rows)]).memory_bytes / 1e6
    assert megabytes / FACTOR < computed < megabytes * FACTOR


def test_remembered_entries_take_about_the_memory_that_was_measured():
    strategy = {"name": "epgt", "memory": {"capacity": 1_000_000}}
    computed = study_cost(defined(strategy), []).memory_bytes / 1e6
    measured = 548 + 128 + 197  # beside keys; keys; whose entries they are
    assert measured / FACTOR < computed < measured * FACTOR


def test_disk_is_the_hyper_states_that_are_kept_and_two_encoders():
    strategy = {"name": "epgt", "memory": {"capacity": 100},
                "encoder": {"replay": 10, "hidden_size": 2}}  # fmt: skip
    cost = study_cost(defined(strategy), [layout(10), layout(10, "v")])
    # 10 × 8 × 3 features; memory and twice the replay, as float16; two states of 18 bytes.
    assert cost.disk_bytes == 2 * (240 * 120 * 2 + 2 * 240 * 2 * 18)


def test_steps_and_layouts_add_up():
    one, ten = (
        study_cost(defined({"name": "dqn", "q_learning": {"gradient_steps": steps}}), [])
        for steps in (1, 10)
    )
    assert one.learn_seconds < ten.learn_seconds < 10 * one.learn_seconds
    single = study_cost(defined({"name": "epgt"}), [layout(100)])
    double = study_cost(defined({"name": "epgt"}), [layout(100), layout(100, "v")])
    assert double.memory_bytes == 2 * single.memory_bytes
    assert double.decide_seconds == single.decide_seconds


def test_strategies_without_networks_and_memories_cost_next_to_nothing():
    for name in ("random", "fixed", "bandit", "anchored", "best_config", "cautious_config"):
        assert study_cost(defined({"name": name}), [])[1:] == (0.0, 0, 0)


def test_what_the_examples_and_defaults_cost_is_far_from_the_limits():
    limits = CostLimits()
    for strategy in ({"name": "epgt"}, {"name": "dqn"}):
        cost = study_cost(defined(strategy), [layout(177), layout(700)])
        assert cost.decide_seconds < limits.call_seconds / 5
        assert cost.learn_seconds < limits.call_seconds / 5
        assert cost.memory_bytes < limits.memory_bytes / 5
        assert cost.disk_bytes < limits.disk_bytes / 5


@pytest.mark.parametrize(
    ("strategy", "layouts", "named"),
    [
        ({"name": "dqn", "q_learning": {"hidden_size": 256, "batch_size": 256,
                                        "gradient_steps": 100}}, [],
         ["--study-call-seconds", "HYPERORACLE_STUDY_CALL_SECONDS", "gradient_steps", "0.25 s"]),
        ({"name": "epgt", "encoder": {"hidden_size": 1024}}, [layout(2730)],
         ["--study-memory-bytes", "hidden_size", "512 MiB", "1 hyper-state layouts"]),
        ({"name": "epgt", "encoder": {"hidden_size": 200}}, [layout(2730), layout(2730, "v")],
         ["--study-memory-bytes", "2 hyper-state layouts"]),
        ({"name": "epgt", "memory": {"capacity": 1_000_000}, "encoder": {"key_size": 256}}, [],
         ["strategy.memory.capacity"]),
        ({"name": "epgt", "memory": {"capacity": 200_000}}, [layout(2730)],
         ["--study-disk-bytes", "16,384 MiB"]),
    ],
)  # fmt: skip
def test_a_study_that_costs_too_much_is_refused_with_bound_figure_and_remedy(
    strategy, layouts, named
):
    with pytest.raises(RequestRefused) as refused:
        check_cost(defined(strategy), layouts, CostLimits())
    for text in named:
        assert text in refused.value.detail
    assert refused.value.expected is not None
    assert refused.value.got is not None


def test_how_many_proposals_may_be_open_follows_from_what_a_report_would_take():
    assert most_open_proposals(0.0, 0) == MOST_OPEN
    assert most_open_proposals(0.25, 0) == 120
    assert most_open_proposals(0.0, 65_536) == 512
    assert most_open_proposals(100.0, 65_536) == LEAST_OPEN


def test_over_the_wire_it_is_a_422_before_anything_is_made(wire, name):
    learning = {"hidden_size": 256, "batch_size": 256, "gradient_steps": 1000}
    refused = wire.study(name, strategy={"name": "dqn", "q_learning": learning})
    assert (refused.status, refused.json["code"]) == (422, "invalid_request")
    assert wire.call("GET", f"/v1/studies/{name}").status == 404

    assert wire.study(name, strategy={"name": "epgt", "encoder": {"hidden_size": 1024}}).status
    tensors = [{"name": "w", "shape": [2730, 8]}]
    start = {"total_env_steps": 10, "tensors": tensors}
    refused = wire.call("POST", f"/v1/studies/{name}/jobs", start)
    assert (refused.status, refused.json["code"]) == (422, "invalid_request")
    assert "hidden_size" in refused.json["detail"]
    assert wire.call("GET", f"/v1/studies/{name}/jobs").json == {"jobs": []}
    assert wire.job(name)["layout"]["feature_count"] < 1000  # a smaller model is welcome


def test_values_that_every_decision_would_repeat_are_short(embedded):
    space = {"kind": {"type": "categorical", "values": ["a", "b" * 257], "default": "a"}}
    refused = embedded.study("s", space, strategy={"name": "random"})
    assert (refused.status, refused.json["got"]) == (422, "257")
    assert refused.json["detail"].startswith("space.kind: ")


@pytest.mark.parametrize(
    ("start", "named"),
    [
        ({"metadata": {"config": "x" * 16_384}}, "metadata"),
        ({"metadata": {"n" * 129: "x"}}, "metadata"),
        ({"base_values": {"n" * 129: 1.0}}, "base_values"),
    ],
)
def test_a_jobs_metadata_is_for_people_and_short(embedded, start, named):
    embedded.study("s")
    body = {"total_env_steps": 1, "tensors": [{"name": "w", "shape": [4, 3]}], **start}
    refused = embedded.call("POST", "/v1/studies/s/jobs", body)
    assert (refused.status, refused.json["code"]) == (422, "invalid_request")
    assert refused.json["detail"].startswith(named)
    body["metadata"] = {"config": "x" * 16_000}
    body["base_values"] = {"learning_rate": 1.0}
    assert embedded.call("POST", "/v1/studies/s/jobs", body).status == 201


def test_jobs_of_one_layout_share_it_in_mind_also_after_a_restart(tmp_path):
    for _ in range(2):
        transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
        wire = Wire(transport=transport)
        wire.study("s")
        wire.job("s")
        wire.job("s")
        with oracle_of(transport).study("s") as study:
            assert len({id(job.layout) for job in study.jobs.values()}) == 1
        transport.close()


def test_too_many_open_proposals_are_refused_and_a_report_makes_room(embedded, monkeypatch):
    monkeypatch.setattr("hyperoracle_server.oracle.admission.most_open_proposals", lambda *_: 3)
    embedded.study("s")
    job = embedded.job("s")
    assert [embedded.propose(job, s).status for s in (1, 2, 3)] == [200] * 3
    refused = embedded.propose(job, 4)
    assert (refused.status, refused.json["got"]) == (422, "3")
    assert "report" in refused.json["detail"]
    assert embedded.propose(job, 3).status == 200  # asked again, it is answered again
    assert embedded.report(job, 5, 4).json["credited"] == 3
    assert embedded.propose(job, 6).status == 200
