"""How the jobs of one study end: what each counts for, what is worst, what jobs die of.

Here the pure accounts (`job_account`, `exposure`) meet the jobs in mind and their hyper-agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyperoracle_server.strategies.decisions import CurvePoint
from hyperoracle_server.strategies.evidence.exposure import Avoided, Hazards, Life, hazards_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hyperoracle_protocol.jobs import Role
    from hyperoracle_server.oracle.job import JobState
    from hyperoracle_server.strategies.base import HyperAgent
    from hyperoracle_server.strategies.evidence.job_account import Ending, EndReason
    from hyperoracle_server.strategies.grid import HyperActionGrid


class Endings:
    """The endings of a study's jobs. Every method expects the caller to hold the study's lock.

    Args:
        agent: is told of each ending.
        grid: the joint hyper-actions.
        jobs: the study's, by public id; read, never changed.
        sign: −1 where less is better in the study.
    """

    def __init__(
        self,
        agent: HyperAgent[Any],
        grid: HyperActionGrid,
        jobs: Mapping[str, JobState],
        sign: float,
    ) -> None:
        self._agent = agent
        self._grid = grid
        self._jobs = jobs
        self._sign = sign
        self._worst: dict[str, float] | None = None  # return by task; None: to be looked for
        self._hazards: Hazards | None = None  # of the jobs that ended; None: to be looked at anew

    def settle(self, job: JobState, reason: EndReason) -> Ending:
        """Say what a job counts for that ends now, and let the hyper-agent know."""
        others = [
            other.curve
            for other in self._jobs.values()
            if other is not job and other.task == job.task and other.ending is not None
            if other.curve is not None
        ]
        ending = job.account.end(reason, job.env_step, self.worst_of(job), others)
        if job.credit.lost_decisions or job.counts.applied_differently:
            # It says nothing of what was decided.
            ending = job.account.say_nothing()
        self._hazards = None
        self._agent.close(job.id, ending)
        job.hyper_agent_notes = self._agent.notes(job.id)
        return ending

    def reopen(self, job: JobState) -> None:
        """Take a job back that had ended, or had fallen silent."""
        if job.ending is None:
            return
        job.account.ending = None
        self._hazards = None
        self._agent.reopen(job.id)
        job.hyper_agent_notes = self._agent.notes(job.id)

    def observe(self, job: JobState, curve: Sequence[tuple[int, float | None]]) -> None:
        """Tell account and hyper-agent of returns; to the latter a lost one is the floor.

        Args:
            job: whose they are.
            curve: (env step, return in the study's own direction, None where it was lost).
        """
        points = [(env_step, None if g is None else self._sign * g) for env_step, g in curve]
        if job.curve is not None:
            job.curve.extend(points)
            self.note_worst(job)
        floor = self.worst_of(job)
        known = [(env_step, floor if value is None else value) for env_step, value in points]
        seen = [CurvePoint.of(env_step, value) for env_step, value in known if value is not None]
        if seen:
            self._agent.observe(job.id, seen)

    def heard_of(self, job: JobState) -> None:
        """Take a running job back that had fallen silent."""
        if job.status == "running":
            self.reopen(job)

    def worst_of(self, job: JobState) -> float | None:
        """The worst return of the job's task, greater being better; None where none is known."""
        if self._worst is None:
            self._worst = {}
            for each in self._jobs.values():
                self.note_worst(each)
        return self._worst.get(job.task)

    def note_worst(self, job: JobState) -> None:
        """Look at a job whose returns have become more."""
        least = None if job.curve is None else job.curve.least
        if least is not None and self._worst is not None:
            self._worst[job.task] = min(least, self._worst.get(job.task, least))

    def floor_of(self, job: JobState) -> float | None:
        """`worst_of` in the study's own direction."""
        worst = self.worst_of(job)
        return None if worst is None else self._sign * worst

    @property
    def knows_hazards(self) -> bool:
        """Whether it need not look at all its jobs again to see of what jobs died."""
        return self._hazards is not None

    def avoided_by(self, role: Role) -> Avoided:
        """Bins that jobs of this role keep off because jobs died of them."""
        if self._hazards is None:
            lives = [
                Life(job.account.exposure, job.total_env_steps, job.ending.is_dead)
                for job in self._jobs.values()
                if job.ending is not None and job.ending.shown > 0.0
            ]
            self._hazards = hazards_of(lives, self._grid)
        return self._hazards.shown if role == "explore" else self._hazards.suspect
