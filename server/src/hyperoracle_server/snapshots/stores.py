"""Whole stores: restored from a snapshot where no store is open, and verified."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from hyperoracle_server.errors import SnapshotRefused, StoreRefused
from hyperoracle_server.ledger.files import (
    files_of,
    give_to_owner,
    read_only,
    restored_beside,
    store_path,
    sync_folder,
    uri,
)
from hyperoracle_server.ledger.lock import check_own_name, is_open_here, locked
from hyperoracle_server.ledger.numbers import are_too_high
from hyperoracle_server.ledger.store import HEAD
from hyperoracle_server.snapshots.examination import damage, findings
from hyperoracle_server.snapshots.restoring import refuse_unsound, up_to_date
from hyperoracle_server.snapshots.seal import Manifest, Sealed, check_seal, unseal
from hyperoracle_server.telemetry.failpoints import failpoint

_SQLITE = b"SQLite format 3\0"


class OtherSchema(StoreRefused):
    """A sound store of another release's schema, of which this one cannot say more.

    Args:
        store: its file.
        revision: of its schema; None if it says none.
    """

    def __init__(self, store: Path, revision: str | None) -> None:
        self.revision = revision
        is_earlier = revision is not None and revision < HEAD
        remedy = (
            "bring it up to date by opening it once, `hyperoracle serve --store "
            f"{shlex.quote(str(store))}`, and verify again"
            if is_earlier
            else "upgrade hyperoracle-server and verify again"
        )
        age = "an earlier" if is_earlier else "another"
        super().__init__(
            f"{store}: a store of {age} release (schema {revision}, here {HEAD}) in which no "
            f"damage was found; {remedy}"
        )


def restore_store(snapshot: Path, store: Path, *, replace: bool = False) -> Path | None:
    """Make a store from the snapshot of one.

    Args:
        snapshot: of a whole store.
        store: the file to make.
        replace: move a store that is there out of the way; it is not deleted.

    Returns:
        Where the former store's file is now; None if there was none.

    Raises:
        SnapshotRefused: it cannot be restored; nothing was changed.
        StoreRefused: there is a store, or a process has it open.
    """
    store = store_path(store)
    sealed = check_seal(snapshot)
    if sealed.manifest.kind != "store":
        raise SnapshotRefused(
            f"{snapshot} is a snapshot of the study {sealed.manifest.study!r}: restore it with "
            f"`hyperoracle study restore {sealed.manifest.study} {shlex.quote(str(snapshot))} "
            "--url ...` into a running oracle"
        )
    with locked(store):
        there = [path for path in files_of(store) if path.exists()]
        if there and not replace:
            raise StoreRefused(
                f"{there[0]} is there already: add --replace to move it out of the way, or restore "
                "to another file"
            )
        restored = store.with_name(store.name + ".restoring")
        try:
            restored.unlink(missing_ok=True)
            unseal(sealed, restored)
            if store.exists():  # who could read the former one can read this one, and nobody else
                restored.chmod(store.stat().st_mode & 0o777)
            give_to_owner(restored, store if store.exists() else store.parent)
            with up_to_date(sealed, restored).connect() as connection:
                refuse_unsound(sealed, connection)
            # From here on until it has the store's name, no start takes the store for whole.
            whole = restored.replace(restored_beside(store))
            sync_folder(store.parent)
            failpoint("before_store_moves")
            moved = _move_away(store) if there else None
            failpoint("between_stores")
            whole.replace(store)
            sync_folder(store.parent)
            failpoint("after_store_moves")
        except OSError as error:
            raise SnapshotRefused(f"{store} cannot be written: {error.strerror}") from None
        finally:
            restored.unlink(missing_ok=True)
    return moved


def verify(path: Path) -> tuple[Manifest | None, list[str]]:
    """Examine a store, which a server may have open, or a snapshot; neither is changed.

    A snapshot of an earlier release is examined on a copy that is brought up to date.

    Returns:
        The manifest of a snapshot, None of a store; and what is wrong, a line each.

    Raises:
        SnapshotRefused: the snapshot's seal is broken, or it is neither.
        StoreRefused: it cannot be read.
        OtherSchema: a store that another release wrote last; no damage was found.
    """
    sealed = None
    if not path.exists():
        raise SnapshotRefused(f"there is no file {path}: name a store (--store) or a backup")
    try:
        # A store that this process has open must not be opened and closed beside SQLite.
        sealed = None if is_open_here(path) else check_seal(path)
    except SnapshotRefused:
        if not _may_be_a_store(path):
            raise
        path = path.resolve()
        check_own_name(path)
    manifest = None if sealed is None else sealed.manifest
    engine = _reading_engine(path, is_snapshot=sealed is not None)
    with engine.connect() as connection:
        wrong = damage(connection)
        if wrong:
            return manifest, wrong
        revision = _revision(path) if manifest is None else manifest.schema_revision
        is_high = revision == HEAD and _has_high_numbers(connection)
        if revision == HEAD and not is_high:
            return manifest, findings(connection)
    if sealed is not None:
        return manifest, _findings_once_up_to_date(sealed)
    if is_high:
        what = (
            "the numbers of its rows have grown too high: open it once with this release's "
            "`hyperoracle serve`, which mends that"
        )
        return None, [what]
    raise OtherSchema(path, revision)


def _has_high_numbers(connection: Connection) -> bool:
    try:
        return are_too_high(connection)
    except DatabaseError:  # it lacks a table, which is found
        return False


def _findings_once_up_to_date(sealed: Sealed) -> list[str]:
    """What a restore would find wrong with a snapshot of an earlier release, seen on a copy."""
    try:
        with TemporaryDirectory(prefix="hyperoracle-verify-") as folder:
            database = Path(folder) / "snapshot.db"
            unseal(sealed, database)
            with up_to_date(sealed, database).connect() as connection:
                return findings(connection)
    except OSError as error:
        raise SnapshotRefused(
            f"{sealed.path} is of an earlier release and is examined on a copy, which cannot be "
            f"made: {error.strerror}; name a folder with more room in TMPDIR"
        ) from None


def _may_be_a_store(path: Path) -> bool:
    """Whether it is a database and nothing after it."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(_SQLITE):
        return False
    page = int.from_bytes(header[16:18], "big")
    return path.stat().st_size % (65536 if page == 1 else max(page, 512)) == 0


