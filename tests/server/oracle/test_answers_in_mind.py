"""Answers are kept in mind while their job may ask again; the ledger has them afterwards."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.handles import oracle_of
from support.waiting import wait_until
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.oracle import job as job_module
from hyperoracle_server.oracle import recovery, upkeep
from hyperoracle_server.oracle.job import JobCounts, JobState
from hyperoracle_server.oracle.services import Clock
from hyperoracle_server.oracle.study import StudyRuntime

LEASE_SECONDS = 120.0


@pytest.fixture
def silence(monkeypatch):
    """Moves the clock of leases on."""
    ahead = [0.0]
    monotonic = Clock.monotonic
    monkeypatch.setattr(Clock, "monotonic", lambda clock: monotonic(clock) + ahead[0])

    def pass_by(seconds: float) -> None:
        ahead[0] += seconds

    return pass_by


@pytest.fixture
def wire(tmp_path, no_upkeep):
    transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
    yield Wire(transport=transport)
    transport.close()


@pytest.fixture
def oracle(wire):
    return oracle_of(wire)


def in_mind(oracle, job) -> list[int]:
    """The sequences whose answers the oracle has in mind."""
    with oracle.job(job["job_id"]) as (_, state):
        return list(state.answers)


def ask(wire, job, sequences) -> list[int]:
    """A proposal at each odd sequence, a report of it at each even one; the answers' status."""
    answers = []
    for s in sequences:
        answer = wire.propose(job, s, seed=s) if s % 2 else wire.report(job, s, s - 1, [float(s)])
        answers.append(answer.status)
    return answers


@pytest.fixture
def looked_up(oracle, monkeypatch):
    """The sequences that the ledger was asked for."""
    found: list[int] = []
    asked = recovery.stored_answer

    def stored_answer(ledger, job_id, sequence):
        found.append(sequence)
        return asked(ledger, job_id, sequence)

    monkeypatch.setattr(recovery, "stored_answer", stored_answer)
    return found


def test_the_ledger_is_not_asked_for_what_was_only_overtaken(wire, oracle, looked_up):
    """Seen to fail: each report that a proposal had overtaken was looked up, 1.5 ms each."""
    wire.study("s")
    job = wire.job("s")
    assert ask(wire, job, [1, 3, 5, 7, 2, 4, 6, 8]) == [200] * 8
    assert looked_up == []
    with oracle.job(job["job_id"]) as (_, state):
        state.forget(range(1, 9))
    assert ask(wire, job, [2, 3]) == [200] * 2
    assert looked_up == [2, 3], "these were answered: the ledger has the bytes"
    assert wire.propose(job, 3, seed=9).json["code"] == "sequence_conflict"
    assert wire.call("GET", "/v1/studies/s").json["reports"] == 4


def test_after_a_restart_the_ledger_is_asked_for_what_was_left_out(tmp_path, monkeypatch):
    """Nothing is known then of what lies below the newest sequence."""
    for again in (False, True):
        transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
        wire = Wire(transport=transport)
        if not again:
            wire.study("s")
            job = wire.job("s", job_key="the-only-one")
            first = wire.report(job, 2, 0, [2.0]).json
            ask(wire, job, [5])
        else:
            assert wire.report(job, 2, 0, [2.0]).json == first
            assert wire.report(job, 2, 0, [3.0]).json["code"] == "sequence_conflict"
            assert ask(wire, job, [1, 3, 4]) == [200] * 3
        transport.close()


