"""A real oracle in a process of its own, on a free loopback port."""

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

START_SECONDS = 60.0
PROGRAM = ("-m", "hyperoracle_server")


class OracleProcess:
    """Starts, kills and restarts `hyperoracle serve` on one store and one port."""

    def __init__(
        self, folder: Path, port: int = 0, program: Sequence[str] = PROGRAM, **settings: Any
    ) -> None:
        self.folder = folder
        self.store = folder / "oracle.db"
        self._port = port
        self._program = program
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> OracleProcess:
        """Start it and wait until it listens."""
        ready = self.folder / f"ready-{time.monotonic_ns()}.json"
        command = [sys.executable, *self._program, "--store", str(self.store)]
        command += ["--port", str(self._port), "--ready-file", str(ready)]
        for name, value in self._settings.items():
            command += [f"--{name.replace('_', '-')}"]
            command += [] if value is True else [str(value)]
        log = (self.folder / "server.log").open("ab")
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        log.close()
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start:\n{self.log()}")
            time.sleep(0.01)  # the file system has no event that Python can await portably
        self.url = json.loads(ready.read_text())["url"]
        self._port = int(self.url.rpartition(":")[2])
        return self

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
