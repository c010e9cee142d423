"""How long a call takes when the machine lets it: the least of some tries.

A busy machine may stop any thread for as long as it likes, so that one measurement has no upper
bound. What a call takes at least in some tries is its own doing.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def quickest(call: Callable[[], object], enough: float, tries: int = 20) -> float:
    """Call until it takes no longer than `enough` seconds; return the least that it took."""
    least = float("inf")
    for _ in range(tries):
        began = time.monotonic()
        call()
        least = min(least, time.monotonic() - began)
        if least <= enough:
            break
    return least
