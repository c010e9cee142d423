"""What the owner of a job should know: each kind is said once in the log and counted ever after.

Nothing here stops training. A count travels to the oracle with the job's heartbeats and its end,
so that `hyperoracle job show` has it too.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from typing import Literal

logger = logging.getLogger("hyperoracle_client")

_REQUEST_ID = re.compile(r" \[request [^]]*\]$")  # of the one call that met the trouble

Notice = Literal[
    "applied_differently",
    "argument_left_out",
    "distributed_rank",
    "env_step_not_rising",
    "no_episode_returns",
    "no_return",
    "report_dropped",
    "report_note",
    "returns_not_finite",
    "signal_missing",
]
"""Kinds of notices:

- `applied_differently`: an update used other values than were proposed (`Job.applied`).
- `argument_left_out`: `propose` or `report` was given something that it cannot send as it is.
- `distributed_rank`: the job runs in one rank of several.
- `env_step_not_rising`: a report's `env_step` is not above that of the report before.
- `no_episode_returns`: the environment ends episodes without telling their returns.
- `no_return`: no return of the study's kind has come, or no report at all.
- `report_dropped`: a report was given up, or lost.
- `report_note`: the oracle noted something of a report.
- `returns_not_finite`: a report's returns held numbers that are not finite.
- `signal_missing`: a proposal came without the signal by which the strategy decides.
"""


class Notices:
    """Says and counts. May be used from several threads."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._said: set[tuple[str, str]] = set()
        self._troubles: set[str] = set()
        self._lock = threading.Lock()

    def leave_to(self, owner: int) -> None:  # noqa: ARG002 - as forks.Heirloom
        """In a forked child: they can be read."""
        self._lock = threading.Lock()  # who held it is not here

    def tell(
        self, notice: Notice, message: str, error: Exception | None = None, kind: str = ""
    ) -> None:
        """Count a notice; the first of its kind is said in the log.

        Args:
            notice: it.
            message: a line.
            error: whose traceback is logged, too.
            kind: where a notice has several, each of which is said.
        """
        with self._lock:
            self._counts[notice] += 1
            is_first = (notice, kind) not in self._said
            self._said.add((notice, kind))
        if is_first:
            logger.warning("%s (said once, counted as %r)", message, notice, exc_info=error)

    def in_short(self, trouble: object) -> str:
        """A trouble's words for the log: whole where they come first, a reference ever after.

        One refusal meets proposals, reports, heartbeats and the job's end alike.
        """
        words = _REQUEST_ID.sub("", str(trouble))
        with self._lock:
            is_first = words not in self._troubles
            self._troubles.add(words)
        return str(trouble) if is_first else "for the reason said before"

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind was noticed; kinds that were not are left out."""
        with self._lock:
            return dict(self._counts)
