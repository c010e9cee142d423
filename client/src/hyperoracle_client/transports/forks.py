"""What a forked child does with its parent's jobs and oracle: nothing.

A child that `os.fork` or `multiprocessing` makes has copies of them, but none of their threads, and
locks that whoever held them at the fork will never let go of. Everything that must not be used from
two processes registers here; in each child it is then told, before any other code runs there, that
it belongs to the parent. From then on it answers at once, without a lock, a thread, a file or a
connection of its former life.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any, Protocol

logger = logging.getLogger("hyperoracle_client")


class Heirloom(Protocol):
    """Something that stays with the process that made it."""

    def leave_to(self, owner: int) -> None:
        """In a forked child: it is the process `owner`'s; touch nothing of it any more."""
        ...


_made_here: weakref.WeakSet[Any] = weakref.WeakSet()
_process = os.getpid()


def stays_with_this_process(thing: Heirloom) -> None:
    """Let forked children leave a thing alone."""
    _made_here.add(thing)


def never_let_go(thing: object) -> None:
    """Keep a thing, and all that it holds, from ever being freed in this process.

    To free a database connection, an event loop or a running thread's pool in a forked child would
    act on what the parent still uses, or wait for a lock that nobody holds there.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def call_at_exit(close: Callable[[], None]) -> None:
    """Call `close` when this process ends in order, also one that `multiprocessing` made."""
    atexit.unregister(close)
    atexit.register(close)
    multiprocessing = sys.modules.get("multiprocessing.util")
    if multiprocessing is not None and _is_a_multiprocessing_child():
        # Such a process ends without what `atexit` was given.
        multiprocessing.Finalize(None, close, exitpriority=100)


def _is_a_multiprocessing_child() -> bool:
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def _leave_all() -> None:
    global _process
    owner, _process = _process, os.getpid()
    for thing in list(_made_here):
        try:
            thing.leave_to(owner)
        except Exception:  # a bug of ours must not keep the child from leaving the others
            logger.exception("a forked process could not leave %s alone", type(thing).__name__)
    _made_here.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_leave_all)
