"""The folder that a demo leaves behind; what an earlier demo left there is moved aside."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path

FIGURES = "demo.json"
PLOT = "schedule.png"
SCHEDULE = "schedule.csv"
STORE = "oracle.db"
READY = "server.json"
SERVER_OUTPUT = "server.log"
SPOOL = "spool"
_EARLIER = "earlier-demos"
_MADE_HERE = (FIGURES, PLOT, SCHEDULE, f"{STORE}*", READY, SERVER_OUTPUT, SPOOL, "job-*", "alone-*")


class FolderInUse(Exception):
    """The folder cannot be used; the message is one line with the remedy."""


def prepare(folder: Path) -> Path | None:
    """Make the folder; move what an earlier demo left there into a folder inside it.

    Nothing is deleted, and files that the demo does not make stay where they are.

    Args:
        folder: may exist.

    Returns:
        Where the earlier demo is now; None if there was none.

    Raises:
        FolderInUse: a server still has the earlier demo's store open.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted({path for pattern in _MADE_HERE for path in folder.glob(pattern)})
    if not found:
        return None
    _check_nobody_has_open(folder / STORE)
    aside = _unused(folder / _EARLIER / time.strftime("%Y%m%d-%H%M%S"))
    aside.mkdir(parents=True)
    for path in found:
        path.rename(aside / path.name)
    return aside


def _unused(path: Path) -> Path:
    """Return ``path``, with a number if it exists."""
    candidate, count = path, 1
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.name}-{count}")
    return candidate


def _check_nobody_has_open(store: Path) -> None:
    """Try the lock that a server holds beside its store."""
    lock = store.with_name(f"{store.name}.lock")
    if not lock.exists():
        return
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = file.read().strip() or "unknown"
            raise FolderInUse(
                f"expected that nobody uses {store}, got process {owner}, which has it open; stop "
                "it or choose another --folder"
            ) from None
