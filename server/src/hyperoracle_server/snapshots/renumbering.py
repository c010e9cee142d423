"""New numbers for a study's rows, so that they fit into a ledger that has rows of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from sqlalchemy import Connection, Table, func, select

from hyperoracle_server.ledger import schema as t


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


class Renumbering:
    """Shifts the numbers of each table by one amount, so that their order stays.

    Args:
        shifts: by table.
        public_ids: the new one of each job's, by the old one; empty if they stay.
        study_name: the study's new name.
    """

    tables: tuple[Table, ...] = (
        t.studies, t.jobs, t.proposals, t.reports, t.hyper_states, t.memory_entries, t.memory_keys,
        t.encoder_versions, t.hyper_agent_states,
    )  # fmt: skip
    """In the order of their insertion."""

    _REFERENCES: Mapping[str, Mapping[str, str]] = {
        "studies": {"id": "studies"},
        "jobs": {"id": "jobs", "study_id": "studies"},
        "proposals": {"id": "proposals", "job_id": "jobs"},
        "reports": {"job_id": "jobs"},
        "hyper_states": {"proposal_id": "proposals", "study_id": "studies"},
        "memory_entries": {"id": "memory_entries", "study_id": "studies", "job_id": "jobs",
                           "proposal_id": "proposals"},
        "memory_keys": {"entry_id": "memory_entries"},
        "encoder_versions": {"study_id": "studies", "samples_through": "proposals"},
        "hyper_agent_states": {"study_id": "studies"},
    }  # fmt: skip

    def __init__(
        self, shifts: Mapping[str, int], public_ids: Mapping[str, str], study_name: str
    ) -> None:
        self._shifts = shifts
        self._public_ids = public_ids
        self._study_name = study_name

    @classmethod
    def of(cls, snapshot: Connection, numbers: Numbers) -> Self:
        """The renumbering of a snapshot's study."""
        shifts = {}
        for table in (t.studies, t.jobs, t.proposals, t.memory_entries):
            ids = select(func.min(table.c.id), func.max(table.c.id))
            first, last = snapshot.execute(ids).one()
            if first is None:
                shifts[table.name] = 0
            else:
                before = numbers.reserve(table.name, last - first + 1)
                shifts[table.name] = before + 1 - first
        known = snapshot.execute(select(t.jobs.c.public_id)).scalars().all()
        public_ids = {}
        if any(map(numbers.is_known_job, known)):
            public_ids = {public_id: numbers.new_job_id() for public_id in known}
        return cls(shifts, public_ids, numbers.study_name)

    def row(self, table: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row of the snapshot as a row of the ledger."""
        new = dict(row)
        for column, whose in self._REFERENCES[table].items():
            # Before the study's first row there is nothing to tell apart.
            new[column] = max(row[column] + self._shifts[whose], 0)
        if table == "studies":
            new["name"] = self._study_name
        elif table == "jobs":
            new["chance_number"] = (
                row["id"] if row["chance_number"] is None else row["chance_number"]
            )
            # They are counted anew: what a snapshot says they are need not be so.
            new["counts"] = new["counted_through"] = None
            new["public_id"] = self._public_ids.get(row["public_id"], row["public_id"])
        elif table == "proposals":
            new["response"] = self._renamed(row["response"])
            if row["neighbour_ids"] is not None:
                ids = np.frombuffer(row["neighbour_ids"], "<i8") + self._shifts["memory_entries"]
                new["neighbour_ids"] = ids.tobytes()
        return new

    def _renamed(self, response: str) -> str:
        """A proposal's answer with its job's new id."""
        if not self._public_ids:
            return response
        before, mark, rest = response.partition('"proposal_id":"')
        old, dot, sequence = rest.partition(".")
        return before + mark + self._public_ids.get(old, old) + dot + sequence
