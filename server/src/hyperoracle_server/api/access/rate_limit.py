"""A token bucket for each caller, so that one program gone wild does not starve the others."""

from __future__ import annotations

from collections.abc import Callable

BURST_SECONDS = 2.0
"""A caller that was silent for so long may make the calls of that time at once."""


class RateLimit:
    """Counts calls. Used by one thread.

    Args:
        per_second: calls of one caller that are let through in the long run; 0: all are.
        monotonic: a clock that never jumps, in seconds.
    """

    def __init__(self, per_second: float, monotonic: Callable[[], float]) -> None:
        self._per_second = per_second
        self._most = max(1.0, BURST_SECONDS * per_second)
        self._monotonic = monotonic
        self._buckets: dict[str, tuple[float, float]] = {}  # caller: what is left, when

    def take(self, caller: str) -> float:
        """Take one call from a caller's bucket.

        Returns:
            0 where there was one, else the seconds until there will be.
        """
        if self._per_second == 0:
            return 0.0
        now = self._monotonic()
        left, then = self._buckets.get(caller, (self._most, now))
        left = min(self._most, left + (now - then) * self._per_second)
        if left < 1.0:
            self._buckets[caller] = (left, now)
            return (1.0 - left) / self._per_second
        self._buckets[caller] = (left - 1.0, now)
        return 0.0