@given(st.lists(st.integers(1, 60), unique=True), st.integers(1, 12))
def test_a_gap_is_never_what_was_seen_and_there_are_not_too_many(sequences, most):
    """Laws; all that is not kept as a gap is looked up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_module, "REMEMBERED_GAPS", most)
        job = SimpleNamespace(gaps=set(), counts=JobCounts())
        for place, sequence in enumerate(sequences):
            JobState.saw(job, sequence)
            seen = set(sequences[: place + 1])
            assert len(job.gaps) <= most
            assert job.gaps <= set(range(1, max(seen))) - seen
            assert job.counts.last_sequence == max(seen)


@pytest.fixture
def answered(wire, monkeypatch):
    """A job with eight answers, and a way to ask for them again that shows their bytes."""
    raw = wire._transport.handle
    bodies: list[bytes] = []

    def handle(*request):
        status, headers, body = raw(*request)
        bodies.append(body)
        return status, headers, body

    monkeypatch.setattr(wire._transport, "handle", handle)
    wire.study("s", strategy={"name": "epgt"})
    job = wire.job("s")
    bodies.clear()
    ask(wire, job, range(1, 9))
    first = list(bodies)

    def again() -> bool:
        bodies.clear()
        ask(wire, job, range(1, 9))
        return bodies == first

    return job, again


def test_a_silent_jobs_answers_are_let_go_and_come_from_the_ledger_byte_for_byte(
    wire, oracle, silence, answered
):
    """Seen to fail (all are kept until a restart) without `upkeep.forget_answers`."""
    job, again = answered
    assert upkeep.forget_answers(oracle) == 0
    assert in_mind(oracle, job) == list(range(1, 9))
    silence(LEASE_SECONDS + 1)
    assert upkeep.forget_answers(oracle) == 1
    assert in_mind(oracle, job) == []
    assert upkeep.forget_answers(oracle) == 0
    credited = wire.call("GET", "/v1/studies/s").json["credited_proposals"]
    assert again(), "while it is stale"
    assert ask(wire, job, [9, 10]) == [200, 200], "and it goes on"
    assert in_mind(oracle, job) == [9, 10]
    assert again(), "once it is back"
    assert wire.propose(job, 3, seed=4).json["code"] == "sequence_conflict"
    assert wire.call("GET", "/v1/studies/s").json["credited_proposals"] == credited + 1


def test_upkeep_lets_them_go(tmp_path, monkeypatch, silence):
    monkeypatch.setattr(upkeep, "LOOK_SECONDS", 0.01)
    transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
    wire, oracle = Wire(transport=transport), oracle_of(transport)
    wire.study("s")
    job = wire.job("s")
    ask(wire, job, range(1, 5))
    gone = threading.Event()
    forget = upkeep.forget_answers

    def told(given) -> int:
        count = forget(given)
        if count:
            gone.set()
        return count

    monkeypatch.setattr(upkeep, "forget_answers", told)
    silence(LEASE_SECONDS + 1)
    assert gone.wait(30)
    assert in_mind(oracle, job) == []
    transport.close()


def test_an_answer_that_the_ledger_does_not_have_yet_stays_in_mind(wire, oracle, silence, answered):
    """Seen to fail (nothing is awaited) where answers go at once."""
    job, again = answered
    writer = oracle.ledger.writer
    held, may_go_on = threading.Event(), threading.Event()

    def hold(_connection):
        held.set()
        assert may_go_on.wait(30)

    holder = threading.Thread(target=lambda: writer.run(hold))
    holder.start()
    assert held.wait(30)
    proposed = wire.propose(job, 9, seed=9)  # in the writer's queue, as is the report
    reported = []
    reporter = threading.Thread(target=lambda: reported.append(wire.report(job, 10, 9, [10.0])))
    reporter.start()
    wait_until("the report is taken in", lambda: 10 in in_mind(oracle, job))
    silence(LEASE_SECONDS + 1)
    forgetter = threading.Thread(target=upkeep.forget_answers, args=(oracle,))
    forgetter.start()
    wait_until("it waits behind both", lambda: writer.queued == 3)
    assert {9, 10} <= set(in_mind(oracle, job))
    assert wire.propose(job, 9, seed=9).json == proposed.json
    may_go_on.set()
    for thread in (holder, reporter, forgetter):
        thread.join()
    assert in_mind(oracle, job) == [], "the wait was for the ledger"
    assert wire.propose(job, 9, seed=9).json == proposed.json
    assert wire.report(job, 10, 9, [10.0]).json == reported[0].json
    assert wire.call("GET", "/v1/studies/s").json["reports"] == 5
    assert again()


def test_a_write_that_fails_meanwhile_costs_no_answer(wire, oracle, silence, answered, monkeypatch):
    _job, again = answered
    silence(LEASE_SECONDS + 1)
    writer = oracle.ledger.writer

    def failing(changes, epoch):
        writer.epoch += 1  # what a transaction does that fails
        return submit(changes, epoch)

    submit = writer.submit_durably
    with monkeypatch.context() as patch:
        patch.setattr(writer, "submit_durably", failing)
        assert upkeep.forget_answers(oracle) == 0
    assert again()


def test_a_finished_jobs_answers_are_let_go_but_not_one_that_comes_meanwhile(
    wire, oracle, answered, monkeypatch
):
    """Seen to fail (the late report's answer is gone before it is durable) with all let go."""
    job, again = answered
    finish = StudyRuntime.finish

    class Late:
        """The future of a finish after which a report comes at once."""

        def __init__(self, future) -> None:
            self._future = future

        def result(self):
            self._future.result()
            assert wire.report(job, 10, 8).status == 200

    with monkeypatch.context() as patch:
        patch.setattr(StudyRuntime, "finish", lambda *given: Late(finish(*given)))
        wire.call("POST", f"/v1/jobs/{job['job_id']}/finish", {})
    assert in_mind(oracle, job) == [10]
    assert upkeep.forget_answers(oracle) == 1
    assert in_mind(oracle, job) == []
    assert again()
