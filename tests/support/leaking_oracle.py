"""`python leaking_oracle.py ...` serves like `python -m hyperoracle_server ...`, and leaks.

Each answer is kept for ever with a kilobyte beside it, and each job's start leaves a file open.
"""

from __future__ import annotations

import os
import runpy
from collections.abc import Callable
from typing import Any

from hyperoracle_server.oracle.job import JobState

KEPT: list[Any] = []
OPENED: list[int] = []
BYTES = 1024


def leak(replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Begin to leak.

    Args:
        replace: puts something in an attribute's place, like `setattr`.
    """
    remember, row = JobState.remember, JobState.row

    def keeping(self: JobState, sequence: int, answer: Any) -> None:
        KEPT.append((answer, bytes(BYTES)))
        remember(self, sequence, answer)

    def opening(self: JobState) -> dict[str, Any]:
        OPENED.append(os.open(__file__, os.O_RDONLY))
        return row(self)

    replace(JobState, "remember", keeping)
    replace(JobState, "row", opening)


def give_back() -> None:
    """Let go of all that leaked."""
    KEPT.clear()
    while OPENED:
        os.close(OPENED.pop())


if __name__ == "__main__":
    leak()
    runpy.run_module("hyperoracle_server", run_name="__main__")