def _reading_engine(path: Path, *, is_snapshot: bool) -> Engine:
    # Nobody changes a snapshot, so SQLite need not lock it; of a store it must see the journal,
    # which a running server always has.
    url = uri(path, "immutable=1") if is_snapshot else read_only(path, may_change=False)
    return create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(url, uri=True), poolclass=NullPool
    )


def _revision(store: Path) -> str | None:
    try:
        with closing(sqlite3.connect(read_only(store, may_change=False), uri=True)) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise StoreRefused(f"{store} is no HyperOracle store ({error})") from None
    return None if found is None else str(found[0])


def _move_away(store: Path) -> Path:
    """Give a store's files other names, its WAL first: it must never meet another store."""
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    names = (f"{store.name}.replaced-{stamp}{again}" for again in _endings())
    moved = next(each for each in map(store.with_name, names) if _is_free(each))
    for path in reversed(files_of(store)):
        if path.exists():
            path.rename(path.with_name(moved.name + path.name.removeprefix(store.name)))
    return moved


def _is_free(store: Path) -> bool:
    """Whether no file has a name that one of this store's would have."""
    return not any(path.exists() or path.is_symlink() for path in files_of(store))


def _endings() -> Iterator[str]:
    """Nothing, then `-2`, `-3`, ...: for a name that must be new."""
    return chain([""], (f"-{number}" for number in count(2)))
