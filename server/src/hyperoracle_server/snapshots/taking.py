"""Takes snapshots: of a study, or of a whole store, while jobs go on."""

from __future__ import annotations

import errno
import shlex
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_server.errors import RequestRefused, SnapshotRefused, StoreRefused
from hyperoracle_server.ledger.files import make_private, read_only, store_path, sync_folder, uri
from hyperoracle_server.ledger.lock import check_own_name
from hyperoracle_server.ledger.store import HEAD
from hyperoracle_server.snapshots.seal import Manifest, seal
from hyperoracle_server.telemetry.failpoints import failpoint

if TYPE_CHECKING:
    from hyperoracle_server.oracle.oracle import Oracle

_WITHOUT_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What file systems without hard links, such as network shares, answer."""

_THE_JOBS = "job_id IN (SELECT id FROM main.jobs)"
_THE_STUDY = "study_id IN (SELECT id FROM main.studies)"
ROWS_OF_A_STUDY = {
    "alembic_version": "true",
    "studies": "name = :study",
    "jobs": _THE_STUDY,
    "proposals": _THE_JOBS,
    "reports": _THE_JOBS,
    "hyper_states": _THE_STUDY,
    "memory_entries": _THE_STUDY,
    "memory_keys": "entry_id IN (SELECT id FROM main.memory_entries)",
    "encoder_versions": _THE_STUDY,
    "hyper_agent_states": _THE_STUDY,
    "tokens": "false",  # they belong to the store
}
"""Which rows of each table a study's snapshot has; a table's condition may use those before it."""


def snapshot_study(oracle: Oracle, name: str, target: Path) -> Manifest:
    """Write a study of a running oracle to a new file: all that was acknowledged before this call.

    Raises:
        RequestRefused: `study_not_found`; `store_unavailable`.
        SnapshotRefused: the file is there already, or cannot be written.
    """
    with oracle.study(name):
        pass  # it exists
    oracle.ledger.writer.flush()
    return take_study(oracle.ledger.path, name, target)


def take_study(store: Path, study: str, target: Path) -> Manifest:
    """Write one study of a store to a new file, as it is at one moment; others may write meanwhile.

    Raises:
        RequestRefused: `study_not_found`.
        SnapshotRefused: the file is there already, or cannot be written.
        StoreRefused: the store cannot be read, or is of another release.
    """

    def copy(source: sqlite3.Connection, partial: Path) -> None:
        del source  # opened to see that it is a store
        with closing(sqlite3.connect(uri(partial, "mode=rw"), uri=True)) as snapshot:
            snapshot.isolation_level = None
            # Nobody else sees this file; it is brought to the disk as a whole at its end.
            snapshot.execute("PRAGMA journal_mode=OFF")
            snapshot.execute("PRAGMA synchronous=OFF")
            snapshot.execute("ATTACH ? AS store", (read_only(store_path(store)),))
            snapshot.execute("BEGIN")  # one read transaction on the store: one moment
            _copy_rows(snapshot, study)
            snapshot.execute("COMMIT")

    return _write(store, target, copy, "study", study)


def take_store(store: Path, target: Path) -> Manifest:
    """Write a whole store to a new file, as it is at one moment; a server may have it open.

    Raises:
        SnapshotRefused: the file is there already, or cannot be written.
        StoreRefused: the store cannot be read, or is of another release.
    """

    def copy(source: sqlite3.Connection, partial: Path) -> None:
        with closing(sqlite3.connect(partial)) as snapshot:
            source.backup(snapshot)  # all pages in one read transaction
            snapshot.execute("PRAGMA journal_mode=DELETE")  # one file, no WAL beside it

    return _write(store, target, copy, "store", None)


def _copy_rows(snapshot: sqlite3.Connection, study: str) -> None:
    schema = snapshot.execute(
        "SELECT sql FROM store.sqlite_master WHERE sql IS NOT NULL ORDER BY type = 'index'"
    ).fetchall()
    for (statement,) in schema:
        snapshot.execute(statement)
    for table, condition in ROWS_OF_A_STUDY.items():
        names = [row[1] for row in snapshot.execute(f"PRAGMA store.table_info({table})")]
        columns = ", ".join(f'"{name}"' for name in names)
        snapshot.execute(
            f"INSERT INTO main.{table} ({columns}) "  # noqa: S608 - names of our own schema
            f"SELECT {columns} FROM store.{table} WHERE {condition}",
            {"study": study},
        )
    if snapshot.execute("SELECT count(*) FROM main.studies").fetchone() == (0,):
        raise RequestRefused(
            ErrorCode.STUDY_NOT_FOUND,
            f"there is no study {study!r} in the store",
            expected="the name of a study",
            got=study,
        )


def _write(
    store: Path,
    target: Path,
    copy: Callable[[sqlite3.Connection, Path], None],
    kind: str,
    study: str | None,
) -> Manifest:
    """Copy to a file beside the target, seal it, and give it the target's name."""
    if target.exists():
        raise SnapshotRefused(f"{target} is there already: choose another name, or remove it first")
    partial = target.with_name(target.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        make_private(partial)  # here it shows whether the folder can be written
        store = store_path(store)
        with closing(_open(store)) as source:
            copy(source, partial)
        failpoint("before_snapshot_seal")
        manifest = seal(partial, "study" if kind == "study" else "store", study)
        failpoint("before_snapshot_name")
        _name(partial, target)
        sync_folder(target.parent)
    except sqlite3.DatabaseError as error:
        raise StoreRefused(
            f"a snapshot of {store} cannot be taken ({error}): free some space if there is none, "
            f"and see `hyperoracle db verify {shlex.quote(str(store))}`"
        ) from None
    except OSError as error:
        raise SnapshotRefused(f"{target} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return manifest


def _name(partial: Path, target: Path) -> None:
    """Give a file its name, but never the place of one that has come meanwhile.

    Raises:
        OSError: it is there, or cannot be made.
    """
    try:
        target.hardlink_to(partial)
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
        target.touch(exist_ok=False)  # the name is ours from here on
        partial.replace(target)


def _open(store: Path) -> sqlite3.Connection:
    if not store.is_file():
        raise StoreRefused(f"there is no store {store}: name the file that the server has open")
    check_own_name(store)
    connection = sqlite3.connect(read_only(store), uri=True)
    try:
        revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        connection.close()
        raise StoreRefused(
            f"{store} cannot be read as a store ({error}): see `hyperoracle db verify "
            f"{shlex.quote(str(store))}`"
        ) from None
    if revision is None or revision[0] != HEAD:
        connection.close()
        raise StoreRefused(
            f"the store {store} has schema {revision and revision[0]}, this program takes "
            f"snapshots of {HEAD}: use the program that serves it, or open it once with "
            "`hyperoracle serve`"
        )
    return connection
