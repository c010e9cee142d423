"""`anchored`: held decisions, valued relative to the default, by what whole jobs achieved.

A job decides a few times; each decision holds for a part of it, so that the return can answer. A
decision's advantage is compared with all others of the study in a Gaussian process over the
context (progress, quantile of the return within the study) in which the default's effect is 0, so
that nothing known means: stay there. See `docs/explanation/algorithm.md` for the equations.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Self, get_args

import numpy as np

from hyperoracle_server.strategies.base import MODEL_SECONDS, GuardState, HyperAgent
from hyperoracle_server.strategies.chance import drawn_role
from hyperoracle_server.strategies.decisions import Decision, end_of_segment
from hyperoracle_server.strategies.evidence.job_account import EndKind
from hyperoracle_server.strategies.evidence.learning_curve import LEVELS
from hyperoracle_server.strategies.evidence.shareability import SharedRecords
from hyperoracle_server.strategies.notes import check, check_actions, check_part, check_shape
from hyperoracle_server.strategies.value_model import choice
from hyperoracle_server.strategies.value_model.advantages import standardised
from hyperoracle_server.strategies.value_model.course import (
    UNKNOWN,
    Course,
    pooled_levels,
    quantile,
)
from hyperoracle_server.strategies.value_model.effects_on_grid import EffectsOnGrid
from hyperoracle_server.strategies.value_model.falling_behind import falls_behind
from hyperoracle_server.strategies.value_model.gaussian_process import (
    EffectModel,
    Effects,
    Records,
    fitted,
)
from hyperoracle_server.strategies.value_model.guards import StudyGuard, has_fallen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Float, Int

    from hyperoracle_protocol.jobs import Role
    from hyperoracle_protocol.strategies import AnchoredStrategy
    from hyperoracle_server.strategies.base import Given
    from hyperoracle_server.strategies.decisions import CurvePoint, Moment
    from hyperoracle_server.strategies.evidence.exposure import Avoided
    from hyperoracle_server.strategies.evidence.job_account import Ending
    from hyperoracle_server.strategies.grid import HyperActionGrid

MAX_RECORDS = 600
"""The newest so many decisions are modelled, exactly."""

SCALING_RECORDS = 240
"""The newest so many of them choose the model's scales."""

_DRAWS = 256
"""Samples by which the probability of a choice is estimated."""


class Knowledge(NamedTuple):
    """What the ended jobs say.

    Attributes:
        levels: by task returns of these jobs, ascending, for quantiles.
        records: their decisions.
        jobs: the number of the job whose decision each is.
        model: of the records.
    """

    levels: dict[str, list[float]]
    records: Records
    jobs: Int[np.ndarray, " records"]
    model: EffectModel


