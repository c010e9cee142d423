"""`python held_oracle.py ...` serves like `python -m hyperoracle_server ...`.

Its disk can stand still: a `HeldDisk` says when.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path
from typing import Any

from hyperoracle_server.ledger import writer

FALLS_FREE_SECONDS = 25.0
"""A test that forgot it, or failed, leaves no process behind for ever."""


class HeldDisk:
    """The disk of an oracle's store, as its test sees it: two files beside the store.

    While `.hold` is there no transaction is committed; what is to be durable is a line of
    `.queued` each from the moment at which it waits.
    """

    def __init__(self, store: Path) -> None:
        self._hold = store.with_name(store.name + ".hold")
        self._queued = store.with_name(store.name + ".queued")

    def hold(self) -> None:
        """From the next transaction on the disk stands still."""
        self._hold.touch()

    def let_go(self) -> None:
        """It goes on."""
        self._hold.unlink()

    def queued(self) -> int:
        """How many changes that must be durable were handed to the writer since the start."""
        return self._queued.read_text().count("\n") if self._queued.exists() else 0

    def wait(self) -> None:
        """In the server: return once it is not held."""
        deadline = time.monotonic() + FALLS_FREE_SECONDS
        while self._hold.exists() and time.monotonic() < deadline:
            time.sleep(0.005)  # the file system has no event that Python can await portably

    def note(self) -> None:
        """In the server: something that must be durable is queued."""
        with self._queued.open("a") as file:
            file.write("queued\n")


def serve_on(disk: HeldDisk) -> None:
    """Let this process's writers use a disk."""
    write_batch, put = writer.write_batch, writer.Writer._put

    def held(*arguments: Any, **options: Any) -> list[Any]:
        disk.wait()
        return write_batch(*arguments, **options)

    def noted(self: writer.Writer, submission: Any) -> None:
        put(self, submission)
        if submission.future is not None:
            disk.note()

    writer.write_batch = held
    writer.Writer._put = noted  # type: ignore[method-assign] # in this process alone


if __name__ == "__main__":
    serve_on(HeldDisk(Path(sys.argv[sys.argv.index("--store") + 1])))
    runpy.run_module("hyperoracle_server", run_name="__main__")
