"""Deleting a study: at once for everybody, in parts, and with room that is kept for it.

First the study gets a name that none can be asked for, in one small transaction: it is gone from
there on, also after a death. Then its rows go, some thousands at a time. One transaction for all
would need as much room in SQLite's journal as the pages that it changes, which a full disk has not,
and everybody else's reports would wait for it. After each part the store still holds together: what
refers to other rows goes before them.

SQLite needs room to delete, too: it writes the changed pages to its journal first. Where a disk is
full, what would make room could not be done. So a file beside the store keeps some, and is given up
then.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hyperoracle_server.errors import StoreUnavailable
from hyperoracle_server.ledger.files import PRIVATE
from hyperoracle_server.telemetry.logs import about

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hyperoracle_server.ledger.store import Ledger

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


ROWS_AT_ONCE = 2000

MARK = "~deleted-"
"""No study's name begins so (`StudyName`)."""

_PARTS: tuple[tuple[str, ...], ...] = (
    # What a job's row says of its proposals and reports is no longer so.
    (
        (
            "UPDATE jobs SET counts = NULL, counted_through = NULL WHERE id IN (SELECT id "
            "FROM jobs WHERE study_id = :study AND counts IS NOT NULL LIMIT :rows)"
        ),
    ),
    (
        (
            "DELETE FROM reports WHERE rowid IN (SELECT rowid FROM reports WHERE job_id IN "
            "(SELECT id FROM jobs WHERE study_id = :study) LIMIT :rows)"
        ),
    ),
    (
        (
            "DELETE FROM memory_keys WHERE entry_id IN (SELECT id FROM memory_entries "
            "WHERE study_id = :study ORDER BY id LIMIT :rows)"
        ),
        (
            "DELETE FROM memory_entries WHERE id IN (SELECT id FROM memory_entries "
            "WHERE study_id = :study ORDER BY id LIMIT :rows)"
        ),
    ),
    (
        (
            "DELETE FROM hyper_states WHERE proposal_id IN (SELECT proposal_id FROM hyper_states "
            "WHERE study_id = :study LIMIT :rows)"
        ),
    ),
    (
        (
            "DELETE FROM proposals WHERE id IN (SELECT id FROM proposals WHERE job_id IN "
            "(SELECT id FROM jobs WHERE study_id = :study) LIMIT :rows)"
        ),
    ),
    (
        (
            "DELETE FROM encoder_versions WHERE rowid IN (SELECT rowid FROM encoder_versions "
            "WHERE study_id = :study LIMIT :rows)"
        ),
    ),
    (
        (
            "DELETE FROM hyper_agent_states WHERE rowid IN (SELECT rowid FROM hyper_agent_states "
            "WHERE study_id = :study LIMIT :rows)"
        ),
    ),
    ("DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE study_id = :study LIMIT :rows)",),
    ("DELETE FROM studies WHERE id = :study",),
)
"""Each is run until its last statement finds nothing more."""


def mark(ledger: Ledger, study: int) -> None:
    """Make a study's name one that none has.

    Raises:
        StoreUnavailable: it could not be written; nothing was changed.
    """
    ledger.run_with_reserve(
        lambda connection: connection.exec_driver_sql(
            "UPDATE studies SET name = ? WHERE id = ?", (f"{MARK}{study}", study)
        )
    )


def remove_marked(ledger: Ledger) -> int:
    """Remove the rows of all studies that are marked; how many studies.

    What cannot be removed now is left for another time: nobody sees it any more.
    """
    with ledger.reading() as connection:
        query = f"SELECT id FROM studies WHERE name LIKE '{MARK}%'"  # noqa: S608 - ours
        marked = connection.exec_driver_sql(query).scalars().all()
    try:
        for study in marked:
            _remove(ledger, study)
    except StoreUnavailable as error:
        log.warning("a deleted study's rows are still there: %s", error.detail, extra=about())
        return 0
    return len(marked)


def _remove(ledger: Ledger, study: int) -> None:
    for statements in _PARTS:
        left = 1
        while left:

            def part(connection: Connection, statements: tuple[str, ...] = statements) -> int:
                names = {"study": study, "rows": ROWS_AT_ONCE}
                found = 0
                for statement in statements:
                    found = connection.exec_driver_sql(statement, names).rowcount
                return found

            found = ledger.run_with_reserve(part)
            left = found == ROWS_AT_ONCE
