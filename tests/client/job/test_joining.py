from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
from client.conftest import CHOSEN, DEFAULTS, SPACE, eventually, network
from client.scripted_oracle import ScriptedOracle, answer_then_lose_it, hang, refuse
from support.quickest import quickest

from hyperoracle_client import Job, Oracle, OracleMisconfigured, OracleRefused, OracleUnreachable
from hyperoracle_protocol.hyper_state import HyperStateLayout, SketchedTensor

QUICK = {"circuit_least_seconds": 0.001, "circuit_most_seconds": 0.01}
ALONE = {**QUICK, "start_deadline_seconds": 0.05}


def test_the_study_is_put_and_the_job_started(server: ScriptedOracle, start: Callable) -> None:
    job = start(
        strategy="random",
        returns="phase_return",
        hold=4,
        seed=7,
        role="explore",
        metadata={"environment": "CartPole-v1", "seed": 3},
        base_values={"learning_rate": 3e-4},
        model=network(np.random.default_rng(0)),
    )
    definition, started = server.of("study")[0], server.of("start")[0]
    assert definition.strategy.name == "random"
    assert definition.returns.kind == "phase_return"
    assert (definition.hold.updates, definition.seed) == (4, 7)
    assert list(definition.space) == list(SPACE)
    assert started.metadata == {"environment": "CartPole-v1", "seed": "3"}
    assert [tensor.shape for tensor in started.tensors][:2] == [(8, 5), (8,)]
    assert (started.role, started.base_values) == ("explore", {"learning_rate": 3e-4})
    assert (job.id, job.role, job.stats.joined) == ("j1", "exploit", True)


def test_a_start_whose_answer_is_lost_is_repeated_with_the_same_key(
    server: ScriptedOracle, start: Callable
) -> None:
    server.script["start"].append(answer_then_lose_it)
    assert start(QUICK).stats.joined
    first, second = server.of("start")
    assert first.job_key == second.job_key is not None


