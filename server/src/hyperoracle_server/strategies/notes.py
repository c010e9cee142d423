"""What a hyper-agent notes of each job, and how that becomes JSON and comes back.

Notes lie in the job's row of the ledger. They are written in the same transaction as the proposal
or report that changed them, so a restart brings back exactly what was durable.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, get_args

from hyperoracle_protocol.jobs import Role

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterable, Iterator, Sequence
    from dataclasses import Field

    from hyperoracle_server.strategies.grid import HyperActionGrid


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


@dataclass
class NoNote:
    """Of a job of which nothing is noted."""


def check(holds: bool, what: str) -> None:
    """See that a note, or another document of a job's row, is what an oracle writes.

    Raises:
        ValueError: it is not.
    """
    if not holds:
        raise ValueError(f"{what} is not what an oracle writes")


def check_actions(actions: Iterable[int | None], grid: HyperActionGrid) -> None:
    """See that hyper-actions, where there are any, are on the grid.

    Raises:
        ValueError: one is not.
    """
    for action in actions:
        check(action is None or 0 <= action < grid.joint_count, f"the hyper-action {action}")


def check_shape(values: Sequence[Sequence[Any]], grid: HyperActionGrid) -> None:
    """See that there is a value for each bin of each hyperparameter, or none at all.

    Raises:
        ValueError: there is not.
    """
    shape = tuple(map(len, values))
    check(not values or shape == tuple(grid.bins_per_hyperparameter), "its hyperparameters' bins")


def check_part(role: str, shown: float) -> None:
    """See that a job's role is one, and what it shows of its plan a share.

    Raises:
        ValueError: one is not.
    """
    check(role in ("", *get_args(Role)), "its role")
    check(0.0 <= shown <= 1.0, "what it shows is no share")
