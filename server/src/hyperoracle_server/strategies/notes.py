"""What a hyper-agent notes of each job, and how that becomes JSON and comes back.

Notes lie in the job's row of the ledger. They are written in the same transaction as the proposal
or report that changed them, so a restart brings back exactly what was durable.
"""

from __future__ import annotations

import json
from collections.abc import ItemsView, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from dataclasses import Field

    import numpy as np

    from hyperoracle_protocol.jobs import Role
    from hyperoracle_server.strategies.base import CurvePoint
    from hyperoracle_server.strategies.evidence.job_account import Ending


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


Note = TypeVar("Note", bound=_Dataclass)


class JobNotes(Generic[Note]):
    """One note per job: a dataclass of JSON values with a default for every field.

    Args:
        kind: the dataclass.
    """

    def __init__(self, kind: type[Note]) -> None:
        self._kind = kind
        self._notes: dict[int, Note] = {}

    def of(self, job_id: int) -> Note:
        """The note of a job; a new one if there is none."""
        if job_id not in self._notes:
            self._notes[job_id] = self._kind()
        return self._notes[job_id]

    def get(self, job_id: int) -> Note | None:
        """The note of a job; None if there is none. Changes nothing."""
        return self._notes.get(job_id)

    def __iter__(self) -> Iterator[Note]:
        """All notes, in order of the jobs' first."""
        return iter(self._notes.values())

    def items(self) -> ItemsView[int, Note]:
        """All notes with their jobs' numbers, in order of the jobs' first."""
        return self._notes.items()

    def dump(self, job_id: int) -> str | None:
        """The note of a job as JSON, None if there is none; numbers come back exactly."""
        note = self._notes.get(job_id)
        return None if note is None else json.dumps(vars(note))

    def restore(self, job_id: int, text: str) -> None:
        """Take back what `dump` gave; what this release does not note any more is left out."""
        known = {each.name for each in fields(self._kind)}
        noted = json.loads(text)
        self._notes[job_id] = self._kind(**{k: v for k, v in noted.items() if k in known})


class Unconcerned:
    """What a hyper-agent does about a job's life unless it says otherwise: nothing."""

    def assigned_role(
        self,
        number: int,
        block_stream: Callable[[int], np.random.Generator],
        rng: np.random.Generator,
    ) -> Role:
        """Roles make no difference."""
        del number, block_stream, rng
        return "auto"

    def not_applied(self, job_id: int, sequences: Sequence[int]) -> None:
        """What the job used instead makes no difference."""

    def used_otherwise(self, job_id: int, sequences: Sequence[int]) -> None:
        """Nothing is credited to what was decided: there is no more to do."""

    def withdraws(self, job_id: int) -> bool:
        """What was decided stays."""
        del job_id
        return False

    def decide_seconds(self, job_id: int, signature: str) -> float:
        """Next to none."""
        del job_id, signature
        return 0.0

    def learn_seconds(self, job_id: int, signature: str, outcomes: int) -> float:
        """Next to none."""
        del job_id, signature, outcomes
        return 0.0

    def changed_states(self) -> dict[str, bytes]:
        """All that is learned is in memory and notes."""
        return {}

    def restore_state(self, name: str, state: bytes) -> None:
        """There was none."""

    def observe(self, job_id: int, curve: Sequence[CurvePoint]) -> None:
        """Nothing is learned from the curve."""

    def close(self, job_id: int, ending: Ending) -> None:
        """Nothing is learned from the end."""

    def reopen(self, job_id: int) -> None:
        """Nothing was learned from the end."""


class WithoutNotes(Unconcerned):
    """The half of a hyper-agent that notes nothing of single jobs."""

    def notes(self, job_id: int) -> str | None:
        """Nothing is noted."""
        del job_id
        return None

    def restore(self, job_id: int, notes: str) -> None:
        """Nothing was noted."""


class WithNotes(Unconcerned, Generic[Note]):
    """The half of a hyper-agent that notes something of every job.

    Args:
        kind: the dataclass of a note.
    """

    def __init__(self, kind: type[Note]) -> None:
        self.kind_of_note = kind
        self._jobs = JobNotes(kind)

    def notes(self, job_id: int) -> str | None:
        """The note of a job as JSON."""
        return self._jobs.dump(job_id)

    def restore(self, job_id: int, notes: str) -> None:
        """Take back what `notes` gave."""
        self._jobs.restore(job_id, notes)
