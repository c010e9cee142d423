"""A line that says how far a command is: of both sides, neither of which imports the other."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SECONDS = 0.2
"""Between two looks; what is done sooner shows nothing."""

_CLEARED = "\r\x1b[K"
"""Back to the line's beginning, and nothing right of it."""


@contextmanager
def progress(what: str, so_far: Callable[[], int], *, quiet: bool = False) -> Iterator[None]:
    """Show on stderr how many bytes a block has moved, and for how long, until it ends.

    Only on a terminal; the line is gone at the end.

    Args:
        what: is done.
        so_far: bytes moved; called by another thread, now and then.
        quiet: show nothing, as for a script that wants JSON.
    """
    stream = sys.stderr
    if quiet or stream is None or not stream.isatty():
        yield
        return
    done = threading.Event()
    began = time.monotonic()

    def show() -> None:
        while not done.wait(_SECONDS):
            text = f"{what}: {so_far() / 1e6:.1f} MB, {time.monotonic() - began:.0f} s"
            # A longer line would wrap, and could not be cleared.
            stream.write(_CLEARED + text[: shutil.get_terminal_size().columns - 1])
            stream.flush()

    thread = threading.Thread(target=show, name="hyperoracle-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        stream.write(_CLEARED)
        stream.flush()


def size_of(*files: Path) -> int:
    """Return the bytes of the files that are there already, for `progress`."""
    found = 0
    for file in files:
        try:
            found += file.stat().st_size
        except OSError:  # not yet, or no longer
            continue
    return found
