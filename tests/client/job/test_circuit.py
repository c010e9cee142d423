from __future__ import annotations

import logging
import math
import time

import pytest

from hyperoracle_client.job.circuit import FAILURES_THAT_OPEN, Backoff, Circuit


def test_pauses_double_up_to_the_most_with_jitter_below() -> None:
    backoff = Backoff(0.5, 30.0)
    pauses = [backoff.next_pause() for _ in range(12)]
    nominal = [min(30.0, 0.5 * 2**n) for n in range(12)]
    assert all(0.75 * n <= p <= n for p, n in zip(pauses, nominal, strict=True))
    assert len({p / n for p, n in zip(pauses, nominal, strict=True)}) > 1


def test_pauses_begin_anew_after_a_reset() -> None:
    backoff = Backoff(0.5, 30.0)
    for _ in range(5):
        backoff.next_pause()
    backoff.reset()
    assert backoff.next_pause() <= 0.5


def test_a_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff(0.5, 30.0)
    assert all(backoff.next_pause() <= 30.0 for _ in range(2000))


def opened(least: float = 0.5, most: float = 30.0) -> Circuit:
    circuit = Circuit(least, most)
    assert [circuit.failed("x") for _ in range(FAILURES_THAT_OPEN)][-1]
    return circuit


def test_failures_in_a_row_open_and_a_good_probe_closes() -> None:
    circuit = Circuit(0.5, 30.0)
    assert circuit.retry_at == math.inf
    assert [circuit.failed("x") for _ in range(FAILURES_THAT_OPEN)] == [False, True]
    assert circuit.is_open
    assert circuit.retry_at < math.inf
    circuit.probe_succeeded()
    assert not circuit.is_open
    assert circuit.retry_at == math.inf


def test_openings_are_counted_not_the_failures_while_it_is_open() -> None:
    circuit = Circuit(0.5, 30.0)
    assert circuit.openings == 0
    for _ in range(FAILURES_THAT_OPEN + 3):
        circuit.failed("x")
    assert circuit.openings == 1
    circuit.probe_succeeded()
    circuit.failed("x")
    assert circuit.openings == 2


def test_a_late_answer_now_and_then_never_opens() -> None:
    circuit = Circuit(0.5, 30.0)
    for _ in range(1000):
        assert not circuit.failed("late")
        circuit.succeeded()
    assert not circuit.is_open


def test_after_a_probe_one_failure_opens_again_until_a_proposal_has_succeeded() -> None:
    circuit = opened()
    circuit.probe_succeeded()
    assert circuit.failed("x")
    circuit.probe_succeeded()
    circuit.succeeded()
    assert not circuit.failed("x")


def test_an_oracle_that_answers_probes_but_fails_proposals_is_asked_less_and_less() -> None:
    circuit = opened(1.0, 1000.0)
    for failures in range(1, 6):
        assert circuit._backoff._failures == failures
        circuit.probe_succeeded()
        circuit.failed("x")
    circuit.succeeded()
    assert circuit._backoff._failures == 0


def test_such_an_oracle_costs_training_a_share_of_its_time_from_the_beginning() -> None:
    circuit = opened(0.001, 0.001)
    circuit.probe_succeeded()
    before = time.monotonic()
    circuit.failed("late", lost_seconds=0.05)
    assert circuit.retry_at - before >= 0.05 * 4
    circuit.probe_succeeded()
    circuit.succeeded()
    before = time.monotonic()
    for _ in range(FAILURES_THAT_OPEN):
        circuit.failed("late", lost_seconds=0.05)
    assert circuit.retry_at - before < 0.05  # the first probe comes soon


def test_each_change_of_state_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    circuit = Circuit(0.5, 30.0)
    with caplog.at_level(logging.WARNING):
        for _ in range(FAILURES_THAT_OPEN):
            circuit.failed("why")
        circuit.probe_failed()
        circuit.probe_failed()
        circuit.probe_succeeded()
    assert [record.getMessage().split(",")[0].split(":")[0] for record in caplog.records] == [
        "oracle circuit open",
        "oracle circuit closed",
    ]
