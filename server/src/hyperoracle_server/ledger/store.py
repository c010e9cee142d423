"""The durable store: one SQLite file, one writing connection, many readers."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from hyperoracle_server.errors import StoreRefused
from hyperoracle_server.ledger.writer import Writer
from hyperoracle_server.observer import Observer

log = logging.getLogger(__name__)

HEAD = "0005"
"""The schema revision that this program reads and writes."""

_MIGRATIONS = Path(__file__).with_name("migrations")


class Ledger:
    """An open store. `writer` changes it, `reading()` looks at it.

    Exactly one process may have a store open; a file lock beside it holds that.

    Args:
        path: of the file.
        observer: is told how long durable commits take.

    Raises:
        StoreRefused: the path cannot be a store: another process has it, it is a directory, it is
            not a SQLite database, or it was written by a newer release.
    """

    def __init__(self, path: str | Path, observer: Observer | None = None) -> None:
        self.path = Path(path).absolute()
        self._lock_file = _lock(self.path)
        try:
            self._engine = _engine(self.path)
            _migrate(self._engine, self.path)
            self.writer = Writer(self._engine, observer)
        except BaseException:
            self._lock_file.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for reading; it sees what was committed when its first query ran."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA query_only=ON")
            yield connection

    def size_bytes(self) -> int:
        """The size of the store's files together.

        Raises:
            OSError: it cannot be told now.
        """
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def free_bytes(self) -> int:
        """Free space on the file system that the store is on.

        Raises:
            OSError: it cannot be told now.
        """
        return shutil.disk_usage(self.path.parent).free

    def check_writable(self) -> None:
        """Write to the file system that the store is on, and sync; the store stays as it is.

        Raises:
            OSError: it cannot be written.
        """
        _write_owner(self._lock_file)

    def close(self) -> None:
        """Write what is queued and let go of the file."""
        self.writer.close()
        self._engine.dispose()
        self._lock_file.close()


def _lock(path: Path) -> Any:
    if path.is_dir():
        raise StoreRefused(f"expected a file as the store, got the directory {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock_file = path.with_name(path.name + ".lock").open("a+")
    except OSError as error:
        raise StoreRefused(f"the store {path} cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock_file.seek(0)
        owner = lock_file.read().strip() or "unknown"
        lock_file.close()
        raise StoreRefused(
            f"the store {path} is open in another process (pid {owner}): share it by "
            f"`hyperoracle serve --store {path}` and point every job at that server"
        ) from None
    _write_owner(lock_file)
    return lock_file


def _write_owner(lock_file: Any) -> None:
    # Past the file object's buffer, which would keep what a full disk does not take.
    number = lock_file.fileno()
    os.ftruncate(number, 0)
    os.write(number, str(os.getpid()).encode())
    os.fsync(number)


def _engine(path: Path) -> Engine:
    # A connection is opened per reader and closed after it: a WAL that a forgotten reader pins
    # would grow for ever.
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's BEGIN below is the only one
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA busy_timeout=5000")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _migrate(engine: Engine, path: Path) -> None:
    try:
        with engine.connect() as connection:
            revision = _revision(connection)
    except DatabaseError as error:
        raise StoreRefused(
            f"{path} is not a HyperOracle store ({error.orig!s}): "
            "restore it from a backup, or choose another file"
        ) from None
    if revision == HEAD:
        return
    if revision is not None and revision > HEAD:
        raise StoreRefused(
            f"the store {path} has schema {revision}, this program knows up to {HEAD}: "
            "upgrade hyperoracle-server"
        )
    upgrade(engine, HEAD)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])


def upgrade(engine: Engine, revision: str) -> None:
    """Bring a store's schema to a revision (Alembic)."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
