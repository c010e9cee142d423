"""A job that goes on from a checkpoint repeats its requests, and parts from them where it must."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from client.conftest import CHOSEN, SPACE, eventually, network
from client.scripted_oracle import ScriptedOracle, break_the_connection, refuse

from hyperoracle_client import Job, Oracle
from hyperoracle_client.api import OracleApi
from hyperoracle_protocol.hyper_state import (
    HyperStateLayout,
    TensorShape,
    sketch_layout,
)

Start = Callable[..., Job]
PATIENT = {"propose_deadline_seconds": 5.0}
QUICK = {"circuit_least_seconds": 0.001, "circuit_most_seconds": 0.002}

STATISTICS = HyperStateLayout(kind="statistics", dtype="float32")


def sketch() -> HyperStateLayout:
    tensors = [
        TensorShape(name=name, shape=array.shape)
        for name, array in network(np.random.default_rng(0)).items()
    ]
    return sketch_layout(tensors, seed=1, width=8, orders=2)


def train(job: Job, steps: range) -> None:
    """A tiny run whose every number follows from its step."""
    for n in steps:
        rng = np.random.default_rng(n)
        job.report([float(n)], env_step=n, phase_return=n / 3)
        job.propose(
            env_step=n,
            update_step=n,
            signals={"approx_kl": 1 / (n + 1)},
            params=network(rng),
            grads=network(rng),
        )


def bodies(server: ScriptedOracle, kind: str) -> dict[int, bytes]:
    """The last body of each sequence."""
    return {message.sequence: body for message, _, body in server.of(kind)}


@pytest.mark.parametrize("layout", [HyperStateLayout(kind="none"), STATISTICS, sketch()])
@pytest.mark.parametrize("valid_for_updates", [1, 3])
def test_a_resumed_job_repeats_its_requests_byte_by_byte(
    server: ScriptedOracle, start: Start, layout: HyperStateLayout, valid_for_updates: int
) -> None:
    server.layout = layout
    server.answer["valid_for_updates"] = valid_for_updates
    model = network(np.random.default_rng(0))
    lost = start(PATIENT, model=model)  # a busy machine is no subject here
    train(lost, range(5))
    state = lost.state()
    train(lost, range(5, 9))
    server.wait_for("report", 9)
    proposals, reports = bodies(server, "propose"), bodies(server, "report")
    server.last_sequence = max(*proposals, *reports)
    server.calls.clear()

    resumed = start(PATIENT, model=model, resume_from=state)
    train(resumed, range(5, 9))
    assert resumed.finish().reports_dropped == 0
    assert server.of("start")[0].job_key == lost.key
    for kind, before in (("propose", proposals), ("report", reports)):
        repeated = bodies(server, kind)
        assert repeated
        assert repeated == {sequence: before[sequence] for sequence in repeated}
    assert max(bodies(server, "report")) == max(reports)


def test_reports_that_had_not_arrived_are_in_the_state_and_sent_from_there(
    server: ScriptedOracle, start: Start
) -> None:
    lost = start(QUICK)
    server.always["report"] = break_the_connection
    train(lost, range(3))
    eventually(lambda: lost.stats.reports_spooled == 3)
    state = lost.state()
    lost.end(0.0)
    del server.always["report"]
    server.calls.clear()
    resumed = start(resume_from=state)
    assert resumed.finish().reports_pending == 0
    assert [(m.sequence, m.previous_report) for m, _, _ in server.of("report")] == [
        (1, 0),
        (3, 1),
        (5, 3),
    ]


def test_a_pickled_state_names_no_class_of_ours(server: ScriptedOracle, start: Start) -> None:
    """Seen to fail: a report that waited held one, which later had another name."""
    server.layout = STATISTICS
    job = start(QUICK, model=network(np.random.default_rng(0)))
    server.always["report"] = break_the_connection
    train(job, range(3))
    state = job.state()
    assert all(report["credits"] for report in state["reports"])
    assert b"hyperoracle_" not in pickle.dumps(state)


def test_where_it_differs_it_goes_on_after_the_last_sequence_and_disowns_the_others(
    server: ScriptedOracle, start: Start
) -> None:
    lost = start()
    train(lost, range(2))
    eventually(lambda: lost.stats.reports_pending == 0)
    state = lost.state()
    assert state["session"]["book"]["last_sequence"] == 4
    server.last_sequence = 10
    server.calls.clear()
    server.script["report"].append(refuse(422, "sequence_conflict"))
    server.script["propose"].append(refuse(422, "sequence_conflict"))
    resumed = start(resume_from=state)
    resumed.report([1.0], env_step=2)
    server.wait_for("report", 1)
    assert resumed.propose(env_step=2) == CHOSEN, "asked again at once"
    resumed.report([2.0], env_step=3)
    assert resumed.finish().fallbacks == 0
    refused, accepted = (message for message, _, _ in server.of("propose"))
    assert (refused.sequence, accepted.sequence) == (6, 11)
    assert accepted.not_applied == [6, 7, 8, 9, 10]
    last = server.of("report")[-1][0]
    assert (last.sequence, last.credits_after, last.credits_through) == (12, 4, 11)
    assert last.not_applied == [6, 7, 8, 9, 10]
    assert last.previous_report == 3, "the last report that arrived"


def test_a_state_that_was_taken_before_the_job_joined_starts_it_then(
    server: ScriptedOracle, start: Start
) -> None:
    server.die()
    lost = start({**QUICK, "start_deadline_seconds": 0.05})
    lost.report([1.0], env_step=1)
    state: Any = lost.state()
    lost.end(0.0)
    server.come_back()
    resumed = start(resume_from=state)
    assert resumed.propose(env_step=1) == CHOSEN
    assert resumed.finish().reports_sent == 1


def lost_at_its_checkpoint(server: ScriptedOracle, start: Start) -> dict[str, Any]:
    """The state of a job that has held a decision and delivered three reports."""
    server.answer["valid_for_updates"] = 100
    lost = start(PATIENT)
    train(lost, range(3))
    server.wait_for("report", 3)
    eventually(lambda: lost.stats.reports_pending == 0)
    state = lost.state()
    lost.end(0.0)
    server.calls.clear()
    return state


def test_a_job_that_its_oracle_does_not_know_begins_its_chain_there_and_asks_again(
    server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen to fail: its reports waited for ever for one that the oracle never had, and the
    decision of another oracle was held to the end."""
    state = lost_at_its_checkpoint(server, start)
    server.job_id, server.last_sequence, server.last_report = "j2", 0, 0
    resumed = start(PATIENT, resume_from=state)
    train(resumed, range(3, 6))
    assert resumed.finish().reports_sent == 3
    (asked,) = (message for message, _, _ in server.of("propose"))
    chain = [(m.sequence, m.previous_report) for m, _, _ in server.of("report")]
    assert chain[0][1] is None
    assert [previous for _, previous in chain[1:]] == [sequence for sequence, _ in chain[:-1]]
    assert asked.sequence not in asked.not_applied
    told = [r.getMessage() for r in caplog.records if "does not know" in r.getMessage()]
    assert len(told) == 1