class AnchoredAgent(HyperAgent[Course]):
    """Chooses each hyperparameter's bin by its effect over the default.

    - *Explore*: the best bins of one sample of the effects, drawn once for the whole job, among the
      bins within one step of the default or of a bin that looks good; never the default alone.
    - *Exploit*: the bin with the greatest mean less `caution` standard deviations, if that is above
      0 and at least `jobs_needed` distinct jobs left the default in that direction; else the
      default.
    - *Control*: the default.
    - Back to the default: a job whose return falls unusually, for the rest of it; all exploiting
      jobs, for a while, when they fall behind the controls (`value_model.guards`).

    Args:
        grid: the joint hyper-actions.
        ordered: per hyperparameter whether its bins have an order.
        strategy: the settings.
    """

    keeps_records = True
    why_explored = "explored: a sample of what the bins may be worth, one for the whole job"
    why_chosen = (
        "the greatest cautious value over the default that enough jobs stand behind; else the "
        "default"
    )

    def __init__(
        self, grid: HyperActionGrid, ordered: Sequence[bool], strategy: AnchoredStrategy
    ) -> None:
        super().__init__(Course)
        self._grid = grid
        self._strategy = strategy
        self._on_grid = EffectsOnGrid(grid, ordered)
        self._knowledge: Knowledge | None = None
        self._guard: StudyGuard | None = None

    @classmethod
    def of(cls, given: Given) -> Self:
        """With the study's settings."""
        return cls(given.grid, given.ordered, given.strategy)

    def assigned_role(
        self,
        number: int,
        block_stream: Callable[[int], np.random.Generator],
        rng: np.random.Generator,
    ) -> Role:
        """Control, explore or exploit."""
        explored = math.fsum(course.shown for course in self._ended() if course.role == "explore")
        return drawn_role(self._strategy.roles, number, explored, block_stream, rng)

    # -- deciding ------------------------------------------------------------------------------

    def decide_seconds(self, job_id: int, signature: str) -> float:
        """The model is asked."""
        del job_id, signature
        return MODEL_SECONDS

    def learn_seconds(self, job_id: int, signature: str, outcomes: int) -> float:
        """Other jobs are looked at where one may have fallen, or goes on after its end."""
        del signature, outcomes
        course = self._jobs.get(job_id)
        return MODEL_SECONDS if course and (course.ended or self._is_away(course)) else 0.0

    def decide(self, moment: Moment, rng: np.random.Generator) -> Decision:
        """Choose every hyperparameter's bin for the next part of the job."""
        course = self._jobs.of(moment.job_id)
        if not course.decisions:
            course.total_env_steps = moment.total_env_steps
            course.role, course.task = moment.role, moment.task
            course.is_free = self.guard.pause == 0
        explores = moment.role == "explore" and not course.fell
        if explores and not course.chance:
            course.chance = [
                rng.standard_normal(count).tolist() for count in self._grid.bins_per_hyperparameter
            ]
        effects = self.effects_at(moment.progress, course.newest, course.task)
        bins, propensity = list(self._grid.default_bins), 1.0
        if explores:
            bins, propensity = self._sampled(effects, course, moment.avoided, rng)
        elif moment.role != "control" and not course.fell and self.guard.pause == 0:
            bins = self._cautious(effects, moment.avoided)
        action = self._grid.joint_index(bins)
        course.decide(moment.sequence, moment.env_step, action)
        return Decision(
            action,
            explored=explores,
            propensity=propensity,
            memory_revision=len(self.knowledge.jobs),
            evidence=self._on_grid.evidence(
                effects, self.knowledge.records.bins, self.knowledge.jobs
            ),
            hold_until_env_step=end_of_segment(
                moment.env_step, moment.total_env_steps, self._strategy.decisions_per_job
            ),
        )

    def effects_at(self, progress: float, value: float | None, task: str = "") -> list[Effects]:
        """What each hyperparameter's bins are worth at this progress and return G of a task."""
        context = context_of(progress, value, self.knowledge.levels.get(task, []))
        return [self.knowledge.model.effects(context, h) for h in range(len(self._on_grid.kernels))]

    def _sampled(
        self,
        effects: Sequence[Effects],
        course: Course,
        avoided: Avoided | None,
        rng: np.random.Generator,
    ) -> tuple[list[int], float]:
        """One sample's bins, and an estimate of how probable they were."""
        defaults = self._grid.default_bins
        allowed = [
            self._on_grid.frontier(position, each, self.knowledge.records.bins, 0.0)
            for position, each in enumerate(effects)
        ]
        if avoided is not None:
            allowed = [may & ~off for may, off in zip(allowed, avoided.bins, strict=True)]

        def bins_of(normal: Sequence[np.ndarray]) -> Int[np.ndarray, "draws hyperparameters"]:
            samples = [choice.sampled(each, z) for each, z in zip(effects, normal, strict=True)]
            return choice.explored_bins(samples, defaults, allowed)

        chosen = bins_of([np.array([z]) for z in course.chance])[0]
        others = bins_of([rng.standard_normal((_DRAWS, len(each.means))) for each in effects])
        same = int((others == chosen).all(axis=1).sum())
        return chosen.tolist(), (1 + same) / (1 + _DRAWS)

    def _cautious(self, effects: Sequence[Effects], avoided: Avoided | None) -> list[int]:
        return self._on_grid.cautious(
            effects,
            self.knowledge.records.bins,
            self.knowledge.jobs,
            caution=self._strategy.caution * (1 + self.guard.trips),
            jobs_needed=self._strategy.jobs_needed,
            only_tried=False,
            avoided=avoided,
        )

    # -- learning ------------------------------------------------------------------------------

    def observe(self, job_id: int, curve: Sequence[CurvePoint]) -> None:
        """Note returns."""
        course = self._jobs.of(job_id)
        for point in curve:
            before = len(course.levels)
            course.observe(point.env_step, point.value)
            if len(course.levels) > before and self._is_away(course):
                course.fell = course.fell or has_fallen(course, self._jobs)

    def withdraws(self, job_id: int) -> bool:
        """Whether the job holds something else than the default although its return fell."""
        course = self._jobs.of(job_id)
        return course.fell and self._is_away(course)

    def _is_away(self, course: Course) -> bool:
        default = self._grid.default_joint_index
        return bool(course.decisions) and course.decisions[-1].hyper_action != default

    def not_applied(self, job_id: int, sequences: Sequence[int]) -> None:
        """The job used its defaults instead."""
        self._jobs.of(job_id).replace(sequences, self._grid.default_joint_index)

    def used_otherwise(self, job_id: int, sequences: Sequence[int]) -> None:
        """What these decisions brought is neither theirs nor the default's."""
        self._jobs.of(job_id).replace(sequences, UNKNOWN)

    def close(self, job_id: int, ending: Ending) -> None:
        """From now on the job's decisions count."""
        course = self._jobs.of(job_id)
        course.ended = 1 + max((other.ended for other in self._jobs), default=0)
        course.end(ending)
        if self._guard is not None:
            self._guard.job_ended(course.as_ended_job)
        self._knowledge = self._known()

    def reopen(self, job_id: int) -> None:
        """The job's decisions count again when it ends again."""
        course = self._jobs.of(job_id)
        if course.ended:
            course.reopen()
            self._knowledge = self._guard = None

    def check_note(self, note: Course) -> None:
        """A course of this study."""
        decided = (decision.hyper_action for decision in note.decisions)
        check_actions((action for action in decided if action != UNKNOWN), self._grid)
        check(len(note.after) == len(note.decisions), "decisions without what came after")
        check(all(len(each) == 2 for each in note.after), "what came after decisions")
        check(len(note.levels) <= LEVELS, f"it has more than {LEVELS} levels")
        check_shape(note.chance, self._grid)
        check(note.outcome in ("", *get_args(EndKind)), "how it ended")
        check_part(note.role, note.shown)

    def counted(self, note: Course) -> Course:
        """Without the marks of decisions for which the job used values of its own."""
        known = [each._replace(hyper_action=max(0, each.hyper_action)) for each in note.decisions]
        return replace(note, decisions=known)

    def guards(self) -> GuardState:
        """What the guards did."""
        fallen = sum(course.fell for course in self._jobs)
        return GuardState(fallen, self.guard.trips, self.guard.pause)

    def shared_records(self) -> list[SharedRecords]:
        """The decisions' contexts and advantages."""
        records, jobs = self.knowledge.records, self.knowledge.jobs
        what = "progress and return quantile at each held decision, and its advantage"
        return [
            SharedRecords(records.contexts.copy(), jobs.copy(), records.advantages.copy(), what)
        ]

    # -- what is known -------------------------------------------------------------------------

    @property
    def guard(self) -> StudyGuard:
        """Of the study, told of all jobs that ended."""
        if self._guard is None:
            jobs = (course.as_ended_job for course in self._ended())
            self._guard = StudyGuard.told_of(falls_behind, jobs)
        return self._guard

    @property
    def knowledge(self) -> Knowledge:
        """What the ended jobs say."""
        if self._knowledge is None:
            self._knowledge = self._known()
        return self._knowledge

    def _jobs_that_ended(self) -> list[tuple[int, Course]]:
        """The jobs that ended after a decision, with their numbers, in the order of their ends."""
        ended = [(job, each) for job, each in self._jobs.items() if each.ended and each.decisions]
        return sorted(ended, key=lambda numbered: numbered[1].ended)

    def _ended(self) -> list[Course]:
        return [course for _, course in self._jobs_that_ended()]

    def _known(self) -> Knowledge:
        ended = self._ended()
        levels = pooled_levels(ended)
        starts = {
            task: float(np.median([c.first for c in ended if c.task == task and c.first is not None]
                                  or [0.0]))
            for task in {c.task for c in ended}
        }  # fmt: skip
        judged = [
            (job, course.task, each)
            for job, course in self._jobs_that_ended()
            for each in course.judged(starts[course.task])
        ]
        judged = judged[-MAX_RECORDS:]
        contexts = [
            context_of(each.progress, each.before, levels[task]) for _, task, each in judged
        ]
        bins = [self._grid.bins(each.hyper_action) for *_, each in judged]
        records = Records(
            np.array(contexts).reshape(-1, 2),
            np.array(bins, np.int64).reshape(-1, len(self._on_grid.kernels)),
            standardised(
                np.array([each.advantage for *_, each in judged]), [task for _, task, _ in judged]
            ),
        )
        newest = Records(*(column[-SCALING_RECORDS:] for column in records))
        scales = fitted(newest, self._on_grid.kernels).scales
        return Knowledge(
            levels,
            records,
            np.array([job for job, *_ in judged], np.int64),
            EffectModel(records, self._on_grid.kernels, scales),
        )


def context_of(
    progress: float, value: float | None, levels: Sequence[float]
) -> Float[np.ndarray, " 2"]:
    """The context x = (2 · progress − 1, 2 · quantile − 1), both in [−1, 1].

    Args:
        progress: env steps made over env steps planned.
        value: the return G; None where none is known, which is the middle.
        levels: the study's returns, ascending.
    """
    return np.array([2.0 * progress - 1.0, 2.0 * quantile(value, levels) - 1.0])
