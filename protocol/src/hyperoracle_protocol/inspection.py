"""What people and scripts read: explanations, memory entries, schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from hyperoracle_protocol.base import Count, Finite, Message, Name
from hyperoracle_protocol.jobs import Role
from hyperoracle_protocol.space import Value


class Neighbour(Message):
    """A memory entry that a proposal was based on.

    Attributes:
        entry_id: the memory entry.
        job_id: the job that left it.
        age_seconds: at the time of the proposal.
        distance: squared Euclidean distance of the keys.
        weight: its share of the kernel sum of Eq. 3, in [0, 1].
        value: its stored hyper-return at the time of the proposal.
        from_other_job: whether another job left it.
    """

    entry_id: Count
    job_id: str
    age_seconds: Finite
    distance: Finite
    weight: Finite
    value: Finite
    from_other_job: bool


class HyperActionValue(Message):
    """What the memory said of one hyper-action; `q` is null where the strategy reads none."""

    bins: list[Count]
    hyperparameters: dict[str, Value]
    q: Finite | None
    known: bool


class Explanation(Message):
    """Why a proposal is what it is.

    Attributes:
        applied: whether the job used what was chosen.
        used_instead: what it used in its place, the values that differ by name; null where it did
            not say so.
    """

    proposal_id: str
    job_id: str
    study: Name
    sequence: Count
    created_at: datetime
    role: Role
    strategy: str
    encoder_version: Count | None
    memory_revision: Count
    epsilon: Finite
    explored: bool
    propensity: Finite
    held: bool
    chosen: HyperActionValue
    values: list[HyperActionValue]
    neighbours: list[Neighbour]
    applied: bool
    used_instead: dict[str, Value] | None = None
    hyper_return: Finite | None
    why: str


class MemoryEntry(Message):
    """One (key, hyper-action, value) triple."""

    entry_id: Count
    layout: str
    job_id: str
    proposal_id: str
    bins: list[Count]
    hyperparameters: dict[str, Value]
    value: Finite
    env_step: Count
    created_at: datetime


class MemoryPage(Message):
    """Entries in order of their ids; `next_after` continues, null at the end."""

    entries: list[MemoryEntry]
    size: Count
    capacity: Count | None
    next_after: Count | None


class MapPoint(Message):
    """A key in the plane of the two main axes of all keys."""

    entry_id: Count
    job_id: str
    x: Finite
    y: Finite
    value: Finite
    bins: list[Count]


class MemoryMap(Message):
    """A 2-D picture of the memory, of one layout signature.

    Attributes:
        explained_variance: share of the keys' variance that each axis holds.
    """

    layout: str | None
    points: list[MapPoint]
    explained_variance: list[Finite]


class Figure(Message):
    """A figure with its 95 % interval by cluster bootstrap over jobs."""

    value: Finite
    low: Finite
    high: Finite


class NeighbourFigures(Message):
    """Whose the nearest neighbours of a study's records are.

    Attributes:
        from_other_jobs: share that other jobs left, in [0, 1].
        expected_by_chance: that share if neighbours were drawn from all other records.
        ratio: the first over the second.
        shared: whether the ratio is at least 0.8.
    """

    from_other_jobs: Finite
    expected_by_chance: Finite
    ratio: Figure
    shared: bool


class PredictionFigures(Message):
    """How well the records of all other jobs predict a held-out job's returns.

    Attributes:
        skill: 1 − squared error / squared error of the other jobs' mean; above 0 is better than
            that constant.
        jobs_better: share of the jobs on which it is, in [0, 1].
    """

    skill: Figure
    jobs_better: Figure


class KeyDiagnosis(Message):
    """Whether the keys of one space can be shared between jobs.

    Attributes:
        what: names the keys.
        records: how many there are.
        jobs: how many left them.
        note: what to know of the figures, or why there are none.
        neighbours: null where there is nothing to compare.
        prediction: null there, and where all returns are equal.
    """

    what: str
    records: Count
    jobs: Count
    note: str | None = None
    neighbours: NeighbourFigures | None = None
    prediction: PredictionFigures | None = None


class Diagnosis(Message):
    """Whether what a study's jobs remember can serve other jobs.

    Attributes:
        neighbours: K, how many nearest neighbours of each record were looked at.
        keys: one for each space of keys.
        note: why there is none.
    """

    study: Name
    strategy: str
    neighbours: Count
    keys: list[KeyDiagnosis]
    note: str | None = None


class ScheduleRow(Message):
    """One decision as the job used it.

    Attributes:
        applied: whether the job used these hyperparameters; it used its defaults otherwise.
        as_proposed: whether they are what was proposed; else the job said what it used instead.
        held: whether it was asked while an earlier decision held, which it repeats.
    """

    job_id: str
    sequence: Count
    update_step: Count
    env_step: Count
    applied: bool
    as_proposed: bool = True
    explored: bool
    held: bool = False
    hyperparameters: dict[str, Value]
    hyper_return: Finite | None


class Schedule(Message):
    """The schedule that each job of a study used."""

    study: Name
    hyperparameters: list[str]
    rows: list[ScheduleRow]


class Health(Message):
    """The answer of `/livez` and `/readyz`."""

    status: Literal["ok", "starting", "failing"]
    checks: dict[str, str] = Field(default_factory=dict)
