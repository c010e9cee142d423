"""Deleting a study: at once for everybody, and in parts that need little room each.

First the study gets a name that none can be asked for, in one small transaction: it is gone from
there on, also after a death. Then its rows go, some thousands at a time. One transaction for all
would need as much room in SQLite's journal as the pages that it changes, which a full disk has not,
and everybody else's reports would wait for it. After each part the store still holds together: what
refers to other rows goes before them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hyperoracle_server.errors import StoreUnavailable
from hyperoracle_server.telemetry.logs import about

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hyperoracle_server.ledger.store import Ledger

log = logging.getLogger(__name__)

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
