from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest
from trainers.short_runs import small_trainer

from hyperoracle_trainers.algorithms.phase import Phase
from hyperoracle_trainers.runs.run import run


class Remembering:
    def __init__(self, fails_at: str = "") -> None:
        self.heard: list[Any] = []
        self._fails_at = fails_at

    def _hear(self, what: str, content: Any = None) -> None:
        self.heard.append(what if content is None else (what, content))
        if what == self._fails_at:
            raise OSError(28, "No space left\non device")

    def record(self, phase: Phase) -> None:
        self._hear("record", phase.index)

    def end(self, summary: Mapping[str, Any]) -> None:
        self._hear("end", summary)

    def close(self) -> None:
        self._hear("close")


def test_a_writer_hears_every_phase_then_the_summary_and_is_closed() -> None:
    writer = Remembering()
    summary = run(small_trainer("ppo"), writers=[writer], evaluation_episodes=2)
    *phases, (end, told), close = writer.heard
    assert phases == [("record", 0), ("record", 1), ("record", 2)]
    assert (end, close) == ("end", "close")
    assert told["final_return"] == summary.final_return
    assert told["evaluation_return"] == pytest.approx(sum(summary.evaluation_returns) / 2)


@pytest.mark.parametrize("moment", ["record", "end", "close"])
def test_a_writer_that_fails_is_dropped_with_one_line_and_training_goes_on(
    moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = Remembering(fails_at=moment), Remembering()
    with caplog.at_level(logging.WARNING):
        summary = run(small_trainer("a2c"), writers=[broken, sound])
    assert summary.env_steps == 48
    assert [each if isinstance(each, str) else each[0] for each in sound.heard] == [
        "record", "record", "record", "end", "close",
    ]  # fmt: skip
    assert broken.heard[-1] == "close", "what it wrote is completed as far as that can be"
    assert len(broken.heard) == {"record": 2, "end": 5, "close": 5}[moment]
    (record,) = caplog.records
    assert record.message == (
        "Remembering: OSError: [Errno 28] No space left on device; training goes on without it"
    )


def test_a_writer_that_cannot_even_be_closed_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Hopeless(Remembering):
        def _hear(self, what: str, content: Any = None) -> None:
            raise ValueError("broken")

    run(small_trainer("a2c"), writers=[Hopeless()])
    assert len(caplog.records) == 1


def test_writers_are_closed_when_a_run_is_interrupted_and_told_no_summary() -> None:
    def interrupt(phase: Phase) -> None:
        if phase.index == 1:
            raise KeyboardInterrupt

    writer = Remembering()
    with pytest.raises(KeyboardInterrupt):
        run(small_trainer("a2c"), observers=[interrupt], writers=[writer])
    assert writer.heard == [("record", 0), "close"]


def test_what_an_observer_raises_ends_the_run() -> None:
    def observe(phase: Phase) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run(small_trainer("a2c"), observers=[observe])
