"""Where a store lies: which file a path names, the files beside it, and how SQLite is told of them.

A store's path is a path, whatever characters it has. SQLite and SQLAlchemy read `?`, `%`, `#`,
`file:` or `//` in a name as parts of a URL where they are let, so names go to them through here
only.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from hyperoracle_server.errors import StoreRefused

PRIVATE = 0o600
"""A store's mode, and that of whatever is made of it: hyper-states and returns are the owner's."""

_SCHEME = re.compile(r"file:|[A-Za-z][A-Za-z0-9+.-]*://")


def store_path(name: str | Path) -> Path:
    """The file that a store's name stands for, absolute, links followed.

    A `~` at its beginning is a home folder, as in a shell. What is no path but looks like one to
    others (`:memory:`, a URL) is refused, not made a file of.

    Args:
        name: as it was given.

    Raises:
        StoreRefused: it names no file.
    """
    text = os.fspath(name)
    if text == ":memory:":
        raise StoreRefused(
            "expected a file as the store, got ':memory:', which would forget what was "
            "acknowledged; name a file, for a trial one in a new temporary folder (./:memory: is "
            "a file of that name)"
        )
    if _SCHEME.match(text):
        raise StoreRefused(
            f"expected the path of a file as the store, got {text!r}: leave out what is before the "
            f"path (./{text} is a file of that name)"
        )
    if not text or text.endswith("/") or "\0" in text:
        raise StoreRefused(f"expected the path of a file as the store, got {text!r}: name a file")
    expanded = os.path.expanduser(text)  # noqa: PTH111 - a Path would forget a `./` before it
    if expanded == text and re.match(r"~(/|$)", text):
        raise StoreRefused(
            f"the store {text} cannot be found, this user has no home folder: give its whole path"
        )
    try:
        # `//x` is `/x`, which a Path would keep apart.
        return Path(re.sub("^//+", "/", expanded)).resolve()
    except (OSError, RuntimeError):
        raise StoreRefused(f"the store {text} is a link that leads to itself: mend it") from None


def files_of(store: Path) -> list[Path]:
    """The files that a store may consist of, the database first."""
    return [store, *(store.with_name(store.name + end) for end in ("-wal", "-shm"))]


def restored_beside(store: Path) -> Path:
    """Where a restored store lies, whole, while the former one moves out of its way."""
    return store.with_name(store.name + ".restored")


def uri(path: Path, how: str) -> str:
    """A path as SQLite reads it from a URI, with how to open it such as `mode=ro`."""
    return f"file://{quote(os.fsencode(path.absolute()))}?{how}"


def read_only(store: Path, *, may_change: bool = True) -> str:
    """A URI by which SQLite reads a store and never changes it.

    Args:
        store: its file.
        may_change: whether another process may write meanwhile; where none does and there is no
            journal, not even the empty files that a reader leaves beside a store are made.
    """
    is_still = not may_change and not files_of(store)[1].exists()
    return uri(store, "immutable=1" if is_still else "mode=ro")


def engine_of(path: Path, **options: Any) -> Engine:
    """An engine for a database by its path.

    A connection is opened per user and closed after it: a journal that a forgotten reader pins
    would grow for ever. What a failed statement was to write stays out of the log: it holds
    hyper-states.

    Args:
        path: of the database.
        options: `sqlite3.connect`'s.
    """
    options.setdefault("check_same_thread", False)
    return create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(path.absolute(), **options),
        poolclass=NullPool,
        hide_parameters=True,
    )


def make_private(path: Path) -> None:
    """Make an empty file that its owner alone can read; SQLite's beside it get the same mode.

    Raises:
        OSError: it is there, or cannot be made.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, PRIVATE))


def sync_folder(folder: Path) -> None:
    """Bring the names of a folder's files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give_to_owner(path: Path, like: Path) -> None:
    """Where root works, a file of a store belongs to whom the server runs as, as SQLite's own do.

    Args:
        path: the file.
        like: whose owner it gets.
    """
    if os.geteuid() == 0:
        owner = like.stat()
        with contextlib.suppress(PermissionError):  # root of a container, or over a network
            os.chown(path, owner.st_uid, owner.st_gid)