def test_a_job_begins_alone_and_joins_when_it_can(
    server: ScriptedOracle, start: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    server.die()
    with caplog.at_level(logging.WARNING, "hyperoracle_client"):
        job = start(ALONE)
        assert job.propose(env_step=0) == DEFAULTS
        job.report([1.0, 2.0], env_step=10)
        job.report([3.0], env_step=20)
        eventually(lambda: job.stats.reports_spooled == 2)
        server.come_back()
        eventually(lambda: job.stats.joined)
        assert job.propose(env_step=20) == CHOSEN
        job.report([4.0], env_step=30)
        server.wait_for("report", 3)
    reports = [
        (m.sequence, m.credits_after, m.credits_through, m.previous_report)
        for m, _, _ in server.of("report")
    ]
    assert reports == [
        (1, 0, 0, 0),
        (2, 0, 0, 1),
        (4, 0, 3, 2),
    ]  # fmt: skip
    assert len(caplog.records) == 1


def test_start_waits_no_longer_than_its_deadline(server: ScriptedOracle, start: Callable) -> None:
    server.always["study"] = hang

    def begin() -> None:
        job = start({"start_deadline_seconds": 0.1})
        assert job.propose(env_step=0).why == "not joined yet"

    assert 0.1 <= quickest(begin, 0.2) <= 0.2


@pytest.mark.parametrize("on_error", ["default", "raise"])
@pytest.mark.parametrize("kind", ["study", "start"])
@pytest.mark.parametrize(("status", "code"), [(409, "study_conflict"), (422, "invalid_request")])
def test_a_mistake_is_told_at_the_start(
    server: ScriptedOracle, start: Callable, on_error: str, kind: str, status: int, code: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    server.always[kind] = refuse(status, code)
    with pytest.raises(OracleRefused, match=code) as caught:
        start({"on_error": on_error})
    assert (caught.value.status, caught.value.code) == (status, code)
    assert code not in caplog.text  # the exception says it: once is enough


def test_a_mistake_found_after_the_start_stops_nothing(
    server: ScriptedOracle, start: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    server.die()
    job = start(ALONE)
    job.report([1.0], env_step=1)
    server.always["study"] = refuse(409, "study_conflict")
    with caplog.at_level(logging.WARNING, "hyperoracle_client"):
        server.come_back()
        eventually(lambda: job.stats.reports_dropped == 1)
        values = job.propose(env_step=2)
        job.report([2.0], env_step=2)
        assert job.finish().reports_dropped == 2
    assert values == DEFAULTS
    assert "study_conflict" in values.why
    assert sum("refuses the job" in record.getMessage() for record in caplog.records) == 1
    assert sum("study_conflict" in record.getMessage() for record in caplog.records) == 1


def test_trouble_of_the_servers_own_is_not_a_mistake(
    server: ScriptedOracle, start: Callable
) -> None:
    server.script["study"].extend([refuse(503, "overloaded"), refuse(500, "internal")])
    assert start(QUICK).stats.joined


def test_raising_mode_wants_the_oracle_at_the_start(
    server: ScriptedOracle, start: Callable
) -> None:
    server.die()
    with pytest.raises(OracleUnreachable, match=r"did not start the job within 0\.05 s"):
        start({**ALONE, "on_error": "raise"})


def test_a_layout_that_the_model_cannot_give_is_told_at_the_start(
    server: ScriptedOracle, start: Callable
) -> None:
    tensors = (SketchedTensor(name="elsewhere", rows=2, columns=2),)
    server.layout = HyperStateLayout(kind="sketch", width=4, orders=1, tensors=tensors)
    with pytest.raises(OracleRefused, match="elsewhere"):
        start()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"space": {}}, "at least 1 item"),
        ({"space": {"x": {"type": "nonsense"}}}, "x"),
        ({"strategy": "nonsense"}, "strategy"),
        ({"hold": 0}, "hold.updates"),
        ({"total_env_steps": 0}, "total_env_steps"),
        ({"model": 3}, "expected a torch module"),
        ({"model": {"w": "text"}}, "expected arrays"),
        ({"job_key": "short"}, "job_key"),
    ],
)
def test_arguments_that_cannot_work_are_told_in_one_line(
    start: Callable, arguments: dict, told: str
) -> None:
    with pytest.raises(OracleMisconfigured, match=told) as caught:
        start(**arguments)
    assert "\n" not in str(caught.value)


def test_a_job_in_a_with_block_is_finished_with_its_reason(
    server: ScriptedOracle, start: Callable[..., Job]
) -> None:
    with start():
        pass
    with pytest.raises(ZeroDivisionError), start():
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), start():
        raise KeyboardInterrupt
    assert [message.reason for message in server.of("finish")] == [
        "completed",
        "failed",
        "interrupted",
    ]


def test_closing_the_oracle_finishes_its_jobs(
    server: ScriptedOracle, start: Callable[..., Job], connect: Callable[..., Oracle]
) -> None:
    with connect(server.url) as oracle:
        job = oracle.start_job(study="s", space=SPACE, total_env_steps=10)
        job.report([1.0], env_step=1)
    assert [message.reason for message in server.of("finish")] == ["interrupted"]
    assert len(server.of("report")) == 1
    assert job.propose(env_step=2).why == "the job is finished: start another one"


def test_one_refusal_of_many_calls_is_said_whole_once(
    server: ScriptedOracle, start: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    job = start(QUICK)
    for kind in ("propose", "report", "heartbeat", "finish"):
        server.always[kind] = refuse(401, "unauthenticated")
    with caplog.at_level(logging.WARNING, "hyperoracle_client"):
        for step in range(3):
            job.propose(env_step=step)
            job.report([1.0], env_step=step + 1)
        job.finish()
    said = [record.getMessage() for record in caplog.records]
    assert sum("unauthenticated" in line for line in said) == 1
    assert any("for the reason said before" in line for line in said)
