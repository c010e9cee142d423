"""The few statistics that runs are compared by: pure functions of arrays.

The methods are those of rliable, whose repository is archived.

Source: Agarwal, Schwarzer, Castro, Courville, Bellemare, "Deep Reinforcement Learning at the Edge
of the Statistical Precipice", NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
        low: 2.5 % quantile over resamples.
        high: 97.5 % quantile: with ``low`` the 95 % percentile interval.
        lower_bound: 5 % quantile: the one-sided 95 % lower bound.
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
    if any(len(sample) == 0 for sample in samples):
        raise ValueError("samples: expected at least one replicate each, got none; leave it out")
    drawn = [
        sample[generator.integers(len(sample), size=(resamples, len(sample)))] for sample in samples
    ]
    over = statistic(*drawn)
    low, bound, high = np.quantile(over, (0.025, 0.05, 0.975), axis=0)
    return Estimate(statistic(*(sample[None] for sample in samples))[0], low, high, bound)


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


def probability_of_improvement(better: Array, worse: Array) -> Array:
    """Return the probability that a random one of ``better`` exceeds a random one of ``worse``.

    Ties count half: P(X > Y) + ½ P(X = Y), the Mann-Whitney statistic over the number of pairs.

    Args:
        better: float64 [resamples, replicates].
        worse: float64 [resamples, other replicates].

    Returns:
        float64 [resamples], from 0 to 1.
    """
    difference = better[:, :, None] - worse[:, None, :]
    return np.asarray(((np.sign(difference) + 1.0) / 2.0).mean(axis=(1, 2)))


def performance_profile(sample: Array, thresholds: Array) -> Array:
    """Return the share of replicates with a score above each threshold.

    Args:
        sample: float64 [resamples, replicates].
        thresholds: float64 [thresholds].

    Returns:
        float64 [resamples, thresholds], from 0 to 1.
    """
    return np.asarray((sample[:, :, None] > thresholds).mean(axis=1))
