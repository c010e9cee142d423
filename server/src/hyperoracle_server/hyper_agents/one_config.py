"""One hyper-action per job: what strategies share that decide once, by what whole jobs achieved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperoracle_protocol.hyper_state import HyperStateLayout, TensorShape
from hyperoracle_server.hyper_agents.base import (
    CurvePoint,
    Decision,
    Evidence,
    GuardState,
    MemoryEffect,
    Moment,
    Outcome,
)
from hyperoracle_server.hyper_agents.holding import FOR_EVER
from hyperoracle_server.hyper_agents.notes import WithNotes
from hyperoracle_server.hyper_agents.roles import drawn_role
from hyperoracle_server.value_model.course import EndedJob
from hyperoracle_server.value_model.falling_behind import falls_behind
from hyperoracle_server.value_model.guards import StudyGuard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from hyperoracle_protocol.jobs import FinishReason, Role
    from hyperoracle_protocol.strategies import RoleSetting
    from hyperoracle_server.hyper_actions import HyperActionGrid


@dataclass
class Run:
    """What is noted of a job.

    Attributes:
        hyper_action: that it was given; None before its first decision.
        explored: whether chance gave it.
        epsilon: the exploration rate then.
        propensity: the probability of this hyper-action then.
        env_step: of the newest return.
        weight: env steps that returns are known for.
        total: sum of the returns, each times the env steps since the one before.
        whole: whether the job came to its planned end.
        role: of the job; empty before its first decision.
        is_free: whether the study let exploiting jobs leave the default then.
        ended: 1 for the study's first job that ended, 2 for the second ...; 0 while it runs.
    """

    hyper_action: int | None = None
    explored: bool = False
    epsilon: float = 0.0
    propensity: float = 1.0
    env_step: int = 0
    weight: int = 0
    total: float = 0.0
    whole: bool = False
    role: str = ""
    is_free: bool = True
    ended: int = 0

    @property
    def score(self) -> float | None:
        """Mean return over the run's env steps; None of a run that is not whole."""
        return self.total / self.weight if self.whole and self.weight else None


class OneConfigAgent(WithNotes[Run], ABC):
    """Gives each job one hyper-action for its whole length.

    - A job's *score* is the area under its learning curve over env steps, divided by its length:
      each return G weighs as many env steps as passed since the report before. Only jobs that
      came to their planned end have one.
    - A `control` job gets the default. A job that asked for no role is given one, see
      `roles.drawn_role`; whole jobs are those that ended with something to learn from.
    - Exploiting jobs get the default, too, for a while after they fell behind the controls
      (`value_model.guards.StudyGuard`).

    Args:
        grid: the joint hyper-actions.
        roles: of jobs that ask for none.
    """

    def __init__(self, grid: HyperActionGrid, roles: RoleSetting) -> None:
        super().__init__(Run)
        self._grid = grid
        self._roles = roles
        self._guard: StudyGuard | None = None

    def layout_for(self, tensors: list[TensorShape], seed: int) -> HyperStateLayout:
        """No hyper-state is needed."""
        del tensors, seed
        return HyperStateLayout(kind="none")

    def decide(self, moment: Moment, rng: np.random.Generator) -> Decision:
        """The job's hyper-action: chosen at its first decision, the same at any later one."""
        run, evidence = self._jobs.of(moment.job_id), None
        if run.hyper_action is None:
            self._choose(run, moment, rng)
            evidence = self.evidence()
        assert run.hyper_action is not None, "just chosen"
        return Decision(
            run.hyper_action,
            run.explored,
            run.epsilon,
            run.propensity,
            evidence=evidence,
            hold_until_env_step=FOR_EVER,
        )

    def assigned_role(
        self,
        number: int,
        block_stream: Callable[[int], np.random.Generator],
        rng: np.random.Generator,
    ) -> Role:
        """Control, explore or exploit."""
        explored = sum(run.explored and run.score is not None for run in self._jobs)
        return drawn_role(self._roles, number, explored, block_stream, rng)

    @property
    def guard(self) -> StudyGuard:
        """Of the study, told of all jobs that ended."""
        if self._guard is None:
            ended = sorted((run for run in self._jobs if run.ended), key=lambda run: run.ended)
            self._guard = StudyGuard.told_of(falls_behind, map(_as_ended_job, ended))
        return self._guard

    def guards(self) -> GuardState:
        """What the guard did."""
        return GuardState(0, self.guard.trips, self.guard.pause)

    def _choose(self, run: Run, moment: Moment, rng: np.random.Generator) -> None:
        run.role, run.is_free = moment.role, self.guard.pause == 0
        if moment.role == "explore":
            candidates = self.to_explore()
            run.hyper_action = candidates[int(rng.integers(len(candidates)))]
            run.explored, run.epsilon, run.propensity = True, 1.0, 1.0 / len(candidates)
        else:
            exploits = moment.role != "control" and run.is_free
            run.hyper_action = self.best() if exploits else self._grid.default_joint_index

    @abstractmethod
    def best(self) -> int:
        """The hyper-action to exploit."""

    @abstractmethod
    def to_explore(self) -> list[int]:
        """The hyper-actions to explore, among which chance decides; at least one."""

    def evidence(self) -> Evidence | None:
        """What the choice rests on, for explanations; None where there is nothing to show."""
        return None

    def changed(self) -> None:
        """Other jobs count than before."""

    def learn(self, outcome: Outcome) -> MemoryEffect | None:
        """A single decision's outcome is not asked for: the whole run's is."""
        del outcome
        return None

    def observe(self, job_id: int, curve: Sequence[CurvePoint]) -> None:
        """Add returns to the area under the job's learning curve."""
        run = self._jobs.of(job_id)
        if run.ended:  # a resumed job is not at its end
            run.whole, run.ended, self._guard = False, 0, None
            self.changed()
        for point in curve:
            steps = max(0, point.env_step - run.env_step)
            run.weight += steps
            run.total += steps * point.value
            run.env_step = max(run.env_step, point.env_step)

    def close(self, job_id: int, reason: FinishReason) -> None:
        """From now on the job counts, if it came to its end."""
        run = self._jobs.of(job_id)
        run.whole = reason == "completed"
        run.ended = 1 + max((other.ended for other in self._jobs), default=0)
        self.changed()
        if self._guard is not None:
            self._guard.job_ended(_as_ended_job(run))


def _as_ended_job(run: Run) -> EndedJob:
    return EndedJob(run.role, run.is_free, run.score)
