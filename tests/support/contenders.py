"""A contender that another process can import."""

from __future__ import annotations

import os
from contextlib import ExitStack

from hyperoracle_trainers.bench.peers.contender_process import Advance


def counting(first: int, stack: ExitStack) -> Advance:
    """Counts from ``first``; its process's number is what it answers to 0."""
    if first < 0:
        raise ValueError(f"expected 0 or more, got {first}")

    def advance(env_steps: int) -> int:
        if env_steps > 1_000_000:
            os._exit(1)
        if env_steps > 100:
            raise ArithmeticError("too far")
        sum(range(200_000))
        return os.getpid() if env_steps == 0 else first + env_steps

    return advance
