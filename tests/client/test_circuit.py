from __future__ import annotations

import logging
import math

import pytest

from hyperoracle_client.job.delivery.circuit import Backoff, Circuit


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


def test_a_failure_opens_and_a_good_probe_closes() -> None:
    circuit = Circuit(0.5, 30.0)
    assert circuit.retry_at == math.inf
    circuit.failed("x")
    assert circuit.is_open
    assert circuit.retry_at < math.inf
    circuit.probe_succeeded()
    assert not circuit.is_open
    assert circuit.retry_at == math.inf


def test_an_oracle_that_answers_probes_but_fails_proposals_is_asked_less_and_less() -> None:
    circuit = Circuit(1.0, 1000.0)
    pauses = []
    for _ in range(6):
        before = circuit._backoff._failures
        circuit.failed("x")
        pauses.append(before)
        circuit.probe_succeeded()
    assert pauses == [0, 1, 2, 3, 4, 5]
    circuit.succeeded()
    assert circuit._backoff._failures == 0


def test_each_change_of_state_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    circuit = Circuit(0.5, 30.0)
    with caplog.at_level(logging.WARNING):
        circuit.failed("why")
        circuit.probe_failed()
        circuit.probe_failed()
        circuit.probe_succeeded()
    assert [record.getMessage().split(",")[0].split(":")[0] for record in caplog.records] == [
        "oracle circuit open",
        "oracle circuit closed",
    ]
