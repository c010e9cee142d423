"""When to leave a failing oracle alone, and for how long."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable

logger = logging.getLogger("hyperoracle_client")


class Backoff:
    """Growing pauses between attempts: doubling from `least` to `most` seconds.

    Each pause is drawn from the upper half below its nominal length, so that jobs that failed
    together do not come back together.
    """

    def __init__(self, least: float, most: float) -> None:
        self._least = least
        self._most = most
        self._failures = 0
        self._random = random.Random()  # noqa: S311 - spreads retries, guards nothing

    def next_pause(self) -> float:
        """Seconds to wait after one more failure."""
        nominal = min(self._most, self._least * 2.0 ** min(self._failures, 60))
        self._failures += 1
        return nominal * self._random.uniform(0.75, 1.0)

    def reset(self) -> None:
        """Begin again with the least pause."""
        self._failures = 0


FAILURES_THAT_OPEN = 2
"""Proposals in a row: one late answer is no trouble, and a trouble costs two deadlines."""

MOST_SHARE_LOST = 0.2
"""Of the time, that training may wait in vain for an oracle that answers probes in time, and
proposals never."""


class Circuit:
    """Says whether proposals may be asked for.

    Closed: they may. Some failures in a row open it; a failed proposal costs training its deadline
    at most, an open circuit all the updates that pass meanwhile. Then probes, made in the
    background, look when the oracle answers in time again, at first within milliseconds: it is open
    for about as long as the trouble lasts, and half as long again.

    A probe that succeeds closes it on trial: until a proposal has succeeded too, one failure opens
    it again, for longer, and for so long that no more than a share of the time is lost in waiting.

    The training thread calls `failed` and `succeeded` while it is closed, the background thread
    `probe_failed` and `probe_succeeded` while it is open: whoever may use the job's channel is
    thereby settled without a lock around the call.

    Attributes:
        is_open: whether proposals may not be asked for.
        openings: how often it has opened.
    """

    def __init__(
        self, least_seconds: float, most_seconds: float, in_short: Callable[[object], str] = str
    ) -> None:
        """Make a closed one.

        Args:
            least_seconds: until the first probe.
            most_seconds: between two probes.
            in_short: how the log says why it opened.
        """
        self._in_short = in_short
        self._backoff = Backoff(least_seconds, most_seconds)
        self._lock = threading.Lock()
        self._retry_at = math.inf
        self._opened_at = 0.0
        self._failures = 0  # in a row
        self._is_on_trial = False
        self.is_open = False
        self.openings = 0

    @property
    def retry_at(self) -> float:
        """When the next probe is due on the monotonic clock; infinite while closed."""
        return self._retry_at

    def failed(self, why: str, lost_seconds: float = 0.0) -> bool:
        """A proposal failed.

        Args:
            why: in words.
            lost_seconds: what training has waited for it.

        Returns:
            Whether the circuit is open now.
        """
        with self._lock:
            self._failures += 1
            if self._failures < FAILURES_THAT_OPEN and not self._is_on_trial:
                return False
            now = time.monotonic()
            if not self.is_open:
                self._opened_at = now
                self.is_open = True
                self.openings += 1
                told = self._in_short(why)
                logger.warning("oracle circuit open, training goes on with the defaults: %s", told)
            pause = self._backoff.next_pause()
            if self._is_on_trial:
                pause = max(pause, lost_seconds * (1.0 / MOST_SHARE_LOST - 1.0))
            self._retry_at = now + pause
            return True

    def succeeded(self) -> None:
        """A proposal succeeded."""
        self._failures = 0
        self._is_on_trial = False
        self._backoff.reset()

    def probe_failed(self) -> None:
        """The oracle is still away."""
        with self._lock:
            self._retry_at = time.monotonic() + self._backoff.next_pause()

    def probe_succeeded(self) -> None:
        """The oracle answers again: close, on trial."""
        with self._lock:
            if self.is_open:
                away = time.monotonic() - self._opened_at
                logger.warning("oracle circuit closed: it answers again after %.1f s", away)
            self._retry_at = math.inf
            self._failures = 0
            self._is_on_trial = True
            self.is_open = False
