"""Who is told what happens inside the oracle, so that it can be counted and timed.

The oracle knows neither metrics nor traces: it tells an `Observer`; `metrics.Metrics` is one and
`tracing.Tracing` another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

Stage = Literal["parse", "encode", "search", "choose", "commit"]
"""Where a hot call's time goes: the body is read, phi(s) is made, the memory is read, the rest of
a decision is made, a report waits until it is on disk."""

ReportOutcome = Literal["applied", "waiting", "late", "duplicate"]
"""How a report was taken in: at once, once the one before it comes, after its learning episode
was over, or not again."""

RoundOutcome = Literal["published", "not_accepted", "failed"]
"""How a training round of an encoder ended."""

Work = Literal["encoder round", "index build"]
"""What is done beside the calls: an encoder is trained and published, search graphs are built."""


class Observer:
    """Does nothing with what it is told; subclasses do. Called from many threads."""

    def stage(self, stage: Stage, seconds: float) -> None:
        """A stage of a hot call took so long."""

    def committed(self, seconds: float) -> None:
        """SQLite's COMMIT of a durable transaction, which syncs the file, took so long."""

    def commit_failed(self) -> None:
        """A transaction failed; whoever waited for it was told so."""

    def evicted(self, count: int) -> None:
        """So many memory entries were pushed out by newer ones."""

    def index_built(self) -> None:
        """A memory answers from newly built search graphs."""

    def index_sampled(self, recall: float) -> None:
        """Search graphs found this share of a key's true neighbours."""

    def encoder_round(self, outcome: RoundOutcome, loss: float | None) -> None:
        """A training round ended; the loss of its last minibatch, None where it gave none."""

    def worked(self, work: Work, study: str, seconds: float) -> None:
        """Work for a study, in this thread and until now, took so long; however it ended."""

    def lease_expired(self) -> None:
        """A running job was silent for longer than its lease."""


def all_of(*observers: Observer) -> Observer:
    """One observer that tells each of several, in their order."""
    all_told = Observer()
    for event in vars(Observer):
        if not event.startswith("_"):
            setattr(all_told, event, _each([getattr(each, event) for each in observers]))
    return all_told


def _each(listeners: Sequence[Callable[..., None]]) -> Callable[..., None]:
    def tell(*what: object) -> None:
        for listener in listeners:
            listener(*what)

    return tell


class StageClock:
    """Times the stages of one call after another. One caller at a time (the study's lock).

    Args:
        observer: is told of each stage.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._since = 0.0

    def start(self) -> None:
        """A call begins."""
        self._since = time.perf_counter()

    def mark(self, stage: Stage) -> None:
        """This stage ends here, and began where the one before it ended."""
        now = time.perf_counter()
        self._observer.stage(stage, now - self._since)
        self._since = now
