"""The two clocks that the oracle reads, in one place so that tests can turn them."""

from __future__ import annotations

import time
from datetime import UTC, datetime


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
