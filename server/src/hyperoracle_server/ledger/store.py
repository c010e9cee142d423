"""The durable store: one SQLite file, one writing connection, many readers."""

from __future__ import annotations

import logging
import shlex
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DatabaseError

from hyperoracle_server.errors import StoreRefused, StoreUnavailable
from hyperoracle_server.ledger.deletion import Reserve
from hyperoracle_server.ledger.files import (
    engine_of,
    files_of,
    make_private,
    read_only,
    restored_beside,
    store_path,
    sync_folder,
)
from hyperoracle_server.ledger.lock import StoreLock, check_journal
from hyperoracle_server.ledger.numbers import are_too_high, number_anew
from hyperoracle_server.ledger.writer import Writer
from hyperoracle_server.telemetry.failpoints import failpoint
from hyperoracle_server.telemetry.logs import about
from hyperoracle_server.telemetry.observer import Observer

log = logging.getLogger(__name__)

HEAD = "0008"
"""The schema revision that this program reads and writes."""

_CONNECTING_SECONDS = 30.0

_MIGRATIONS = Path(__file__).with_name("migrations")


class Ledger:
    """An open store. `writer` changes it, `reading()` looks at it.

    Exactly one process may have a store open, see `ledger.lock`.

    Args:
        path: the file; made if there is none.
        observer: is told how long durable commits take.
        check: read the whole file first and refuse a damaged one.

    Raises:
        StoreRefused: the path cannot be a store: another process has it, it is a directory, it is
            empty, damaged, another program's, or was written by a newer release. It was not
            changed.
    """

    def __init__(
        self, path: str | Path, observer: Observer | None = None, *, check: bool = True
    ) -> None:
        self.path = store_path(path)
        self._lock = StoreLock(self.path)
        try:
            _check_files(self.path)
            if not self.path.exists():
                _create(self.path)
                self._lock.take_file()
            check_journal(self.path)
            revision = _check_content(self.path, check=check)
            self._engine = _engine(self.path)
            _migrate(self._engine, self.path, revision)
            _mend_numbers(self._engine, self.path)
            self.writer = Writer(self._engine, observer)
            # From here on others see by the journal by which name this process has the store.
            self.writer.is_connected.wait(_CONNECTING_SECONDS)
            self.reserve = Reserve(self.path)
            self.reserve.fill()
        except BaseException:
            self._lock.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for reading; it sees what was committed when its first query ran.

        Raises:
            StoreUnavailable: the file cannot be read, whatever the reason.
        """
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA query_only=ON")
                yield connection
        except DatabaseError as error:
            log.exception("the store %s cannot be read", self.path)
            raise StoreUnavailable(str(error.orig), doing="read") from error

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
        self._lock.check_writable()

    def run_with_reserve(self, transaction: Callable[[Connection], Any]) -> Any:
        """Run a function in a durable transaction; on a full disk in the room kept for that.

        Raises:
            StoreUnavailable: it could not be written; nothing was changed.
        """
        try:
            return self.writer.run(transaction)
        except StoreUnavailable:
            if not self.reserve.give_up():
                raise
            return self.writer.run(transaction)

    def close(self) -> None:
        """Write what is queued and let go of the file."""
        self.writer.close()
        self.reserve.close()
        self._engine.dispose()
        self._lock.close()

    def leave_to_owner(self) -> None:
        """In a forked child of the process that has it open: hold its lock no longer."""
        self._lock.leave_to_owner()


def _engine(path: Path) -> Engine:
    engine = engine_of(path)

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


def damaged(path: Path, what: str) -> StoreRefused:
    """The refusal of a store that cannot be trusted, with the remedy."""
    return StoreRefused(
        f"the store {path} is damaged ({what}) and was left as it is: bring back a backup with "
        f"`hyperoracle db restore BACKUP --store {shlex.quote(str(path))} --replace`, which keeps "
        "the damaged file under another name"
    )


def _check_files(path: Path) -> None:
    """Refuse what SQLite would take for a new, empty store, or for one without its journal.

    Raises:
        StoreRefused: there was a store, and it is gone, or some of its files are.
    """
    if restored_beside(path).exists():
        raise StoreRefused(
            f"a restore of the store {path} was interrupted while its files moved: repeat it with "
            f"`hyperoracle db restore BACKUP --store {shlex.quote(str(path))} --replace`"
        )
    if path.exists():
        if path.stat().st_size == 0:
            raise damaged(path, "it is empty, which no store ever is; without a backup, delete it")
        return
    wal = files_of(path)[1]
    if wal.exists() and wal.stat().st_size:
        raise damaged(path, f"it is missing, but {wal.name} is there; put it back beside it")


def _create(path: Path) -> None:
    """Make a new store under another name first: a half-made one is never found."""
    partial = path.with_name(path.name + ".new")
    for leftover in files_of(partial):
        leftover.unlink(missing_ok=True)
    try:
        make_private(partial)
        engine = _engine(partial)
        upgrade(engine, HEAD)
        engine.dispose()
        failpoint("before_store_name")
        partial.rename(path)
        sync_folder(path.parent)
    except (DatabaseError, OSError) as error:
        reason = error.orig if isinstance(error, DatabaseError) else error.strerror
        raise StoreRefused(f"the store {path} cannot be made: {reason!s}") from None


def _check_content(path: Path, *, check: bool) -> str | None:
    """Look at a store without changing anything; returns its schema revision, None if it has none.

    Raises:
        StoreRefused: it is damaged, no store, or of a newer release.
    """
    try:
        with closing(sqlite3.connect(read_only(path, may_change=False), uri=True)) as connection:
            tables = {
                name
                for (name,) in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type='table'"
                )
            }
            if check:
                (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if result != "ok":
                    raise damaged(path, " ".join(str(result).split()))
            row = None
            if "alembic_version" in tables:
                row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error):
            raise StoreRefused(
                f"{path} is not a HyperOracle store ({error}): choose another file, or bring back "
                "a backup with `hyperoracle db restore BACKUP --store "
                f"{shlex.quote(str(path))} --replace`"
            ) from None
        raise damaged(path, str(error)) from None
    revision = None if row is None else str(row[0])
    if revision is None and "alembic_version" in tables:
        raise damaged(path, "it does not say which schema it has")
    if revision is None and tables:
        raise StoreRefused(
            f"{path} is a database of another program (it has the table {min(tables)!r} and no "
            "schema revision): choose another file"
        )
    if revision is not None and revision > HEAD:
        raise StoreRefused(
            f"the store {path} has schema {revision}, this program knows up to {HEAD}: "
            "upgrade hyperoracle-server"
        )
    return revision


def _migrate(engine: Engine, path: Path, revision: str | None) -> None:
    if revision == HEAD:
        return
    try:
        upgrade(engine, HEAD)
    except Exception as error:  # Alembic's and SQLite's; the migration was rolled back
        log.debug("the migration failed", exc_info=True)
        first = (str(getattr(error, "orig", error)).splitlines() or ["no reason given"])[0]
        raise damaged(path, f"its schema {revision} cannot be brought to {HEAD}: {first}") from None
    log.info("schema migrated", extra=about(store=str(path), before=revision, now=HEAD))


def _mend_numbers(engine: Engine, path: Path) -> None:
    try:
        mend_numbers(engine)
    except DatabaseError as error:
        raise damaged(path, f"its rows cannot be numbered anew: {error.orig!s}") from None


def mend_numbers(engine: Engine) -> None:
    """Number a database's rows anew where their numbers have grown too high (`ledger.numbers`).

    Raises:
        DatabaseError: it cannot be; nothing was changed.
    """
    with engine.connect() as connection:
        if not are_too_high(connection):
            return
    with engine.begin() as connection:
        number_anew(connection)


def upgrade(engine: Engine, revision: str) -> None:
    """Bring a store's schema to a revision (Alembic)."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        failpoint("before_migration_commit")
