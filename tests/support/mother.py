"""A process that has imported the server and forks one when told: what it saves is the imports.

A server that was forked is a process like any other: it runs `python -m hyperoracle_server` with
arguments, environment, signals and output of its own, and is killed by what kills others.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

IS_THERE = hasattr(os, "pidfd_open")
"""Whether this system tells a process of the end of one that is not its child."""

_HANDED_DOWN = (signal.SIGHUP, signal.SIGINT)


class Forked:
    """A server, with those methods of a `Popen` that are needed here."""

    def __init__(self, arguments: Sequence[str], log: Path, env: dict[str, str]) -> None:
        self._returncode: int | None = None
        ignored = [n for n in _HANDED_DOWN if signal.getsignal(n) is signal.SIG_IGN]
        self.pid: int = _mother().ask(
            "start", [*arguments], str(log), env, str(Path.cwd()), ignored
        )
        self._end = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        if self._returncode is None and select.select([self._end], [], [], 0)[0]:
            self.wait()
        return self._returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; returns its exit code, that of a signal is negative.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        if self._returncode is None:
            if not select.select([self._end], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked server", timeout or 0.0)
            self._returncode = _mother().ask("reap", self.pid)
            os.close(self._end)
        return self._returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _Mother:
    def __init__(self) -> None:
        path = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__], text=True, env=env,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def ask(self, *words: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


@functools.cache
def _mother() -> _Mother:
    """This process's, made when it is first needed."""
    mother = _Mother()
    atexit.register(mother.close)
    return mother


def _become_server(
    arguments: list[str], log: str, env: dict[str, str], folder: str, ignored: list[int]
) -> None:
    """In the child: what a new interpreter would find, and then the program."""
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in ((0, nothing), (1, output), (2, output)):
        os.dup2(descriptor, number)
    os.close(output)
    os.close(nothing)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(folder)
    by_default = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    for each, handler in by_default.items():
        signal.signal(each, signal.SIG_IGN if each in ignored else handler)
    sys.argv = ["hyperoracle_server", *arguments]
    runpy.run_module("hyperoracle_server", run_name="__main__", alter_sys=True)


def _main() -> None:
    # What a server has imported by the time that it listens on a new store.

    for number in _HANDED_DOWN:  # Ctrl-C is for the tests; the end of their pipe is for this one
        signal.signal(number, signal.SIG_IGN)
    for line in sys.stdin:
        what, *words = json.loads(line)
        answer = os.fork() if what == "start" else _reaped(words[0])
        if what == "start" and answer == 0:
            _become_server(*words)
            return
        print(json.dumps(answer), flush=True)


def _reaped(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    _main()
