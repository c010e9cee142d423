"""Restores snapshots: a study into a running oracle, a store into a new file.

A snapshot is examined, and its studies are loaded once, before anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, event, func, select
from sqlalchemy.exc import DatabaseError

from hyperoracle_server.errors import SnapshotRefused
from hyperoracle_server.ledger import schema as t
from hyperoracle_server.ledger.files import engine_of
from hyperoracle_server.ledger.numbers import Renumbering
from hyperoracle_server.ledger.store import HEAD, mend_numbers, upgrade
from hyperoracle_server.oracle import recovery
from hyperoracle_server.snapshots.examination import findings, strangers
from hyperoracle_server.snapshots.seal import Sealed, check_seal, unseal
from hyperoracle_server.snapshots.under_way import folder_beside
from hyperoracle_server.telemetry.failpoints import failpoint
from hyperoracle_server.views import studies

if TYPE_CHECKING:
    from hyperoracle_server.oracle.oracle import Oracle
    from hyperoracle_server.oracle.study import StudyRuntime

_BATCH = 500


def restore_study(oracle: Oracle, path: Path, name: str | None = None) -> StudyRuntime:
    """Bring a study back from a snapshot, under its own name or another.

    Its jobs keep their ids, so that they can go on, but where the oracle has these ids (a copy of
    a study beside itself): then all its jobs get new ones. Every decision that follows is the one
    that the original would have made.

    Args:
        oracle: that takes the study in.
        path: the snapshot.
        name: to give it; None for its own.

    Raises:
        RequestRefused: `study_conflict`, there is a study of this name; `store_unavailable`.
        SnapshotRefused: it cannot be restored.
    """
    sealed = check_seal(path)
    if sealed.manifest.kind != "study" or sealed.manifest.study is None:
        raise SnapshotRefused(
            f"{path} is a snapshot of a whole store: restore it with `hyperoracle db restore`"
        )
    with _unsealed(sealed, oracle.ledger.path) as snapshot:
        _load(snapshot, oracle, path)
        names = snapshot.execute(select(t.studies.c.name)).scalars().all()
        if names != [sealed.manifest.study]:
            raise SnapshotRefused(f"{path} does not hold what its manifest says: take another")
        return oracle.adopt_study(
            name or sealed.manifest.study,
            lambda numbers: Renumbering.of(snapshot, numbers),
            lambda ledger, renumbering: _insert(snapshot, ledger, renumbering),
        )


@contextmanager
def _unsealed(sealed: Sealed, store: Path) -> Iterator[Connection]:
    """A snapshot's database, beside the store, of the newest schema and nothing wrong with it."""
    with folder_beside(store) as folder:
        database = folder / "snapshot.db"
        unseal(sealed, database)
        with up_to_date(sealed, database).connect() as connection:
            refuse_unsound(sealed, connection)
            yield connection


def refuse_unsound(sealed: Sealed, connection: Connection) -> None:
    """See that nothing is wrong with the database of a snapshot.

    Raises:
        SnapshotRefused: something is.
    """
    if wrong := findings(connection):
        raise SnapshotRefused(f"{sealed.path} does not hold together: {wrong[0]}")


def _careful_engine(database: Path) -> Engine:
    """An engine for a database that may have been made to do harm."""
    # Read by the writing thread too, while this one waits for it.
    engine = engine_of(database)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cell_size_check=ON")
        connection.execute("PRAGMA ignore_check_constraints=ON")  # no ledger has any

    return engine


def up_to_date(sealed: Sealed, database: Path) -> Engine:
    """Migrate the unsealed database of a snapshot of an earlier release, and mend its numbers.

    Raises:
        SnapshotRefused: it cannot be.
    """
    engine = _careful_engine(database)
    try:
        if sealed.manifest.schema_revision != HEAD:
            upgrade(engine, HEAD)
        with engine.connect() as connection:
            is_ours = not [*strangers(connection)]  # else it is refused, and nothing run in it
        if is_ours:
            mend_numbers(engine)
        return engine
    except Exception as error:  # whatever a broken schema makes of it
        raise SnapshotRefused(
            f"{sealed.path} has schema {sealed.manifest.schema_revision} and cannot be brought up "
            f"to {HEAD} ({_first_line(error)}): take another snapshot"
        ) from None


def _load(snapshot: Connection, oracle: Oracle, path: Path) -> None:
    """Load the studies as a start would, describe them as lists do, and forget them again."""
    try:
        for row in snapshot.execute(select(t.studies)).all():
            study = recovery.load_study_row(snapshot, row, oracle.services)
            studies.describe_study(oracle, study).model_dump_json()
            for job in study.jobs.values():
                studies.describe_job(oracle, study, job).model_dump_json()
            _check_hyper_actions(snapshot, study)
    except Exception as error:  # what a damaged row leads to is not foreseeable
        raise SnapshotRefused(
            f"{path} cannot be loaded ({type(error).__name__}: {_first_line(error)}): "
            "take another snapshot"
        ) from None


def _check_hyper_actions(snapshot: Connection, study: StudyRuntime) -> None:
    actions = t.proposals.c.hyper_action
    least, greatest = snapshot.execute(select(func.min(actions), func.max(actions))).one()
    if least is not None and not 0 <= least <= greatest < study.grid.joint_count:
        raise ValueError(
            f"expected hyper-actions from 0 to {study.grid.joint_count - 1}, "
            f"got {least} to {greatest}"
        )


def _insert(snapshot: Connection, ledger: Connection, renumbering: Renumbering) -> None:
    for table in renumbering.tables:
        names = [column.name for column in table.columns]
        rows = snapshot.execution_options(stream_results=True).execute(select(table))
        for part in rows.partitions(_BATCH):
            renumbered = [
                renumbering.row(table.name, dict(zip(names, row, strict=True))) for row in part
            ]
            ledger.execute(table.insert(), renumbered)
    failpoint("before_restore_commit")


def _first_line(error: Exception) -> str:
    if isinstance(error, DatabaseError):
        return str(error.orig)
    return (str(error).splitlines() or ["no reason given"])[0]