def test_reports_in_the_state_are_chained_anew_at_an_oracle_that_does_not_know_the_job(
    server: ScriptedOracle, start: Start
) -> None:
    """Seen to fail: what had been tried at the other oracle kept its predecessor there."""
    lost = start(QUICK)
    train(lost, range(1))
    server.wait_for("report", 1)
    eventually(lambda: lost.stats.reports_pending == 0)
    server.always["report"] = break_the_connection
    train(lost, range(1, 3))
    server.wait_for("report", 2)
    state = lost.state()
    lost.end(0.0)
    del server.always["report"]
    server.calls.clear()
    server.job_id, server.last_sequence, server.last_report = "j2", 9, 7
    resumed = start({**QUICK, **PATIENT}, resume_from=state)
    train(resumed, range(3, 4))
    resumed.finish()
    chain = [(m.sequence, m.previous_report) for m, _, _ in server.of("report")]
    assert [previous for _, previous in chain] == [None, chain[0][0], chain[1][0]]
    assert server.of("propose")[0][0].sequence > 9, "what the oracle has is not used again"


def test_a_decision_that_the_oracle_has_lost_is_asked_for_again(
    server: ScriptedOracle, start: Start
) -> None:
    """A store restored from a backup of before it. Seen to fail: it was held to the end."""
    state = lost_at_its_checkpoint(server, start)
    held = state["session"]["decision"]["proposal"]["sequence"]
    server.last_sequence, server.last_report = held - 1, state["previous"]
    resumed = start(PATIENT, resume_from=state)
    train(resumed, range(3, 4))
    resumed.finish()
    assert len(server.of("propose")) == 1
    server.calls.clear()
    server.last_sequence = max(held, state["previous"])
    known = start(PATIENT, resume_from=state)
    train(known, range(3, 4))
    known.finish()
    assert not server.of("propose"), "a known one is held"


@pytest.mark.parametrize("what", ["another store", "an older copy of its store"])
def test_a_resumed_job_delivers_whatever_its_store_has_become(
    what: str, connect: Callable[..., Oracle], tmp_path: Any
) -> None:
    """Seen to fail: `waiting`, nothing credited, no return."""
    store, copy = tmp_path / "oracle.db", tmp_path / "copy.db"
    arguments = {"study": "s", "space": SPACE, "total_env_steps": 9, "strategy": "random"}

    def trained(oracle: Oracle, steps: range, **more: Any) -> Job:
        job = oracle.start_job(**arguments, job_key="a-key-of-its-own", **more)
        for n in steps:
            job.report([float(n)], env_step=n)
            assert job.propose(env_step=n).source == "oracle"
        eventually(lambda: job.stats.reports_pending == 0)
        return job

    first = connect(f"embedded:{store}", **PATIENT)
    state = trained(first, range(1, 3)).state()
    first.close()
    shutil.copy(store, copy)
    second = connect(f"embedded:{store}", **PATIENT)
    state = trained(second, range(3, 6), resume_from=state).state()
    second.close()

    third = connect("embedded:other.db" if what == "another store" else f"embedded:{copy}",
                    **PATIENT)  # fmt: skip
    job = trained(third, range(6, 9), resume_from=state)
    with OracleApi.at(third._endpoint) as api:
        told = api.job(job.id)
    if what == "another store":
        assert (told.last_return, told.reports, told.credited_proposals) == (7.0, 3, 2)
    else:
        assert (told.last_return, told.reports, told.credited_proposals) == (4.8, 5, 3)
