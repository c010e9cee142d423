from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainers.short_runs import small_trainer

from hyperoracle_trainers.environments.failures import EnvironmentFailed
from hyperoracle_trainers.runs import overhead, pace
from hyperoracle_trainers.runs.overhead import (
    Cost,
    OracleSeconds,
    OverheadMeter,
    held_up,
    oracle_cpu_seconds,
)
from hyperoracle_trainers.runs.pace import seconds_per_env_step_alone

seconds = st.integers(0, 10**6).map(float)  # exact sums
taken = st.builds(
    OracleSeconds, calls=seconds, start=seconds, finish=seconds, interpreter=seconds,
    slowed=st.none() | seconds, training=seconds, waiting=seconds,
)  # fmt: skip


def worked(cpu_seconds: float) -> None:
    """Keep the interpreter for so much processor time."""
    until = time.thread_time() + cpu_seconds
    while time.thread_time() < until:
        sum(range(100))


# -- from the parts to the percentage -----------------------------------------------------------


def test_a_run_that_took_eight_times_as_long_tells_700_percent() -> None:
    parts = OracleSeconds(calls=7.3, start=0.2, interpreter=3.5, finish=0.1, slowed=3.6)
    assert parts.percent(16.8) == pytest.approx(700.0)


@given(taken, seconds)
def test_the_percentage_is_the_counted_time_by_the_time_that_is_left(
    parts: OracleSeconds, rest: float
) -> None:
    counted = parts.calls + parts.start + parts.finish + parts.interpreter + (parts.slowed or 0.0)
    percent = parts.percent(counted + rest)
    if counted + rest <= counted:
        assert percent is None, "no time is left that a run without an oracle would have taken"
    else:
        assert percent == pytest.approx(100.0 * counted / (counted + rest - counted))
        assert percent >= 0.0


@given(taken, seconds)
def test_being_slowed_never_lowers_the_overhead(parts: OracleSeconds, alone: float) -> None:
    compared = parts.compared(alone)
    assert compared.slowed is not None
    assert compared.slowed >= 0.0
    assert compared.counted >= parts.counted - (parts.slowed or 0.0)
    if parts.training > alone + parts.interpreter:
        left = compared.training - compared.interpreter - compared.slowed
        assert left == pytest.approx(alone, abs=1e-6 * parts.training)


@given(seconds, seconds, seconds, seconds)
def test_nobody_is_held_up_for_longer_than_it_waits(
    behind_others: float, waited: float, own: float, for_cores: float
) -> None:
    behind_others = min(behind_others, waited)
    held = held_up(behind_others, waited, own, for_cores)
    assert behind_others <= held <= waited


def test_on_a_busy_machine_whoever_has_the_interpreter_has_it_for_longer() -> None:
    assert held_up(behind_others=2.0, waited=3.0, own=4.0, for_cores=0.0) == 2.0
    assert held_up(behind_others=2.0, waited=9.0, own=4.0, for_cores=8.0) == 6.0
    assert held_up(behind_others=2.0, waited=5.0, own=4.0, for_cores=8.0) == 5.0


@pytest.mark.parametrize(
    ("cost", "is_much"),
    [
        (Cost(OracleSeconds(calls=0.5, start=0.3)), False),
        (Cost(OracleSeconds(calls=0.5, start=0.6)), True),
        (Cost(OracleSeconds(calls=0.5, waiting=5.0)), False),
        (Cost(OracleSeconds(calls=0.5, waiting=5.0), oracle_cpu=0.1), False),
        (Cost(OracleSeconds(calls=0.5, waiting=5.0), oracle_cpu=3.0), True),
    ],
)
def test_it_is_much_if_calls_and_what_may_be_the_oracles_are_a_tenth(
    cost: Cost, is_much: bool
) -> None:
    assert cost.is_much(11.0) is is_much


# -- what the meter finds -----------------------------------------------------------------------


class Planted:
    """A source whose thread has the interpreter for so long after each report."""

    relative = ()

    def __init__(self, cpu_seconds: float) -> None:
        self.cpu_seconds_used = 0.0
        self._each = cpu_seconds
        self._reports = threading.Semaphore(0)
        self._is_over = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def _work(self) -> None:
        while True:
            self._reports.acquire()
            if self._is_over:
                return
            worked(self._each)
            self.cpu_seconds_used = time.thread_time()

    def propose(self, **_: Any) -> Mapping[str, float]:
        return {}

    def applied(self, values: Mapping[str, float]) -> None:
        pass

    def report(self, episode_returns: Any, **_: Any) -> None:
        self._reports.release()

    def finish(self, *, failed: bool = False) -> None:
        self._is_over = True
        self._reports.release()
        self._thread.join()


