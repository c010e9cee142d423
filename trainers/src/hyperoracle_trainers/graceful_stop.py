"""A first Ctrl-C asks a run to stop at a good moment; a second one stops it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from hyperoracle_trainers.child_processes import heeded

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ASKED = b"\nStopping after this phase, with a checkpoint. Ctrl-C again stops at once.\n"


class StopRequest:
    """Whether somebody has asked to stop.

    Attributes:
        is_made: set by the first signal.
    """

    def __init__(self) -> None:
        self.is_made = False


@contextmanager
def stop_on_request() -> Iterator[StopRequest]:
    """Let the first SIGINT, SIGTERM or SIGHUP make a request and the second raise.

    A signal that this process was started to ignore, as SIGHUP under ``nohup``, stays ignored.

    Raises:
        KeyboardInterrupt: at the second signal.
    """
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 # a handler's
        if request.is_made:
            raise KeyboardInterrupt
        request.is_made = True
        with suppress(OSError, ValueError):  # a closed terminal
            # Not through Python's buffer, which the signal may have interrupted.
            os.write(sys.stderr.fileno(), _ASKED)

    if threading.current_thread() is not threading.main_thread():  # only there signals arrive
        yield request
        return
    before = {number: signal.signal(number, ask) for number in heeded(_SIGNALS)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
