"""Contenders in processes of their own, so that what one does to its process helps no other."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from time import perf_counter, process_time
from typing import Any

from hyperoracle_trainers.bench.peers.interleaving import Contender, Turn

Advance = Callable[[int], int]
"""Takes at least so many env steps more and returns how many it took."""


@contextmanager
def contender_process(make: Callable[..., Advance], *arguments: Any) -> Iterator[Contender]:
    """Start a contender in a process of its own, which ends with the context.

    Args:
        make: importable; called there with the arguments and a stack for what is to be closed.
        *arguments: that can be pickled.

    Raises:
        ChildProcessError: the process ended.
        Exception: whatever ``make`` raised, before anything is measured.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
    process.start()
    theirs.close()

    def answer() -> Any:
        try:
            given = ours.recv()
        except EOFError:
            raise ChildProcessError(
                "expected a contender's process that goes on, got one that ended; "
                "its error output says why"
            ) from None
        if isinstance(given, Exception):
            raise given
        return given

    def ask(env_steps: int) -> Turn:
        ours.send(env_steps)
        turn = answer()
        assert isinstance(turn, Turn)
        return turn

    try:
        answer()  # that it is ready
        yield ask
    finally:
        ours.close()  # which ends the process's loop
        process.join()


def _serve(pipe: Connection, make: Callable[..., Advance], arguments: tuple[Any, ...]) -> None:
    with ExitStack() as stack:
        try:
            advance = make(*arguments, stack)
            pipe.send(None)
            while True:
                try:
                    env_steps = pipe.recv()
                except EOFError:
                    return
                gc.collect()  # of the turn before
                pipe.send(timed(advance, env_steps))
        except Exception as error:  # it is raised again where it can be told
            pipe.send(error)


def timed(advance: Advance, env_steps: int) -> Turn:
    """Let ``advance`` take its turn in this process."""
    wall_began, cpu_began = perf_counter(), process_time()
    taken = advance(env_steps)
    return Turn(taken, perf_counter() - wall_began, process_time() - cpu_began)
