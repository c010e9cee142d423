"""What benchmarks measure against: an oracle in a process of its own, and a bare echo beside it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 60.0

_ECHO = """
import asyncio, socket, sys, uvicorn
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    head = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listener.bind(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
uvicorn.Server(config).run(sockets=[listener])
"""


class Unmeasurable(Exception):
    """A benchmark cannot be run here; the message says what is missing."""


class ServedOracle:
    """`hyperoracle serve` on a store in a folder; starts when it is entered.

    Args:
        folder: of its store and its log.
        settings: of `serve`, by their names in Python.

    Attributes:
        url: where it listens, once it is started.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.url = ""
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> ServedOracle:
        """Start it, and wait until it listens.

        Raises:
            Unmeasurable: it does not start.
        """
        ready = self.folder / f"ready-{time.monotonic_ns()}.json"
        arguments = ["--store", str(self.folder / "oracle.db"), "--port", "0"]
        arguments += ["--ready-file", str(ready), "--log-level", "warning"]
        for name, value in self._settings.items():
            arguments += [f"--{name.replace('_', '-')}", str(value)]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "hyperoracle_server", *arguments],
                stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "server.log").read_text(errors="replace").strip()
                raise Unmeasurable(f"the oracle did not start: {said.splitlines()[-1:]}")
            time.sleep(0.01)  # a file has no event that Python can await portably
        self.url = json.loads(ready.read_text())["url"]
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far, its children's not; NaN where nobody tells."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return float("nan")
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_megabytes(self) -> float:
        """Memory that it occupies now; NaN where nobody tells."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return float("nan")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024 / 1e6

    def __enter__(self) -> ServedOracle:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def bare_echo() -> Iterator[Callable[[bytes], bytes]]:
    """A bare ASGI application in a process of its own that answers with what it gets.

    Yields:
        A call of it by the standard library's client, on one connection.
    """
    command = [sys.executable, "-c", _ECHO]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:

                def call(body: bytes) -> bytes:
                    connection.request("POST", "/", body)
                    return connection.getresponse().read()

                yield call
        finally:
            process.kill()
