"""How two groups of scores differ, and how sure that is: pure functions of arrays.

Source: the percentile bootstrap, Efron and Tibshirani, "An Introduction to the Bootstrap", 1993;
the probability of improvement as in Agarwal et al., "Deep Reinforcement Learning at the Edge of
the Statistical Precipice", NeurIPS 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

RESAMPLES = 2000
"""Of the bootstrap, where there are no more than 1000 jobs; fewer where there are more."""

_LEAST_RESAMPLES = 400
_DRAWS = RESAMPLES * 1000

_CELLS = 1_000_000
"""So many numbers of all resamples are held at a time."""


class Estimate(NamedTuple):
    """A statistic of the groups and its 95 % percentile interval."""

    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """One group against another.

    Attributes:
        mean: of the group.
        baseline_mean: of the other.
        difference: of the means, group − baseline.
        relative: the difference over the baseline's mean without its sign; None where a resample
            of the baseline has a mean of 0 or of the other sign: 0 is then too near to divide by.
        probability_of_improvement: that a random member of the group exceeds a random one of the
            baseline, ties counting half (Mann-Whitney), in [0, 1].
    """

    mean: float
    baseline_mean: float
    difference: Estimate
    relative: Estimate | None
    probability_of_improvement: Estimate


def compare(
    group: Float[np.ndarray, " group"],
    baseline: Float[np.ndarray, " baseline"],
    rng: np.random.Generator,
) -> Comparison:
    """Compare two groups by the bootstrap; each is resampled on its own.

    Args:
        group: finite float64 scores, greater is better, at least one.
        baseline: those of the other group, at least one.
        rng: of the resampling.
    """
    n = len(group)
    values, ranks = np.unique(np.concatenate((group, baseline)), return_inverse=True)
    at_once = max(1, _CELLS // (len(ranks) + len(values)))
    resamples = min(RESAMPLES, max(_LEAST_RESAMPLES, _DRAWS // len(ranks)))
    parts = []
    for first in range(0, resamples, at_once):
        count = min(at_once, resamples - first)
        drawn_group = ranks[rng.integers(n, size=(count, n))]
        drawn_baseline = ranks[n + rng.integers(len(baseline), size=(count, len(baseline)))]
        parts.append(_statistics(values, drawn_group, drawn_baseline))
    over = np.concatenate(parts, axis=1)
    found = _statistics(values, ranks[None, :n], ranks[None, n:])[:, 0]
    own, other, improvement = found
    own_over, other_over, improvement_over = over
    relative = None
    if other != 0.0 and bool((np.sign(other_over) == np.sign(other)).all()):
        with np.errstate(all="ignore"):  # a ratio that is no number is left out just below
            relative_over = (own_over - other_over) / np.abs(other_over)
            relative = _estimate((own - other) / abs(other), relative_over)
        relative = relative if np.isfinite(relative).all() else None
    return Comparison(
        mean=float(own),
        baseline_mean=float(other),
        difference=_estimate(own - other, own_over - other_over),
        relative=relative,
        probability_of_improvement=_estimate(improvement, improvement_over),
    )


def _statistics(
    values: Float[np.ndarray, " values"],
    group: Int[np.ndarray, "resamples group"],
    baseline: Int[np.ndarray, "resamples baseline"],
) -> Float[np.ndarray, "statistics=3 resamples"]:
    """Both means and the probability of improvement, of scores given by their ranks."""
    rows = np.arange(len(baseline))[:, None]
    cells = (rows * len(values) + baseline).ravel()
    counts = np.bincount(cells, minlength=len(baseline) * len(values))
    counts = counts.reshape(len(baseline), len(values))
    below = np.cumsum(counts, axis=1) - 0.5 * counts  # of the baseline, ties half
    improvement = below[rows, group].mean(axis=1) / baseline.shape[1]
    return np.stack((values[group].mean(axis=1), values[baseline].mean(axis=1), improvement))


def _estimate(value: float, over: Float[np.ndarray, " resamples"]) -> Estimate:
    low, high = np.quantile(over, (0.025, 0.975))
    return Estimate(float(value), float(low), float(high))
