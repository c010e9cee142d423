"""Servers that are there at once: one process imports the program and forks a server when told.

`kill -9` of such a server is that of any other; what it saves are two seconds of imports a life.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from hyperoracle_server.commands import serve
from support.waiting import wait_until

TESTS = Path(__file__).resolve().parents[1]


class ForkedOracle:
    """Starts, kills and restarts servers on one store and one port."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "oracle.db"
        self.url = ""
        self._folder = folder
        self._port = "0"
        self._pid: int | None = None
        with (folder / "server.log").open("ab") as log:
            self._mother = subprocess.Popen(
                [sys.executable, __file__], cwd=TESTS, text=True, stderr=log,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
            )  # fmt: skip

    def start(self) -> None:
        """Start a server and wait until it listens."""
        ready = self._folder / f"ready-{time.monotonic_ns()}.json"
        self._pid = self._told("start", "--store", str(self.store), "--port", self._port,
                               "--ready-file", str(ready))  # fmt: skip
        wait_until("the server listens", ready.exists, 120)
        self.url = json.loads(ready.read_text())["url"]
        self._port = self.url.rpartition(":")[2]

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._pid is not None:
            self._told("kill", str(self._pid))
            self._pid = None

    def _told(self, *words: str) -> int:
        assert self._mother.stdin is not None
        assert self._mother.stdout is not None
        self._mother.stdin.write(json.dumps(words) + "\n")
        self._mother.stdin.flush()
        answer: int = json.loads(self._mother.stdout.readline())
        return answer

    def __enter__(self) -> ForkedOracle:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self._mother.stdin is not None
        assert self._mother.stdout is not None
        self._mother.stdin.close()
        self._mother.wait(30)
        self._mother.stdout.close()


def _serve(words: list[str]) -> None:
    """In the child: serve until told to stop; nothing of the mother's goes on here."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        parser = argparse.ArgumentParser()
        serve.register(parser.add_subparsers())
        arguments = parser.parse_args(["serve", *words])
        code = arguments.run(arguments)
    finally:
        os._exit(code)


def _main() -> None:
    for line in sys.stdin:
        what, *words = json.loads(line)
        if what == "start":
            answer = os.fork()
            if answer == 0:
                _serve(words)
        else:
            os.kill(int(words[0]), signal.SIGKILL)
            answer = os.waitpid(int(words[0]), 0)[1]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _main()
