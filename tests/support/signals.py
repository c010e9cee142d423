"""Signals as a process finds them at its start: those of a terminal, or of nohup and of a script.

A child ignores what its parent ignored; whoever runs the tests under nohup or in the background of
a script would hand that down.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_NUMBERS = (signal.SIGHUP, signal.SIGINT)


@contextmanager
def as_in_a_terminal() -> Iterator[None]:
    """Children that are started here ignore no signal."""
    with _handled(signal.SIG_DFL, signal.default_int_handler):
        yield


@contextmanager
def as_under_nohup() -> Iterator[None]:
    """Children that are started here ignore that the terminal was closed."""
    with _handled(signal.SIG_IGN, signal.default_int_handler):
        yield


@contextmanager
def as_in_the_background_of_a_script() -> Iterator[None]:
    """Children that are started here ignore Ctrl-C, which is for the script."""
    with _handled(signal.SIG_DFL, signal.SIG_IGN):
        yield


@contextmanager
def _handled(*handlers: signal._HANDLER) -> Iterator[None]:
    before = [signal.signal(*each) for each in zip(_NUMBERS, handlers, strict=True)]
    try:
        yield
    finally:
        for number, handler in zip(_NUMBERS, before, strict=True):
            signal.signal(number, handler)
