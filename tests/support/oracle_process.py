"""A real oracle in a process of its own, on a free loopback port.

The process is forked from one that has the imports (`support.mother`), unless a test names a
program, which gets an interpreter of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import mother

TESTS = Path(__file__).parents[1]
START_SECONDS = 60.0
NEW_INTERPRETER = ("-m", "hyperoracle_server")
"""The program where a test is about how a process starts or what it inherits."""


class OracleProcess:
    """Starts, kills and restarts `hyperoracle serve` on one store and one port."""

    def __init__(
        self, folder: Path, port: int = 0, program: Sequence[str] | None = None, **settings: Any
    ) -> None:
        self.folder = folder
        self.store = folder / "oracle.db"
        self._port = port
        self._program = program
        self._settings = settings
        self._process: subprocess.Popen[bytes] | mother.Forked | None = None
        self.url = ""

    def start(self, failpoint: str | None = None) -> OracleProcess:
        """Start it and wait until it listens.

        Args:
            failpoint: where it is to end itself, see `support.failpoints`.
        """
        ready = self.folder / f"ready-{time.monotonic_ns()}.json"
        arguments = ["--store", str(self.store), "--port", str(self._port)]
        arguments += ["--ready-file", str(ready)]
        for name, value in self._settings.items():
            arguments += [f"--{name.replace('_', '-')}"]
            arguments += [] if value is True else [str(value)]
        self._process = self._begun(arguments, {**os.environ, "OMP_NUM_THREADS": "1"}, failpoint)
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start:\n{self.log()}")
            time.sleep(0.01)  # the file system has no event that Python can await portably
        self.url = json.loads(ready.read_text())["url"]
        self._port = int(self.url.rpartition(":")[2])
        return self

    def _begun(
        self, arguments: list[str], env: dict[str, str], failpoint: str | None
    ) -> subprocess.Popen[bytes] | mother.Forked:
        path = self.folder / "server.log"
        program = self._program
        if failpoint is not None:
            program = ("-m", "support.failpoints", failpoint)
            found = [env.get("PYTHONPATH", ""), str(TESTS)]
            env = {**env, "PYTHONPATH": os.pathsep.join(found).strip(os.pathsep)}
        if program is None and mother.IS_THERE:
            return mother.Forked(arguments, path, env)
        with path.open("ab") as log:
            command = [sys.executable, *(program or NEW_INTERPRETER), *arguments]
            return subprocess.Popen(command, stdout=log, stderr=log, env=env)

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def terminate(self, timeout: float = 15) -> int:
        """SIGTERM; returns the exit code."""
        self.ask_to_stop()
        return self.wait(timeout)

    def wait(self, timeout: float = 30) -> int:
        """Wait until it has ended by itself; returns the exit code."""
        assert self._process is not None
        return self._process.wait(timeout)

    def log(self) -> str:
        """What it has written so far."""
        return (self.folder / "server.log").read_text(errors="replace")

    def errors(self) -> list[Any]:
        """What it has logged as an error so far, one of its own among them (`a bug`)."""
        lines = [json.loads(line) for line in self.log().splitlines(keepends=True)
                 if line.startswith("{") and line.endswith("\n")]  # fmt: skip
        return [line for line in lines if line.get("level") == "error"]

    def __enter__(self) -> OracleProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()


def seconds_until_ready_again(process: OracleProcess) -> float:
    """Kill a server; the seconds from its start to a 200 from `/readyz`."""
    process.kill()
    began = time.perf_counter()
    process.start()
    while True:
        try:
            with urllib.request.urlopen(f"{process.url}/readyz", timeout=30) as answer:
                assert answer.status == 200
                return time.perf_counter() - began
        except urllib.error.HTTPError as refused:  # not ready yet, and it says what it lacks
            refused.close()
            assert time.perf_counter() - began < START_SECONDS, "it is not ready"
            time.sleep(0.05)  # readiness is asked for; it does not announce itself
