"""The few statistics that runs are compared by: pure functions of arrays.

What claims rest on, the mean gain and the probability of improvement, has intervals that hold at
the sizes at which they speak: `benchmarks/experiment_claims.py` measures it. The percentile
bootstrap, for whatever else is drawn or tabled, describes: from few replicates it is too narrow.

The statistics are those of rliable, whose repository is archived.

Source: Agarwal, Schwarzer, Castro, Courville, Bellemare, "Deep Reinforcement Learning at the Edge
of the Statistical Precipice", NeurIPS 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Statistic = Callable[..., Array]
"""Takes samples, each float64 [resamples, replicates, ...], and returns [resamples, ...]."""

RESAMPLES = 2000
"""Of a bootstrap, unless another number is asked for."""


@dataclass(frozen=True)
class Estimate:
    """A statistic and how sure it is; all are arrays of one shape, [] for a number.

    Attributes:
        value: of the samples themselves.
        low: of the 95 % interval; of a bootstrap the 2.5 % quantile over resamples.
        high: of the 95 % interval; of a bootstrap the 97.5 % quantile.
        lower_bound: the one-sided 95 % lower bound; of a bootstrap the 5 % quantile.
    """

    value: Array
    low: Array
    high: Array
    lower_bound: Array


def bootstrap(
    statistic: Statistic,
    samples: Sequence[Array],
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Estimate a statistic by the stratified percentile bootstrap.

    Args:
        statistic: what is estimated.
        samples: float64 [replicates, ...] each; every one is resampled on its own, with
            replacement, along its replicates. Where runs share a memory, a replicate is a memory.
        generator: of the resampling.
        resamples: how many.

    Raises:
        ValueError: a sample is empty.
    """
    _check(samples)
    drawn = [
        sample[generator.integers(len(sample), size=(resamples, len(sample)))] for sample in samples
    ]
    over = statistic(*drawn)
    low, bound, high = np.quantile(over, (0.025, 0.05, 0.975), axis=0)
    return Estimate(statistic(*(sample[None] for sample in samples))[0], low, high, bound)


def mean_of_bounded(
    samples: Sequence[Array],
    least: float,
    greatest: float,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Estimate the mean over samples of the means of values that have bounds.

    Each sample's values get random weights, and one more value, the least possible one for the
    lower end and the greatest for the upper one, gets a weight like theirs: what no replicate has
    shown may still happen to the next. Of values 0 and 1 that is the interval of Clopper and
    Pearson. A bootstrap of 50 gains without a disaster calls it safe, however rare disasters are.

    Args:
        samples: float64 [replicates] each, one of every task.
        least: of possible values; a value below it moves it there.
        greatest: likewise.
        generator: of the weights.
        resamples: how many.

    Raises:
        ValueError: a sample is empty.

    Source: Gaffke, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a
    nonnegative variable", Mathematical Methods of Statistics 2005; Phan, Thomas, Learned-Miller,
    "Towards Practical Mean Bounds for Small Samples", ICML 2021.
    """
    _check(samples)
    low, high = np.zeros(resamples), np.zeros(resamples)
    for sample in samples:
        weights = generator.dirichlet(np.ones(len(sample) + 1), size=resamples)
        known = weights[:, :-1] @ sample
        low += known + weights[:, -1] * min(least, float(sample.min()))
        high += known + weights[:, -1] * max(greatest, float(sample.max()))
    value = float(np.mean([sample.mean() for sample in samples]))
    lowest, bound = np.quantile(low / len(samples), (0.025, 0.05))
    highest = np.quantile(high / len(samples), 0.975)
    return Estimate(
        np.asarray(value),
        np.minimum(lowest, value),
        np.maximum(highest, value),
        np.minimum(bound, value),
    )


def improvement(pairs: Sequence[tuple[Array, Array]]) -> Estimate:
    """Estimate the mean over tasks of the probabilities that a better one exceeds a worse one.

    The interval holds the probabilities p from which the estimate lies few enough standard errors
    away, by either of two variances: the permutation distribution's, ties included, times
    4 p (1 − p), and that of the placements, the shares of the other sample that lie below a value,
    to which either sample adds one placement of 0 and one of 1. Where runs of equal seeds are alike
    it is wider than need be.

    Args:
        pairs: of each task what may be better and what may be worse, float64 [replicates] each, at
            least one.

    Source: Brunner and Munzel, "The nonparametric Behrens-Fisher problem", Biometrical Journal
    2000; Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    _check([sample for pair in pairs for sample in pair])
    value, alike, apart = np.mean([_improvement(*pair) for pair in pairs], axis=0)
    alike, apart = alike / len(pairs), apart / len(pairs)
    normal = NormalDist()
    two_sided, one_sided = normal.inv_cdf(0.975), normal.inv_cdf(0.95)
    low, high = _around(value, alike, apart, two_sided)
    bound, _ = _around(value, alike, apart, one_sided)
    return Estimate(*(np.asarray(each) for each in (value, low, high, bound)))


def _improvement(better: Array, worse: Array) -> tuple[float, float, float]:
    """Return the probability of improvement and its variances, alike (at ½) and apart."""
    n, m = len(better), len(worse)
    pooled = np.concatenate((better, worse))
    wins = (np.sign(pooled[:, None] - pooled) + 1.0) / 2.0  # of each over each, with itself ½
    placed = wins[:n, n:]
    ranks = wins.sum(axis=1)
    alike = ranks.var(ddof=1) / (n * m * (n + m))
    apart = sum(
        float(np.var([*placements, 0.0, 1.0], ddof=1)) / len(placements)
        for placements in (placed.mean(axis=1), placed.mean(axis=0))
    )
    return float(placed.mean()), float(alike), apart


def _around(value: float, alike: float, apart: float, errors: float) -> tuple[float, float]:
    k = 4.0 * errors**2 * alike
    centre = (2.0 * value + k) / (2.0 * (1.0 + k))
    width = math.sqrt(k * k + 4.0 * k * value * (1.0 - value)) / (2.0 * (1.0 + k))
    half_width = errors * math.sqrt(apart)
    low, high = min(centre - width, value - half_width), max(centre + width, value + half_width)
    return max(min(low, value), 0.0), min(max(high, value), 1.0)


def mean(sample: Array) -> Array:
    """Return the mean over replicates: [resamples, replicates, ...] to [resamples, ...]."""
    return np.asarray(sample.mean(axis=1))


def interquartile_mean(*samples: Array) -> Array:
    """Return the mean of the middle half of all samples' values together.

    A quarter of the values, rounded down, is left out at either end.

    Args:
        *samples: float64 [resamples, replicates, ...] each, such as one for each task.

    Returns:
        float64 [resamples, ...].
    """
    values = np.sort(np.concatenate(samples, axis=1), axis=1)
    cut = values.shape[1] // 4
    return np.asarray(values[:, cut : values.shape[1] - cut].mean(axis=1))


def performance_profile(sample: Array, thresholds: Array) -> Array:
    """Return the share of replicates with a score above each threshold.

    Args:
        sample: float64 [resamples, replicates].
        thresholds: float64 [thresholds].

    Returns:
        float64 [resamples, thresholds], from 0 to 1.
    """
    return np.asarray((sample[:, :, None] > thresholds).mean(axis=1))


def _check(samples: Sequence[Array]) -> None:
    if any(len(sample) == 0 for sample in samples):
        raise ValueError("samples: expected at least one replicate each, got none; leave it out")
