"""Child processes that never outlive their parent's work, and stopping gracefully.

Failures of a child can be read. A first Ctrl-C asks a run to stop at a good moment; a second one
stops it at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Self

_SHOWN_LINES = 12
_TERMINATING = (signal.SIGTERM, signal.SIGHUP)


class ChildFailed(Exception):
    """A child process ended with an error; the message ends with its last lines."""


class Child:
    """A child process with its output in a file, in a session of its own.

    A Ctrl-C in the terminal therefore reaches only the parent, which stops its children in the
    order that suits it.

    Args:
        name: for people.
        command: program and arguments.
        output: file for all that it prints.
        environment: variables set beside those of this process; None removes one.

    Attributes:
        name: as given.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        output: Path,
        environment: Mapping[str, str | None],
    ) -> None:
        merged = {**os.environ, **environment}
        self.name = name
        self._output = output
        with output.open("wb") as file:
            self._process = subprocess.Popen(  # noqa: S603 # our own commands, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={key: value for key, value in merged.items() if value is not None},
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def wait(self, seconds: float) -> bool:
        """Wait so long for its end; whether it has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def check(self) -> None:
        """Do nothing if it runs or ended well.

        Raises:
            ChildFailed: it ended with an error.
        """
        code = self._process.poll()
        if code:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            raise self.failure(f"ended {how}")

    def failure(self, what: str) -> ChildFailed:
        """Return the error that says what happened and shows the last lines of the output."""
        lines = self._output.read_text(encoding="utf-8", errors="replace").splitlines()
        shown = "\n".join(f"  {line}" for line in lines[-_SHOWN_LINES:])
        return ChildFailed(
            f"{self.name} {what}; the end of {self._output}:\n{shown or '  (nothing)'}"
        )

    def ask_to_stop(self) -> None:
        """Send it SIGTERM if it runs."""
        if self.is_running:
            self._process.terminate()

    def kill(self) -> None:
        """End it, and all that it started, at once."""
        if self.is_running:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Children:
    """Starts child processes and stops those that still run when the ``with`` block is left.

    Args:
        grace_seconds: how long they may take to stop, all together, before they are killed.
    """

    def __init__(self, grace_seconds: float = 15.0) -> None:
        self._grace_seconds = grace_seconds
        self._children: list[Child] = []

    def start(
        self,
        name: str,
        command: Sequence[str],
        output: Path,
        environment: Mapping[str, str | None],
    ) -> Child:
        """Start a child; the arguments are those of `Child`."""
        child = Child(name, command, output, environment)
        self._children.append(child)
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Ask all to stop, wait a while, and kill those that do not."""
        try:
            for child in self._children:
                child.ask_to_stop()
            deadline = monotonic() + self._grace_seconds
            for child in self._children:
                child.wait(max(0.0, deadline - monotonic()))
        finally:
            for child in self._children:
                child.kill()


def heeded(numbers: Sequence[signal.Signals]) -> list[signal.Signals]:
    """Return the signals that this process does not ignore.

    What a process was started to ignore is not for it: ``nohup`` means that a closed terminal ends
    nothing, a shell's ``&`` that a Ctrl-C is for others.
    """
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt, so that what was begun is put in order.

    One that this process was started to ignore, as SIGHUP under ``nohup``, stays ignored.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 # a handler's
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only there signals arrive
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in heeded(_TERMINATING)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
