"""The numbers of a store's rows: dense, so that they never come to their end.

Studies, jobs, proposals and memory entries are numbered in order over a whole store. Releases of
before let the numbers grow by a study's whole span at each restore, gaps included, which doubled
them again and again, until no snapshot of the store was taken any more. Such a store is numbered
anew when it is opened: in the same order, which the memory's ends and ties depend on, from 1.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import numpy as np
from sqlalchemy import Connection, text

from hyperoracle_server.telemetry.logs import about

log = logging.getLogger(__name__)

HIGHEST_NUMBER: Final = 2**40
"""No ledger comes so far; numbers go up, over all studies of a store, and end at 2^63."""

TOO_HIGH: Final = 2**36
"""From here on a store is numbered anew: it would take decades to come here by adding."""

REFERENCES: Mapping[str, Mapping[str, str]] = {
    "studies": {"id": "studies"},
    "jobs": {"id": "jobs", "study_id": "studies"},
    "proposals": {"id": "proposals", "job_id": "jobs"},
    "reports": {"job_id": "jobs"},
    "hyper_states": {"proposal_id": "proposals", "study_id": "studies"},
    "memory_entries": {"id": "memory_entries", "study_id": "studies", "job_id": "jobs",
                       "proposal_id": "proposals"},
    "memory_keys": {"entry_id": "memory_entries"},
    "encoder_versions": {"study_id": "studies"},
    "hyper_agent_states": {"study_id": "studies"},
}  # fmt: skip
"""By table and column, whose number it is."""

UP_TO: Mapping[str, Mapping[str, str]] = {
    "jobs": {"counted_through": "proposals"},
    "encoder_versions": {"samples_through": "proposals"},
}
"""Likewise, where it stands for all rows up to it, and need not be one's own."""

NUMBERED = ("studies", "jobs", "proposals", "memory_entries")


def are_too_high(connection: Connection) -> bool:
    """Whether a store's numbers have grown so far that it is to be numbered anew."""
    highest = (
        connection.exec_driver_sql(f"SELECT coalesce(max(id), 0) FROM {table}").scalar_one()  # noqa: S608 - ours
        for table in NUMBERED
    )
    return any(isinstance(number, int) and number >= TOO_HIGH for number in highest)


def number_anew(connection: Connection) -> None:
    """Give a store's rows dense numbers from 1 on, in their order, within a transaction."""
    run = connection.exec_driver_sql
    # A job of before revision 0006 has its number as its chance's, which is to stay.
    run("UPDATE jobs SET chance_number = id WHERE chance_number IS NULL")
    for table in NUMBERED:
        run(f"CREATE TEMP TABLE dense_{table} (old INTEGER PRIMARY KEY, new INTEGER NOT NULL)")
        run(
            f"INSERT INTO dense_{table} "  # noqa: S608 - names of our own schema
            f"SELECT id, row_number() OVER (ORDER BY id) FROM {table}"
        )
    _renumber_neighbours(connection)
    for table, columns in UP_TO.items():
        for column, whose in columns.items():
            run(
                f"UPDATE {table} SET {column} = coalesce((SELECT new FROM dense_{whose} "  # noqa: S608 - the same
                f"WHERE old <= {column} ORDER BY old DESC LIMIT 1), 0) WHERE {column} IS NOT NULL"
            )
    for table, columns in REFERENCES.items():
        for column, whose in columns.items():
            # By way of numbers that no row has: no two may meet on the way.
            run(
                f"UPDATE {table} SET {column} = "  # noqa: S608 - the same
                f"-(SELECT new FROM dense_{whose} WHERE old = {column})"
            )
            run(f"UPDATE {table} SET {column} = -{column}")  # noqa: S608 - the same
    for table in NUMBERED:
        run(f"DROP TABLE temp.dense_{table}")
    log.warning("a store's rows are numbered anew: their numbers had grown too high",
                extra=about())  # fmt: skip


def _renumber_neighbours(connection: Connection) -> None:
    """The memory entries that a proposal's explanation names."""
    pairs = connection.exec_driver_sql("SELECT old, new FROM dense_memory_entries ORDER BY old")
    old, new = np.array(pairs.all(), np.int64).reshape(-1, 2).T
    rows = connection.exec_driver_sql(
        "SELECT id, neighbour_ids FROM proposals WHERE neighbour_ids IS NOT NULL "
        "AND length(neighbour_ids) > 0"
    ).all()
    for number, named in rows:
        ids = renumbered(np.frombuffer(named, "<i8"), old, new)
        connection.execute(
            text("UPDATE proposals SET neighbour_ids = :ids WHERE id = :id"),
            {"ids": ids.tobytes(), "id": number},
        )


def renumbered(ids: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Numbers in the place of others; 0, which no row has, for those of no row.

    Args:
        ids: int64.
        old: int64, ascending.
        new: int64, by the same places.
    """
    if not old.size:
        return np.zeros(ids.shape, "<i8")
    places = np.minimum(np.searchsorted(old, ids), old.size - 1)
    return np.where(old[places] == ids, new[places], 0).astype("<i8")
