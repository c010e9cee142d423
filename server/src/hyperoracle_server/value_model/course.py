"""What is noted of a job whose decisions are held: its decisions, and the returns after each."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hyperoracle_server.value_model.advantages import advantage

LEVELS = 16
"""Evenly spread places of a job at which its return is kept, for quantiles and usual changes."""


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
        hyper_action: joint index.
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
        score: area under its learning curve, greater is better; None without one.
    """

    role: str
    is_free: bool
    score: float | None


@dataclass
class Course:
    """A job's way so far; JSON values only, so that it is a note (see `hyper_agents.notes`).

    Attributes:
        total_env_steps: planned; 0 before the first decision.
        env_step: of the newest return.
        first: the first known return G; None before it.
        newest: the newest.
        least: the least.
        weight: env steps that returns are known for.
        total: sum of the returns, each times the env steps since the one before.
        decisions: in order.
        after: [weight, total] of the returns between each decision and the next.
        levels: the return at 1/16, 2/16, ... of the job, as far as it is.
        role: of the job; empty before its first decision.
        chance: per hyperparameter and bin the standard normal numbers of an exploring job.
        is_free: whether the study let exploiting jobs leave the default at its first decision.
        fell: whether a fall of the return has brought it back to the default.
        ended: 1 for the study's first job that ended, 2 for the second ...; 0 while it runs.
        outcome: how it ended: `whole`, `failed`, or `interrupted`; empty while it runs.
    """

    total_env_steps: int = 0
    env_step: int = 0
    first: float | None = None
    newest: float | None = None
    least: float = math.inf
    weight: int = 0
    total: float = 0.0
    decisions: list[HeldDecision] = field(default_factory=list)
    after: list[list[float]] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    role: str = ""
    chance: list[list[float]] = field(default_factory=list)
    is_free: bool = True
    fell: bool = False
    ended: int = 0
    outcome: str = ""

    def __post_init__(self) -> None:
        """Take decisions as JSON brings them."""
        self.decisions = [HeldDecision(*each) for each in self.decisions]

    @property
    def score(self) -> float | None:
        """Mean return over the job's planned env steps; None of a job that is not at its end.

        What a failed job did not come to counts with its least return.
        """
        if self.outcome not in ("whole", "failed") or not self.weight:
            return None
        missing = self._missing_env_steps
        total = self.total + missing * self.least if missing else self.total
        return total / (self.weight + missing)

    @property
    def as_ended_job(self) -> EndedJob:
        """The job as the study's guard knows it."""
        return EndedJob(self.role, self.is_free, self.score)

    @property
    def _missing_env_steps(self) -> int:
        """What a failed job did not come to; 0 of any other."""
        is_cut = self.outcome == "failed" and self.weight
        return max(0, self.total_env_steps - self.env_step) if is_cut else 0

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
        self.least = min(self.least, value)
        self.weight += steps
        self.total += steps * value
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

        A job that was interrupted counts up to where it came. One that failed counts to its
        planned end, with its least return as what is missing.
        """
        after = [tuple(each) for each in self.after]
        missing = self._missing_env_steps
        if missing and after:
            after[-1] = (after[-1][0] + missing, after[-1][1] + missing * self.least)
        weight, total, found = 0.0, 0.0, []
        for decision, (own_weight, own_total) in zip(
            reversed(self.decisions), reversed(after), strict=True
        ):
            weight += own_weight
            total += own_total
            before = start if decision.before is None else decision.before
            if own_weight:
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


def pooled_levels(courses: Iterable[Course]) -> list[float]:
    """The levels of all jobs, ascending."""
    return sorted(level for course in courses for level in course.levels)
