"""Who is told what happens inside the oracle, so that it can be counted and timed.

The oracle knows neither metrics nor traces: it tells an `Observer`; `metrics.Metrics` is one and
`tracing.Tracing` another.
"""

from __future__ import annotations

import time
from typing import Literal

Stage = Literal["parse", "encode", "search", "choose", "commit"]
"""Where a hot call's time goes: the body is read, phi(s) is made, the memory is read, the rest of
a decision is made, a report waits until it is on disk."""

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


class Observers(Observer):
    """Tells each of several observers, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def stage(self, stage: Stage, seconds: float) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.stage(stage, seconds)

    def committed(self, seconds: float) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.committed(seconds)

    def commit_failed(self) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.commit_failed()

    def evicted(self, count: int) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.evicted(count)

    def index_built(self) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.index_built()

    def index_sampled(self, recall: float) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.index_sampled(recall)

    def encoder_round(self, outcome: RoundOutcome, loss: float | None) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.encoder_round(outcome, loss)

    def worked(self, work: Work, study: str, seconds: float) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.worked(work, study, seconds)

    def lease_expired(self) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.lease_expired()


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
