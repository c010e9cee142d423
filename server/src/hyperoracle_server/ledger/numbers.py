"""The numbers of a store's rows: dense, so that they never come to their end.

Studies, jobs, proposals and memory entries are numbered in order over a whole store. Releases of
before let the numbers grow by a study's whole span at each restore, gaps included, which doubled
them again and again, until no snapshot of the store was taken any more. Such a store is numbered
anew when it is opened: in the same order, which the memory's ends and ties depend on, from 1.
"""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, Self

import numpy as np
from sqlalchemy import Connection, Table, select, text

from hyperoracle_server.ledger import schema as t
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


class FreshNumbers(NamedTuple):
    """What the ledger that takes a study in gives it.

    Attributes:
        reserve: takes a table's name and a count; returns the number before the first of so many
            that nobody else gets.
        is_known_job: whether the ledger has a job with this public id.
        new_job_id: a public id that no job has.
        study_name: what the study is to be called.
    """

    reserve: Callable[[str, int], int]
    is_known_job: Callable[[str], bool]
    new_job_id: Callable[[], str]
    study_name: str


class _Dense:
    """A table's numbers of before, and the one before the first new one."""

    def __init__(self, ids: Iterable[int], before: int) -> None:
        self.old = array("q", ids)
        self.before = before

    def of(self, number: int) -> int:
        """The new number of a row; 0, which no row has, for that of none."""
        place = bisect_left(self.old, number)
        is_there = place < len(self.old) and self.old[place] == number
        return self.before + 1 + place if is_there else 0

    def up_to(self, number: int) -> int:
        """The new number up to which rows are meant that were meant up to this one."""
        return self.before + bisect_right(self.old, number)


class Renumbering:
    """Numbers the rows of each table anew: in their order, without gaps, after all that are there.

    Were gaps kept, a study's numbers would span all that was added to its store since its first
    row, and each copy of it would double the store's numbers.

    Args:
        dense: by table.
        public_ids: the new one of each job's, by the old one; empty if they stay.
        study_name: the study's new name.
    """

    tables: tuple[Table, ...] = (
        t.studies, t.jobs, t.proposals, t.reports, t.hyper_states, t.memory_entries, t.memory_keys,
        t.encoder_versions, t.hyper_agent_states,
    )  # fmt: skip
    """In the order of their insertion."""

    def __init__(
        self, dense: Mapping[str, _Dense], public_ids: Mapping[str, str], study_name: str
    ) -> None:
        self._dense = dense
        self._public_ids = public_ids
        self._study_name = study_name
        entries = dense["memory_entries"]
        self._old_entries = np.array(entries.old, np.int64)
        self._new_entries = entries.before + 1 + np.arange(len(entries.old))

    @classmethod
    def of(cls, snapshot: Connection, numbers: FreshNumbers) -> Self:
        """The renumbering of a snapshot's study."""
        dense = {}
        for table in (t.studies, t.jobs, t.proposals, t.memory_entries):
            ids = snapshot.execute(select(table.c.id).order_by(table.c.id)).scalars().all()
            dense[table.name] = _Dense(ids, numbers.reserve(table.name, len(ids)) if ids else 0)
        known = snapshot.execute(select(t.jobs.c.public_id)).scalars().all()
        public_ids = {}
        if any(map(numbers.is_known_job, known)):
            public_ids = {public_id: numbers.new_job_id() for public_id in known}
        return cls(dense, public_ids, numbers.study_name)

    def row(self, table: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row of the snapshot as a row of the ledger."""
        new = dict(row)
        for column, whose in REFERENCES[table].items():
            new[column] = self._dense[whose].of(row[column])
        if table == "studies":
            new["name"] = self._study_name
        elif table == "jobs":
            new["chance_number"] = (
                row["id"] if row["chance_number"] is None else row["chance_number"]
            )
            # They are counted anew: what a snapshot says they are need not be so.
            new["counts"] = new["counted_through"] = None
            new["public_id"] = self._public_ids.get(row["public_id"], row["public_id"])
        elif table == "encoder_versions":
            new["samples_through"] = self._dense["proposals"].up_to(row["samples_through"])
        elif table == "proposals":
            new["response"] = self._renamed(row["response"])
            if row["neighbour_ids"] is not None:
                ids = np.frombuffer(row["neighbour_ids"], "<i8")
                new["neighbour_ids"] = renumbered(
                    ids, self._old_entries, self._new_entries
                ).tobytes()
        return new

    def _renamed(self, response: str) -> str:
        """A proposal's answer with its job's new id."""
        if not self._public_ids:
            return response
        before, mark, rest = response.partition('"proposal_id":"')
        old, dot, sequence = rest.partition(".")
        return before + mark + self._public_ids.get(old, old) + dot + sequence
