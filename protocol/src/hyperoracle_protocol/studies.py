"""Studies: a search space, a strategy and a memory shared by jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from hyperoracle_protocol.base import Count, Definition, Finite, Message, Name, Positive
from hyperoracle_protocol.space import SearchSpace, check_size
from hyperoracle_protocol.strategies import (
    DEFAULT_STRATEGY,
    Strategy,
)


class ReturnSetting(Definition):
    """Which number is the return G, one for all jobs of the study.

    Attributes:
        kind: `last_episodes` (mean of the job's last `count` finished environment episodes),
            `phase_episodes` (mean of this phase's), `phase_return` (the raw discounted reward sum
            per environment, the paper's G) or `custom` (a number of the user's own).
        count: for `last_episodes`.
        direction: whether more is better.
    """

    kind: Literal["last_episodes", "phase_episodes", "phase_return", "custom"] = "last_episodes"
    count: int = Field(default=20, ge=1, le=10_000)
    direction: Literal["maximise", "minimise"] = "maximise"


class HoldSetting(Definition):
    """How long a decision is held before the next one.

    Attributes:
        updates: for so many policy updates; 1 decides at each.
        decisions_per_job: or so many decisions over the job's whole length in env steps.
    """

    updates: int = Field(default=1, ge=1, le=1_000_000)
    decisions_per_job: int | None = Field(default=None, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.decisions_per_job is not None and self.updates != 1:
            raise ValueError("expected either updates or decisions_per_job, got both")
        return self


class StudyDefinition(Definition):
    """Everything that makes a study what it is. A study with another definition is another study.

    Attributes:
        space: the hyperparameters that may be chosen.
        strategy: who chooses.
        returns: which number is the return.
        hold: how long a decision is held.
        seed: of all the study's randomness; drawn by the server if absent.
    """

    space: SearchSpace
    strategy: Strategy = DEFAULT_STRATEGY
    returns: ReturnSetting = ReturnSetting()
    hold: HoldSetting = HoldSetting()
    seed: int | None = Field(default=None, ge=0, lt=2**53)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_size(self.space)
        self.strategy.check_space(self.space)
        if self.strategy.holds and self.hold != HoldSetting():
            raise ValueError(
                f"expected no hold setting with the strategy {self.strategy.name}, which holds its "
                "decisions itself: leave it out"
            )
        return self


class MemorySearch(Message):
    """How the memory of one hyper-state layout is searched now.

    Attributes:
        graphs: search graphs that answer, one a hyper-action (one for all with the reading
            `shared`); where there is none, an exact scan answers.
        recall: the least share of true neighbours that a graph found in its worst region, at its
            last test; 1 where the scan answers all.
    """

    graphs: Count
    recall: Finite


class Study(Message):
    """A study as the server knows it."""

    name: Name
    definition: StudyDefinition
    seed: Count
    created_at: datetime
    jobs: Count = Field(description="All jobs ever started.")
    running_jobs: Count
    proposals: Count
    reports: Count
    credited_proposals: Count
    memory_size: Count = Field(description="Triples stored, over all layouts.")
    memory_capacity: Positive | None = None
    encoder_versions: dict[str, Count] = Field(
        default_factory=dict, description="Published encoder version per layout signature."
    )
    memory_search: dict[str, MemorySearch] = Field(
        default_factory=dict, description="How each layout's memory is searched, by signature."
    )
    neighbours_from_other_jobs: Finite | None = Field(
        default=None,
        description="Share of the neighbours read that other jobs left, over all proposals that "
        "read any; null before the first.",
    )


class StudyList(Message):
    """All studies, by name."""

    studies: list[Study]
