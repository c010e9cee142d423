"""Who is told what happens inside the oracle, so that it can be counted and timed.

The oracle knows no metrics: it tells an `Observer`, and `metrics.Metrics` is one.
"""

from __future__ import annotations

import time
from typing import Literal

Stage = Literal["parse", "encode", "search", "choose", "commit"]
"""Where a hot call's time goes: the body is read, phi(s) is made, the memory is read, the rest of
a decision is made, a report waits until it is on disk."""

RoundOutcome = Literal["published", "not_accepted", "failed"]
"""How a training round of an encoder ended."""


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

    def lease_expired(self) -> None:
        """A running job was silent for longer than its lease."""


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
