"""New numbers for a study's rows, so that they fit into a ledger that has rows of its own."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from sqlalchemy import Connection, Table, select

from hyperoracle_server.ledger import schema as t
from hyperoracle_server.ledger.numbers import REFERENCES, renumbered


class Numbers(NamedTuple):
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
    def of(cls, snapshot: Connection, numbers: Numbers) -> Self:
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
