"""Clients that send a request drop by drop and never finish it, in a process of their own.

In the caller's process they would compete with what it measures for the interpreter.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROPOSE = (
    b"POST /v1/jobs/job-none/propose HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
)
KINDS = {
    "head": (PROPOSE, b"x"),
    "body": (PROPOSE + b"content-length: 100000\r\n\r\n", b" "),
    "chunks": (PROPOSE + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "json body": (PROPOSE.replace(b"propose", b"finish") + b"content-length: 9999\r\n\r\n", b" "),
    "empty lines": (b"\r\n", b"\r\n"),
}
"""What each kind sends at first, and again and again."""


class SlowClients:
    """So many clients that come at `come` and leave at `leave`; who is shut out comes again.

    They come within `spread_seconds`, not all at the same instant.
    """

    def __init__(
        self, url: str, count: int, drop_seconds: float = 0.5, spread_seconds: float = 1.0
    ) -> None:
        command = [sys.executable, "-m", "support.slow_clients", url]
        command += [str(count), str(drop_seconds), str(spread_seconds)]
        path = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        )  # fmt: skip

    def come(self) -> None:
        """Returns once all have sent their first bytes."""
        assert self._told("come") == "here"

    def leave(self) -> dict[str, dict[str, int]]:
        """All go; how often each kind was ended by which status (0: without an answer)."""
        return self._told("leave")

    def _told(self, what: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


async def _be_slow(
    address: tuple[str, int], kind: str, drop_seconds: float, wait_seconds: float,
    here: asyncio.Event, ended: dict[str, int],
) -> None:  # fmt: skip
    first, drop = KINDS[kind]
    await asyncio.sleep(wait_seconds)
    while True:
        try:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(first)
            here.set()
            while True:
                writer.write(drop)
                try:
                    # Not `wait_for`, which may swallow in Python 3.11 that the task is cancelled.
                    async with asyncio.timeout(drop_seconds):
                        answer = await reader.readline()
                except TimeoutError:
                    continue
                break
            status = answer.split()[1].decode() if answer else "0"
            writer.close()
        except OSError:
            status = "0"
        ended[status] = ended.get(status, 0) + 1
        await asyncio.sleep(drop_seconds)


async def _serve(url: str, count: int, drop_seconds: float, spread_seconds: float) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []
    ended: dict[str, dict[str, int]] = {}
    while what := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        if what == "come":
            kinds = [list(KINDS)[i % len(KINDS)] for i in range(count)]
            ended = {kind: {} for kind in KINDS}
            here = [asyncio.Event() for _ in kinds]
            tasks = [
                asyncio.create_task(
                    _be_slow((host, int(port)), kind, drop_seconds, i / count * spread_seconds,
                             event, ended[kind])
                )
                for i, (kind, event) in enumerate(zip(kinds, here, strict=True))
            ]  # fmt: skip
            await asyncio.gather(*(event.wait() for event in here))
            print(json.dumps("here"), flush=True)
        else:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:])))