@pytest.fixture(params=["the threads' clocks", "the client's count"])
def reads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "the client's count":
        monkeypatch.setattr(overhead, "HAS_THREAD_CLOCKS", False)
    elif not overhead.HAS_THREAD_CLOCKS:
        pytest.skip("this platform has no clocks of threads")
    return str(request.param)


def metered(planted: Planted, reads: str) -> tuple[OverheadMeter, Any]:
    meter = OverheadMeter()
    with meter.starting():
        planted.begin()
    if reads == "the client's count":
        meter.oracle_works_for(lambda: planted.cpu_seconds_used)
    meter.training_begins()
    return meter, meter.of(planted)


def test_what_a_background_thread_takes_from_training_is_counted(reads: str) -> None:
    planted = Planted(0.02)
    meter, source = metered(planted, reads)
    for _ in range(10):
        source.report([], env_step=0, phase_return=0.0)
        worked(0.05)  # which needs the interpreter as much
    source.finish()
    interpreter = meter.seconds.interpreter
    assert interpreter >= 0.5 * planted.cpu_seconds_used
    assert interpreter <= meter.seconds.training


def test_a_thread_that_sleeps_costs_nothing_and_calls_are_not_training(reads: str) -> None:
    meter, source = metered(Planted(0.0), reads)
    source.propose()
    worked(0.02)
    meter.aside(lambda: worked(0.03))
    source.propose()
    source.finish()
    found = meter.seconds
    assert found.training >= 0.02
    assert found.interpreter <= 0.01
    assert found.calls >= 0.0
    assert found.waiting >= 0.0


def test_calls_starting_and_finishing_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(overhead, "perf_counter", lambda: now)

    def taking(length: float) -> Callable[[], None]:
        def call() -> None:
            nonlocal now
            now += length

        return call

    meter = OverheadMeter()
    with meter.starting():
        taking(1.0)()
    taking(50.0)()  # before training: a writer begins
    meter.training_begins()
    for _ in range(3):
        taking(10.0)()
        meter.aside(taking(100.0))
        meter.call(taking(2.0))
    taking(10.0)()
    meter.finish(taking(4.0))
    taking(1000.0)()
    found = meter.seconds
    assert (found.start, found.calls, found.finish) == (1.0, 6.0, 4.0)
    assert found.training == 40.0
    assert found.waiting + found.interpreter == pytest.approx(40.0, abs=1.0), "it did no work"


def test_a_meter_goes_on_in_another_process() -> None:
    meter = OverheadMeter()
    meter.call(lambda: worked(0.01))
    another = OverheadMeter()
    another.restore(meter.state())
    assert asdict(another.seconds) == asdict(meter.seconds)
    another.call(lambda: worked(0.01))
    assert another.seconds.calls >= meter.seconds.calls + 0.01


@pytest.mark.parametrize(
    "url",
    [
        "embedded:oracle.db",
        "http://oracle.example:8080",
        "http://192.0.2.1:80",
        "http://localhost:1",
    ],
)
def test_the_processor_time_of_an_oracle_elsewhere_or_away_is_not_known(url: str) -> None:
    assert oracle_cpu_seconds(url, None) is None


# -- the pace without an oracle -----------------------------------------------------------------


def test_the_pace_is_of_the_phases_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()  # a clock that goes on by a second whenever it is read
    monkeypatch.setattr(pace, "perf_counter", lambda: float(next(ticks)))
    trainer = small_trainer("a2c")
    for _ in trainer.train():
        pass
    rollout = trainer.settings.number_of_envs * trainer.settings.rollout_length
    found = seconds_per_env_step_alone(trainer, 0.0)
    assert found == pytest.approx(1.0 / rollout), "a second a phase"


def test_an_environment_that_cannot_be_made_again_leaves_the_pace_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_: Any) -> Any:
        raise EnvironmentFailed("there is one robot")

    trainer = small_trainer("a2c")
    monkeypatch.setattr(pace, "make_trainer", fails)
    assert seconds_per_env_step_alone(trainer, 1.0) is None
