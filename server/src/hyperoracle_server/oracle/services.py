"""What a study needs of the world around it. Both clocks are here, so that tests can turn them."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperoracle_server.ledger.writer import Writer
    from hyperoracle_server.oracle.job import Answer
    from hyperoracle_server.telemetry.observer import Observer


class Clock:
    """Wall time for the record, monotonic time for leases."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps."""
        return time.monotonic()


def as_datetime(seconds: float) -> datetime:
    """Seconds since the epoch as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)


class Identifiers:
    """Increasing numbers for rows of one table, over all studies. Thread-safe."""

    def __init__(self, first: int) -> None:
        self._next = first
        self._lock = threading.Lock()

    def __call__(self) -> int:
        """The next number."""
        with self._lock:
            self._next += 1
            return self._next

    def reserve(self, count: int) -> int:
        """Keep the next `count` numbers for the caller; returns the one before the first."""
        with self._lock:
            before = self._next
            self._next += count
            return before


class Services(NamedTuple):
    """The ledger's writer, time, fresh numbers, answers of the past, and who is told.

    Attributes:
        writer: takes changes to the ledger.
        clock: wall and monotonic time.
        proposal_ids: fresh numbers of proposals.
        entry_ids: fresh numbers of memory entries.
        stored_answer: the answer that a job's number and a sequence got, from the ledger.
        observer: is told what happens.
        index_recall: the share of true neighbours that search graphs have to find.
    """

    writer: Writer
    clock: Clock
    proposal_ids: Identifiers
    entry_ids: Identifiers
    stored_answer: Callable[[int, int], Answer | None]
    observer: Observer
    index_recall: float = 0.95
