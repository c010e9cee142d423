"""Measures several contenders for one core in turn, so that a busy machine is unfair to none."""

from __future__ import annotations

import gc
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter, process_time

Advance = Callable[[int], int]
"""Takes at least so many env steps more and returns how many it took."""


@dataclass(frozen=True)
class Speeds:
    """Env steps per second of each repeat.

    Attributes:
        wall: per second of wall time.
        cpu: per second of this process's CPU time, which other processes disturb less.
    """

    wall: Sequence[float]
    cpu: Sequence[float]


def interleaved(
    contenders: Mapping[str, Advance],
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
    for advance in contenders.values():
        advance(1)
        tick()
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    gc.freeze()  # what is there already is looked through for nobody
    try:
        for _ in range(repeats):
            for name, advance in contenders.items():
                gc.collect()  # nobody pays for another's garbage
                wall_began, cpu_began = perf_counter(), process_time()
                taken = advance(env_steps)
                cpu[name].append(taken / (process_time() - cpu_began))
                wall[name].append(taken / (perf_counter() - wall_began))
                tick()
    finally:
        gc.unfreeze()
    return {name: Speeds(wall[name], cpu[name]) for name in contenders}


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
