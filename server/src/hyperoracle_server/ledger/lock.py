"""Who may have a store open: one process, by whatever name it calls the file.

Two locks hold that. One lies on a file beside the store, `oracle.db.lock`: it is there before the
store is, stays while a restore changes files, and tells who has it. The other lies on the store's
file itself (`flock`), so that a hard link or a bind mount of it is the same store. SQLite's own
locks (`fcntl`) are apart from `flock`; but closing any descriptor of a file drops all `fcntl` locks
that the process has on it. So a file that this process has open already is known by its device and
inode, and is not opened a second time.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hyperoracle_server.errors import StoreRefused
from hyperoracle_server.ledger.files import PRIVATE, files_of, give_to_owner

_Identity = tuple[int, int]

_open_here: set[_Identity] = set()
_guard = threading.Lock()


class StoreLock:
    """Holds a store for this process from its making to `close`.

    Args:
        store: the file, links followed; need not be there yet.
        remedy: what to do where another process has it.

    Raises:
        StoreRefused: a process has it open, or it cannot be a file.
    """

    def __init__(self, store: Path, remedy: str = "") -> None:
        self._store = store
        self._remedy = remedy or (
            f"share it by `hyperoracle serve --store {shlex.quote(str(store))}` and point every "
            "job at that server"
        )
        self._identity: _Identity | None = None
        self._file: int | None = None
        self._beside = self._lock_beside()
        try:
            if store.exists():
                self.take_file()
        except BaseException:
            self.close()
            raise

    def _lock_beside(self) -> int:
        if self._store.is_dir():
            raise StoreRefused(f"expected a file as the store, got the directory {self._store}")
        path = self._store.with_name(self._store.name + ".lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE)
        except OSError as error:
            raise StoreRefused(
                f"the store {self._store} cannot be opened: {error.strerror}"
            ) from None
        try:
            fcntl.flock(beside, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(beside, 32).decode(errors="replace").strip() or "unknown"
            os.close(beside)
            raise StoreRefused(
                f"the store {self._store} is open in another process (pid {owner}): {self._remedy}"
            ) from None
        try:
            give_to_owner(path, self._store if self._store.exists() else self._store.parent)
            _write_owner(beside)
        except OSError as error:
            os.close(beside)
            raise StoreRefused(
                f"the store {self._store} cannot be opened: {error.strerror}"
            ) from None
        return beside

    def take_file(self) -> None:
        """Lock the store's file itself, which is there by now.

        Raises:
            StoreRefused: a process has it open by another name, or it cannot be read.
        """
        found = self._store.stat()
        identity = found.st_dev, found.st_ino
        with _guard:
            if identity in _open_here:
                raise self._is_open_by_another_name()
            try:
                self._file = os.open(self._store, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise StoreRefused(
                    f"the store {self._store} cannot be opened: {error.strerror}"
                ) from None
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._file)  # nothing of this process has it open
                self._file = None
                raise self._is_open_by_another_name() from None
            self._identity = identity
            _open_here.add(identity)

    def _is_open_by_another_name(self) -> StoreRefused:
        return StoreRefused(
            f"the store {self._store} is open in another process, by another name of the same file "
            f"(a link or a mount): {self._remedy}"
        )

    def check_writable(self) -> None:
        """Write to the file system that the store is on, and sync; the store stays as it is.

        Raises:
            OSError: it cannot be written.
        """
        _write_owner(self._beside)

    def leave_to_owner(self) -> None:
        """In a forked child of the process that holds it: let it be that process's alone.

        The locks belong to both, and a child that lives on would keep the store from being opened
        after its owner has ended.
        """
        with Path(os.devnull).open("rb") as nothing:
            for descriptor in (self._file, self._beside):
                if descriptor is not None and descriptor >= 0:
                    os.dup2(nothing.fileno(), descriptor)
        if self._identity is not None:
            _open_here.discard(self._identity)

    def close(self) -> None:
        """Let go of it; SQLite has closed it by now."""
        with _guard:
            if self._file is not None:
                os.close(self._file)
                self._file = None
            if self._identity is not None:
                _open_here.discard(self._identity)
                self._identity = None
        if self._beside >= 0:
            os.close(self._beside)
            self._beside = -1


def is_open_here(path: Path) -> bool:
    """Whether this process has a store open that is this file; it must not be opened beside it."""
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) in _open_here


def check_own_name(store: Path) -> None:
    """Refuse to read a store by a name beside which its journal does not lie.

    What the server wrote last is in the journal beside the name that it uses; by another name of
    the same file (a hard link, a mount of the file alone) that would be missing.

    Args:
        store: the file, links followed, not open in this process.

    Raises:
        StoreRefused: a process has it open by another name, or its journal lies beside another.
    """
    if is_open_here(store) or not store.is_file():
        return
    if not files_of(store)[1].exists() and _is_locked(store):
        raise StoreRefused(
            f"{store} is open in a process by another name of the same file: give the name that "
            "this process was given"
        )
    check_journal(store)


def check_journal(store: Path) -> None:
    """Refuse a store whose journal lies beside another of its names in the same folder.

    Raises:
        StoreRefused: it does.
    """
    found = store.stat()
    if found.st_nlink < 2 or files_of(store)[1].exists():
        return
    for other in store.parent.iterdir():
        if other == store or not other.is_file() or other.is_symlink():
            continue
        if other.stat()[1:3] == found[1:3]:  # inode and device
            wal = files_of(other)[1]
            if wal.exists() and wal.stat().st_size:
                raise StoreRefused(
                    f"{store} is the same file as {other}, beside which its newest changes lie "
                    f"({wal.name}): give that name"
                )


def _is_locked(store: Path) -> bool:
    try:
        descriptor = os.open(store, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # whoever opens it next says why
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def locked(store: Path) -> Iterator[StoreLock]:
    """Hold the lock of a store that is not to be opened now.

    Raises:
        StoreRefused: a process has it open, or it cannot be a file.
    """
    lock = StoreLock(store, "stop it first, or restore to another file")
    try:
        yield lock
    finally:
        lock.close()


def _write_owner(descriptor: int) -> None:
    # Past a file object's buffer, which would keep what a full disk does not take.
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    os.fsync(descriptor)
