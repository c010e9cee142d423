"""Room that is kept for deleting: a file beside the store, given up when the disk is full.

SQLite needs room to delete, too: it writes the changed pages to its journal first. Where a disk is
full, what would make room could not be done.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from hyperoracle_server.ledger.files import PRIVATE
from hyperoracle_server.telemetry.logs import about

log = logging.getLogger(__name__)

RESERVE_BYTES = 8 << 20
"""Twice what the journal grows to before its pages go to the store, and what a deletion writes at a
time."""


class Reserve:
    """The file that keeps room. Who uses it has the store's lock.

    Args:
        store: beside which it lies.
    """

    def __init__(self, store: Path) -> None:
        self._path = store.with_name(store.name + ".reserve")

    def fill(self) -> None:
        """Keep room, unless it is kept already or there is too little; never an error."""
        if self._path.exists():
            return
        try:
            if shutil.disk_usage(self._path.parent).free < 4 * RESERVE_BYTES:
                return
            descriptor = os.open(
                self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, PRIVATE
            )
        except OSError:
            return
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        except OSError:
            self._path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def give_up(self) -> bool:
        """Give the room back to the disk; whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        log.warning("the disk is full: the room kept for deleting is given up", extra=about())
        return True

    def close(self) -> None:
        """Keep none while no process has the store open."""
        self._path.unlink(missing_ok=True)
