"""What is noted of a job whose decisions are held: its decisions, and the returns after each."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from hyperoracle_server.strategies.evidence.learning_curve import LEVELS
from hyperoracle_server.strategies.value_model.advantages import advantage

if TYPE_CHECKING:
    from hyperoracle_server.strategies.evidence.job_account import Ending

UNKNOWN = -1
"""In the place of a hyper-action: the job used values of its own."""


class JudgedDecision(NamedTuple):
    """A decision and what came of it, raw.

    Attributes:
        progress: env steps made over env steps planned at the decision, in [0, 1].
        before: the return G then.
        hyper_action: joint index.
        advantage: see `advantages.advantage`, in units of the return.
    """

    progress: float
    before: float
    hyper_action: int
    advantage: float


class HeldDecision(NamedTuple):
    """A decision as it was made; its JSON is a list.

    Attributes:
        sequence: of the request.
        env_step: made at.
        hyper_action: joint index, or `UNKNOWN`.
        before: the return G then; None where none was known.
    """

    sequence: int
    env_step: int
    hyper_action: int
    before: float | None


class EndedJob(NamedTuple):
    """A job that ended, as the study's guard knows it.

    Attributes:
        role: `exploit`, `control`, or another, which is not compared.
        is_free: whether exploiting jobs might leave the defaults when it began.
        score: what it counts for, greater is better; None where nothing is known.
        task: jobs are compared with jobs of the same.
    """

    role: str
    is_free: bool
    score: float | None
    task: str = ""


@dataclass
class Course:
    """A job's way so far; JSON values only, so that it is a note (see `strategies.notes`).

    Attributes:
        total_env_steps: planned; 0 before the first decision.
        env_step: of the newest return.
        first: the first known return G; None before it.
        newest: the newest.
        decisions: in order.
        after: [weight, total] of the returns between each decision and the next.
        levels: the return at 1/16, 2/16, ... of the job, as far as it is, for quantiles and usual
            changes.
        role: of the job; empty before its first decision.
        task: of the job; jobs are compared within one.
        chance: per hyperparameter and bin the standard normal numbers of an exploring job.
        is_free: whether the study let exploiting jobs leave the default at its first decision.
        fell: whether a fall of the return has brought it back to the default.
        ended: 1 for the study's first job that ended, 2 for the second ...; 0 while it runs.
        outcome: how it ended, see `job_account.EndKind`; empty while it runs.
        floor: the worst return of the job's task when it ended; None where none was known.
        last: what a job counts with from there on that was stopped because it was good enough.
        score: what it counts for since it ended; None where nothing is known.
        shown: the share of its plan that it says something about.
    """

    total_env_steps: int = 0
    env_step: int = 0
    first: float | None = None
    newest: float | None = None
    decisions: list[HeldDecision] = field(default_factory=list)
    after: list[list[float]] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    role: str = ""
    task: str = ""
    chance: list[list[float]] = field(default_factory=list)
    is_free: bool = True
    fell: bool = False
    ended: int = 0
    outcome: str = ""
    floor: float | None = None
    last: float | None = None
    score: float | None = None
    shown: float = 0.0

    def __post_init__(self) -> None:
        """Take decisions as JSON brings them."""
        self.decisions = [HeldDecision(*each) for each in self.decisions]

    @property
    def as_ended_job(self) -> EndedJob:
        """The job as the study's guard knows it."""
        return EndedJob(self.role, self.is_free, self.score, self.task)

    def end(self, ending: Ending) -> None:
        """Note what the job counts for."""
        self.outcome, self.floor, self.last = ending.kind, ending.floor, ending.last
        self.score, self.shown = ending.score, ending.shown

    def reopen(self) -> None:
        """The job goes on."""
        self.ended, self.outcome = 0, ""
        self.floor, self.last, self.score, self.shown = None, None, None, 0.0

    @property
    def _missing(self) -> tuple[int, float]:
        """Env steps that the job did not come to but that count, and what they count with."""
        steps = max(0, self.total_env_steps - self.env_step)
        if self.outcome in ("failed", "diverged", "lapsed") and self.floor is not None:
            return steps, self.floor
        if self.outcome == "reached" and self.last is not None:
            return steps, self.last
        return 0, 0.0

    def decide(self, sequence: int, env_step: int, hyper_action: int) -> None:
        """Note a decision."""
        self.decisions.append(HeldDecision(sequence, env_step, hyper_action, self.newest))
        self.after.append([0, 0.0])

    def replace(self, sequences: Iterable[int], hyper_action: int) -> None:
        """Note that the job used another hyper-action in the place of what was decided."""
        for number, decision in enumerate(self.decisions):
            if decision.sequence in sequences:
                self.decisions[number] = decision._replace(hyper_action=hyper_action)

    def observe(self, env_step: int, value: float) -> None:
        """Note a return G; those of one job come in order of their env steps.

        It counts for the decision that was in force before `env_step`, also where a later one has
        been made by now: reports are sent in the background.
        """
        steps = max(0, env_step - self.env_step)
        self.env_step = max(self.env_step, env_step)
        self.first = value if self.first is None else self.first
        self.newest = value
        for number in reversed(range(len(self.decisions))):
            if self.decisions[number].env_step < env_step:
                self.after[number][0] += steps
                self.after[number][1] += steps * value
                break
            self.decisions[number] = self.decisions[number]._replace(before=value)
        while (
            self.total_env_steps
            and len(self.levels) < LEVELS
            and env_step * LEVELS >= (len(self.levels) + 1) * self.total_env_steps
        ):
            self.levels.append(value)

    def judged(self, start: float) -> list[JudgedDecision]:
        """The decisions that returns are known for.

        Args:
            start: stands for the return before the first decision where none was known: a typical
                one. The job's own first return would not do, as the decision has moved it already.

        A job that was interrupted counts up to where it came. One that was lost counts to its
        planned end, with the worst return of its task as what is missing; one that was stopped
        because it was good, with its last return.
        """
        if self.outcome and not self.shown:
            return []
        after = [tuple(each) for each in self.after]
        missing, value = self._missing
        if missing and after:
            after[-1] = (after[-1][0] + missing, after[-1][1] + missing * value)
        weight, total, found = 0.0, 0.0, []
        for decision, (own_weight, own_total) in zip(
            reversed(self.decisions), reversed(after), strict=True
        ):
            weight += own_weight
            total += own_total
            before = start if decision.before is None else decision.before
            if own_weight and decision.hyper_action != UNKNOWN:
                found.append(
                    JudgedDecision(
                        progress_of(decision.env_step, self.total_env_steps),
                        before,
                        decision.hyper_action,
                        advantage(before, own_total / own_weight, total / weight),
                    )
                )
        return found[::-1]


def progress_of(env_step: int, total_env_steps: int) -> float:
    """Env steps made over env steps planned, in [0, 1]; 0 where none are planned."""
    return min(1.0, env_step / total_env_steps) if total_env_steps else 0.0


def quantile(value: float | None, ascending: Sequence[float]) -> float:
    """The share of values below this one, equal ones half; ½ where there is nothing to compare."""
    if value is None or not ascending:
        return 0.5
    below, through = bisect.bisect_left(ascending, value), bisect.bisect_right(ascending, value)
    return 0.5 * (below + through) / len(ascending)


def pooled_levels(courses: Iterable[Course]) -> dict[str, list[float]]:
    """By task the levels of all its jobs, ascending."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for course in courses:
        found[course.task] += course.levels
    return {task: sorted(levels) for task, levels in found.items()}
