"""How two groups of scores differ, and what may be said of it after every job.

Two statistics speak. The *probability of improvement* weighs every job alike and needs few of them;
the *difference of the means* feels by how much, and what a rare failure costs, and needs more.

Source: the probability of improvement as in Agarwal et al., "Deep Reinforcement Learning at the
Edge of the Statistical Precipice", NeurIPS 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hyperoracle_protocol.gain import Verdict
from hyperoracle_server.views.confidence_sequences import (
    LEAST_JOBS,
    AnytimeInterval,
    mean_difference,
    probability_of_improvement,
    relative_difference,
)

if TYPE_CHECKING:
    from jaxtyping import Float


class AnytimeEstimate(NamedTuple):
    """A statistic and its 95 % interval, which holds however often one looks.

    Attributes:
        value: of the groups.
        low: None, as is `high`, where there are too few jobs to bound it.
        high: of the interval.
    """

    value: float
    low: float | None
    high: float | None


class GroupComparison(NamedTuple):
    """One group against another.

    Attributes:
        difference: of the means, group − baseline; None where it is beyond the numbers.
        relative: the difference over the size of the baseline's mean; None where that may be 0.
        probability_of_improvement: that a random member of the group exceeds a random one of the
            baseline, ties counting half (Mann-Whitney), in [0, 1].
        verdict: what is shown. `better`: the probability of improvement above ½ or the difference
            above 0, and the other one at least not below by its value; `worse` likewise;
            `more_often_better`: one of them is shown, but the better one more often does worse on
            the mean; `more_often_worse` the other way round.
    """

    difference: AnytimeEstimate | None
    relative: AnytimeEstimate | None
    probability_of_improvement: AnytimeEstimate
    verdict: Verdict


def compare(
    group: Float[np.ndarray, " group"], baseline: Float[np.ndarray, " baseline"]
) -> GroupComparison:
    """Compare two groups; the order within a group does not matter.

    Args:
        group: finite float64 scores, greater is better, at least one.
        baseline: those of the other group, at least one.
    """
    improvement = probability_of_improvement(group, baseline)
    with np.errstate(over="ignore"):  # what is beyond the numbers is left out
        difference = mean_difference(group, baseline)
    is_enough = min(len(group), len(baseline)) >= LEAST_JOBS
    return GroupComparison(
        difference=_estimate(difference),
        relative=_estimate(relative_difference(group, baseline)),
        probability_of_improvement=AnytimeEstimate(
            float(improvement.value), _finite(improvement.low), _finite(improvement.high)
        ),
        verdict=_VERDICTS[int(verdicts(improvement, difference))] if is_enough else "too_few",
    )


_VERDICTS: tuple[Verdict, ...] = (
    "none", "better", "more_often_better", "more_often_worse", "worse"
)  # fmt: skip


def verdicts(improvement: AnytimeInterval, difference: AnytimeInterval) -> np.ndarray:
    """What is shown: int64 [...]; 0 nothing, 1 better, 2 and 3 as below, 4 worse.

    What is more often better and worse on the mean is 2, what is more often worse and better on
    the mean 3; one of the two is shown, the other the estimate.
    """
    more_often = np.sign(improvement.value - 0.5)
    on_the_mean = np.sign(difference.value)
    shown_often = (improvement.low > 0.5).astype(int) - (improvement.high < 0.5)
    shown_mean = (difference.low > 0.0).astype(int) - (difference.high < 0.0)
    is_shown = (shown_often != 0) | (shown_mean != 0)
    is_mixed = more_often * on_the_mean < 0.0
    direction = np.where(shown_often != 0, shown_often, shown_mean)
    plain = np.where(direction > 0, 1, 4)
    return np.where(is_shown, np.where(is_mixed, np.where(more_often > 0, 2, 3), plain), 0)


def _estimate(bounds: AnytimeInterval) -> AnytimeEstimate | None:
    value = float(bounds.value)
    if not np.isfinite(value):
        return None
    return AnytimeEstimate(value, _finite(bounds.low), _finite(bounds.high))


def _finite(number: np.ndarray) -> float | None:
    return float(number) if np.isfinite(number) else None
