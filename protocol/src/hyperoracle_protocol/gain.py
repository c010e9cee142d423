"""What a study's decisions gained over the defaults, and what exploring cost."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hyperoracle_protocol.base import Count, Finite, Message, Name
from hyperoracle_protocol.jobs import Role

Verdict = Literal["too_few", "none", "better", "worse", "more_often_better", "more_often_worse"]
"""What is shown of the group. `better`: that a random job of it does better than a random one of
the baseline with a probability above ½, or that its mean is better, and by its value the other one
at least not worse. `more_often_better`: one of them is shown, but while its jobs do better more
often, they do worse on the mean. `too_few`: either group has fewer than 5."""


class Interval(Message):
    """A statistic and its 95 % interval, which holds however often one looks.

    Attributes:
        value: of the jobs so far.
        low: null, as is `high`, where there are too few jobs to bound it: fewer than 5 of either
            group, of a mean fewer than 20; or where all jobs have the same score.
        high: of the interval.
    """

    value: Finite
    low: Finite | None
    high: Finite | None


class ScoreComparison(Message):
    """One kind of score, in the group and in the baseline.

    Attributes:
        jobs: of the group that have the score.
        baseline_jobs: of the baseline.
        mean: of the group, as the jobs reported it.
        baseline_mean: of the baseline.
        difference: of the means; above 0 the group did better, whatever the study's direction.
            Null, as are the next two, where either group has fewer than `jobs_needed`.
        relative: the difference over the size of the baseline's mean; null where that may be 0.
        probability_of_improvement: that a random job of the group does better than a random one
            of the baseline, ties counting half.
        verdict: what these show, at all looks together false with a probability of at most 5 %
            where there is no difference; null from an earlier release.
        in_words: the same for people, also where there is no evidence.
    """

    jobs: Count
    baseline_jobs: Count
    mean: Finite | None
    baseline_mean: Finite | None
    difference: Interval | None
    relative: Interval | None
    probability_of_improvement: Interval | None
    verdict: Verdict | None = None
    in_words: str


class RoleComparison(Message):
    """Whole jobs of one role against those of another.

    Attributes:
        group: the role that is compared,
        baseline: with this one.
        final_return: mean return over the last tenth of the planned env steps.
        mean_return: area under the learning curve over its length in env steps.
    """

    group: Role
    baseline: Role
    final_return: ScoreComparison
    mean_return: ScoreComparison


class GuardReport(Message):
    """What a strategy's guards did.

    Attributes:
        jobs_back_at_default: jobs whose return fell unusually while they were away from it.
        times_behind: how often the exploiting jobs were shown to be behind the controls.
        jobs_until_freed: how many jobs must still end before exploiting jobs may leave the
            defaults; 0 while they may.
    """

    jobs_back_at_default: Count
    times_behind: Count
    jobs_until_freed: Count


class EndCounts(Message):
    """How the jobs of one role ended.

    Attributes:
        running: have not ended.
        whole: came to their planned end.
        reached: ended before it because they were good enough.
        interrupted: were stopped before it for another reason.
        lapsed: were not heard of any more.
        failed: broke down.
        diverged: their returns ended as numbers that are not finite.
        without_return: of those that ended, how many never brought a return.
        with_lost_returns: how many brought returns that were not finite, whether they ended or not.
    """

    running: Count = 0
    whole: Count = 0
    reached: Count = 0
    interrupted: Count = 0
    lapsed: Count = 0
    failed: Count = 0
    diverged: Count = 0
    without_return: Count = 0
    with_lost_returns: Count = 0


class StudyGain(Message):
    """Whether a study helps: over the jobs that ended, however they ended."""

    study: Name
    direction: Literal["maximise", "minimise"]
    jobs_needed: Count = Field(description="Whole jobs in either group, for any statistic.")
    whole_jobs: dict[Role, Count] = Field(
        description="By role, those that came to their planned end."
    )
    whole_jobs_without_scores: Count = Field(
        description="Of these, how many no return is known of, or that began under a release that "
        "kept no learning curves."
    )
    ends: dict[Role, EndCounts] = Field(
        default_factory=dict, description="By role, how jobs ended."
    )
    jobs_of_other_tasks: Count = Field(
        default=0,
        description="Jobs that ended but are not compared: they are of another environment or "
        "length than most.",
    )
    gain_over_default: RoleComparison = Field(description="`exploit` against `control`.")
    regret_of_exploration: RoleComparison = Field(
        description="`control` against `explore`: what exploring cost."
    )
    neighbours_read: Count = Field(description="Over all proposals.")
    neighbours_from_other_jobs: Finite | None = Field(
        description="Share of them that other jobs left; null before the first."
    )
    memory_reads: Count = Field(
        description="Proposals that were decided, not held, with a look into the memory."
    )
    memory_hit_rate: Finite | None = Field(
        description="Share of these for which the memory knew anything; null before the first, and "
        "for strategies without a memory."
    )
    guards: GuardReport | None = Field(default=None, description="Null of strategies without any.")
