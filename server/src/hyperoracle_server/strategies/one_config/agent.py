"""One hyper-action per job: what strategies share that decide once, by what whole jobs achieved."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from hyperoracle_server.strategies.base import MODEL_SECONDS, GuardState, HyperAgent
from hyperoracle_server.strategies.chance import drawn_role
from hyperoracle_server.strategies.decisions import FOR_EVER, Decision
from hyperoracle_server.strategies.notes import check_actions, check_part
from hyperoracle_server.strategies.value_model.course import EndedJob
from hyperoracle_server.strategies.value_model.falling_behind import falls_behind
from hyperoracle_server.strategies.value_model.guards import StudyGuard

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from hyperoracle_protocol.jobs import Role
    from hyperoracle_protocol.strategies import RoleSetting
    from hyperoracle_server.strategies.base import Given
    from hyperoracle_server.strategies.decisions import Evidence, Moment
    from hyperoracle_server.strategies.evidence.exposure import Avoided
    from hyperoracle_server.strategies.evidence.job_account import Ending
    from hyperoracle_server.strategies.grid import HyperActionGrid


@dataclass
class Run:
    """What is noted of a job.

    Attributes:
        hyper_action: that it was given; None before its first decision.
        explored: whether chance gave it.
        epsilon: the exploration rate then.
        propensity: the probability of this hyper-action then.
        role: of the job; empty before its first decision.
        task: of the job; jobs are compared within one.
        is_free: whether the study let exploiting jobs leave the default then.
        ended: 1 for the study's first job that ended, 2 for the second ...; 0 while it runs.
        score: what it counts for since it ended (`job_account`); None where nothing is known.
        shown: the share of its plan that it says something about.
    """

    hyper_action: int | None = None
    explored: bool = False
    epsilon: float = 0.0
    propensity: float = 1.0
    role: str = ""
    task: str = ""
    is_free: bool = True
    ended: int = 0
    score: float | None = None
    shown: float = 0.0


class OneConfigAgent(HyperAgent[Run]):
    """Gives each job one hyper-action for its whole length.

    - A job's *score* is what it counts for when it ends, however it ends (`job_account`).
    - A `control` job gets the default. A job that asked for no role is given one, see
      `chance.drawn_role`.
    - Exploiting jobs get the default, too, for a while after they fell behind the controls of
      their task (`value_model.guards.StudyGuard`).
    - Bins that jobs died of are avoided (`exposure`).

    Args:
        grid: the joint hyper-actions.
        roles: of jobs that ask for none.
    """

    def __init__(self, grid: HyperActionGrid, roles: RoleSetting) -> None:
        super().__init__(Run)
        self._grid = grid
        self._roles = roles
        self._guard: StudyGuard | None = None

    @classmethod
    def of(cls, given: Given) -> Self:
        """With the roles of the study's settings."""
        return cls(given.grid, given.strategy.roles)

    def decide_seconds(self, job_id: int, signature: str) -> float:
        """A look at all jobs, once a job."""
        del signature
        run = self._jobs.get(job_id)
        return MODEL_SECONDS if run is None or run.hyper_action is None else 0.0

    def learn_seconds(self, job_id: int, signature: str, outcomes: int) -> float:
        """All are looked at again where a job that had ended goes on."""
        del signature, outcomes
        run = self._jobs.get(job_id)
        return MODEL_SECONDS if run is not None and run.ended else 0.0

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
        explored = math.fsum(run.shown for run in self._jobs if run.explored)
        return drawn_role(self._roles, number, explored, block_stream, rng)

    @property
    def guard(self) -> StudyGuard:
        """Of the study, told of all jobs that ended."""
        if self._guard is None:
            ended = sorted((run for run in self._jobs if run.ended), key=lambda run: run.ended)
            self._guard = StudyGuard.told_of(falls_behind, map(_as_ended_job, ended))
        return self._guard

    def check_note(self, note: Run) -> None:
        """A run of this study."""
        check_actions([note.hyper_action], self._grid)
        check_part(note.role, note.shown)

    def guards(self) -> GuardState:
        """What the guard did."""
        return GuardState(0, self.guard.trips, self.guard.pause)

    def _choose(self, run: Run, moment: Moment, rng: np.random.Generator) -> None:
        run.role, run.task, run.is_free = moment.role, moment.task, self.guard.pause == 0
        if moment.role == "explore":
            candidates = self.to_explore(moment.avoided)
            run.hyper_action = candidates[int(rng.integers(len(candidates)))]
            run.explored, run.epsilon, run.propensity = True, 1.0, 1.0 / len(candidates)
        else:
            exploits = moment.role != "control" and run.is_free
            default = self._grid.default_joint_index
            run.hyper_action = self.best(moment.avoided) if exploits else default

    @abstractmethod
    def best(self, avoided: Avoided | None = None) -> int:
        """The hyper-action to exploit, none of whose bins is avoided."""

    @abstractmethod
    def to_explore(self, avoided: Avoided | None = None) -> list[int]:
        """The hyper-actions to explore, among which chance decides; at least one."""

    def scored(self) -> list[tuple[int, Run]]:
        """The jobs that ended with a decision and a score, and their numbers, by their ends."""
        found = [
            (job, run)
            for job, run in self._jobs.items()
            if run.ended and run.score is not None and run.hyper_action is not None
        ]
        return sorted(found, key=lambda numbered: numbered[1].ended)

    def evidence(self) -> Evidence | None:
        """What the choice rests on, for explanations; None where there is nothing to show."""
        return None

    def changed(self) -> None:
        """Other jobs count than before."""

    def close(self, job_id: int, ending: Ending) -> None:
        """From now on the job counts."""
        run = self._jobs.of(job_id)
        run.score, run.shown = ending.score, ending.shown
        run.ended = 1 + max((other.ended for other in self._jobs), default=0)
        self.changed()
        if self._guard is not None:
            self._guard.job_ended(_as_ended_job(run))

    def reopen(self, job_id: int) -> None:
        """The job counts no more until it ends again."""
        run = self._jobs.of(job_id)
        if run.ended:
            run.score, run.shown, run.ended, self._guard = None, 0.0, 0, None
            self.changed()


def _as_ended_job(run: Run) -> EndedJob:
    return EndedJob(run.role, run.is_free, run.score, run.task)
