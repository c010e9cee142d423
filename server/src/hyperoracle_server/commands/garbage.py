"""The interpreter's cycle collector, kept from stopping everybody.

A full collection looks at each object of the process while no thread runs: with 20,000 decisions in
mind these were up to 120 ms in which nobody was answered, whenever somebody had made many objects
(a report with a thousand credits, a long list). What survived one is seldom garbage later, so it is
set aside (`gc.freeze`) and the next looks at what is new. Studies, jobs and their answers die by
their reference counts; what does not (connections, tracebacks) is found by a look at everything now
and then.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

EVERYTHING_SECONDS = 3600.0
"""How seldom a full collection looks at everything, what was set aside too."""

MIDDLE_COLLECTIONS = 2
"""Of the middle generation before a full one (the interpreter's 10): some 20,000 new objects."""


class NewObjectsOnly:
    """Lets full collections look at objects that are new since the last one.

    Of the whole process, so for a process of one's own. Begins with a look at everything.

    Args:
        monotonic: the time, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._thresholds = gc.get_threshold()
        gc.set_threshold(*self._thresholds[:2], MIDDLE_COLLECTIONS)
        gc.collect()
        gc.freeze()
        gc.collect()  # of nothing: a full one is due by what the last one left
        self._looked_at = monotonic()
        gc.callbacks.append(self._collecting)

    def close(self) -> None:
        """Let the collector be as it was."""
        gc.callbacks.remove(self._collecting)
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def _collecting(self, phase: str, info: Mapping[str, Any]) -> None:
        if info["generation"] != 2:
            return
        if phase == "stop":
            gc.freeze()
        elif self._monotonic() - self._looked_at >= EVERYTHING_SECONDS:
            self._looked_at = self._monotonic()
            gc.unfreeze()
