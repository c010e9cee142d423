"""Measures several contenders for one core in turn, so that a busy machine is unfair to none."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """What a contender did in its turn.

    Attributes:
        env_steps: taken.
        wall_seconds: that it took.
        cpu_seconds: of its process, which other processes disturb less.
    """

    env_steps: int
    wall_seconds: float
    cpu_seconds: float


Contender = Callable[[int], Turn]
"""Takes at least so many env steps more."""


@dataclass(frozen=True)
class Speeds:
    """Env steps per second of each repeat.

    Attributes:
        wall: per second of wall time.
        cpu: per second of the contender's CPU time.
    """

    wall: Sequence[float]
    cpu: Sequence[float]


def interleaved(
    contenders: Mapping[str, Contender],
    *,
    env_steps: int,
    repeats: int,
    tick: Callable[[], object] = lambda: None,
) -> dict[str, Speeds]:
    """Let every contender advance once untimed, then all of them in turn, ``repeats`` times.

    Args:
        contenders: by name.
        env_steps: that each takes, at least, in each repeat.
        repeats: at least 1.
        tick: called after every turn, the untimed ones included.
    """
    for contender in contenders.values():
        contender(1)
        tick()
    turns: dict[str, list[Turn]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            turns[name].append(contender(env_steps))
            tick()
    return {
        name: Speeds(
            [turn.env_steps / turn.wall_seconds for turn in mine],
            [turn.env_steps / turn.cpu_seconds for turn in mine],
        )
        for name, mine in turns.items()
    }


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Return the median over repeats of the ratio within each repeat."""
    pairs = zip(numerators, denominators, strict=True)
    return statistics.median(above / below for above, below in pairs)


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and the threads that it starts meanwhile, on one of its cores.

    Where the system cannot do that (it needs Linux) the core is chosen by the system.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
