"""Folders for the files of a call that takes or restores a snapshot, gone once it is answered.

They lie beside the store and are made by whoever has its lock. So whoever has just taken that lock
knows that what lies there was left by a process that died.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hyperoracle_server.errors import StoreUnavailable

log = logging.getLogger(__name__)

_RANDOM = "[a-z0-9_]{8}"  # what `tempfile` ends a name with


@contextmanager
def folder_beside(store: Path) -> Iterator[Path]:
    """A new folder for files under way; the caller has the store's lock.

    Raises:
        StoreUnavailable: files cannot be written there.
    """
    try:
        with TemporaryDirectory(prefix=_prefix(store), dir=store.parent) as folder:
            yield Path(folder)
    except OSError as error:
        log.exception("a snapshot's files cannot be written beside the store %s", store)
        raise StoreUnavailable(error.strerror or str(error)) from error


def clear_leftovers(store: Path) -> int:
    """Remove the folders that a process left when it died; the caller has the store's lock.

    Returns:
        How many there were. What cannot be removed is left, and logged.
    """
    pattern = re.compile(re.escape(_prefix(store)) + _RANDOM)
    cleared = 0
    try:
        for folder in sorted(store.parent.iterdir()):
            if pattern.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)
                cleared += 1
    except OSError as error:
        log.warning("what a snapshot left beside the store cannot be removed: %s", error)
    return cleared


def _prefix(store: Path) -> str:
    return f".{store.name}.snapshot-under-way-"
