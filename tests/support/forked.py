"""Forked children of the test's own process."""

from __future__ import annotations

import os
import pickle
import select
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def fork() -> int:
    with warnings.catch_warnings():  # of Python 3.12: that there are other threads, which is meant
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def in_a_forked_child(act: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `act` returns in a forked child, which ends at once after it.

    Fails where it raises there, or hangs.
    """
    reading, writing = os.pipe()
    child = fork()
    if child == 0:
        try:
            answer = act()
        except BaseException as error:  # told to the test, whatever it is
            answer = error
        os.write(writing, pickle.dumps(answer))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        ready, _, _ = select.select([answers], [], [], seconds)
        if not ready:
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert ready, "the child hangs"
        answer = pickle.loads(answers.read())
    if isinstance(answer, BaseException):
        raise answer
    return answer


@contextmanager
def a_forked_child() -> Iterator[int]:
    """A child that does nothing, and lives until the block's end.

    When the block begins, it has let go of what is its parent's alone (`os.register_at_fork`).
    """
    reading, writing = os.pipe()
    child = fork()
    if child == 0:
        os.write(writing, b".")
        signal.pause()
        os._exit(0)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as begun:
            assert begun.read(1) == b"."
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
