"""Whether exploiting jobs fall behind the controls: a test that may be looked at after every job.

A usual test looked at after every job trips by chance sooner or later. These bounds hold at all
times together: under no difference, the probability that one of them *ever* excludes 0 is at most
alpha, asymptotically. With few jobs that is measured, in this module's tests: at alpha 5 %, 0.5 to
2.8 % of 400 studies trip within 200 jobs, normal, skewed or heavy-tailed; a deficit of one standard
deviation is found within 52 jobs, a fifth of them controls, in half of all studies.

The difference of two means, times its information n m / (n + m), moves like a Brownian motion with
drift in that information as its time, whatever the order of roles, if a role does not depend on
what is yet to come. It gets the boundary of Robbins' normal mixture, with an estimated variance.

Source: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and
asymptotic confidence sequences", Annals of Statistics 2024, the one-sided boundary of Appendix B;
Robbins, "Statistical methods related to the law of the iterated logarithm", 1970.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hyperoracle_server.strategies.value_model.advantages import LIMIT, MAD_TO_DEVIATION

if TYPE_CHECKING:
    from jaxtyping import Float

LEAST_JOBS = 4
"""Of each group; with fewer nothing is said."""

TUNED_FOR = 10.0
"""The information n m / (n + m) at which the bounds are about the tightest: 62 jobs of which a
fifth are controls."""


class Bounds(NamedTuple):
    """Of the mean difference exploit − control of winsorised scores, in the scores' unit.

    Each holds on its own at the level alpha, at all times together; both at twice that.

    Attributes:
        lower: float64 [...]; −inf while there are too few jobs.
        upper: float64 [...]; inf while there are too few jobs.
    """

    lower: Float[np.ndarray, "*studies"]
    upper: Float[np.ndarray, "*studies"]


def confidence_sequence(
    exploit: Float[np.ndarray, "*studies exploiting"],
    control: Float[np.ndarray, "*studies controls"],
    alpha: float = 0.05,
    tuned_for: float = TUNED_FOR,
) -> Bounds:
    """Bounds of the mean difference that hold however often they are looked at.

    All scores are first winsorised at the pooled median ± 3 scaled median absolute deviations:
    one job that exploded counts as any extreme one, and both groups are cut at the same limits.

    Args:
        exploit: finite scores of exploiting jobs, greater is better; leading axes are studies.
        control: those of the controls.
        alpha: the level of each bound, in (0, 0.5).
        tuned_for: the information n m / (n + m) at which they are to be tightest, above 0.
    """
    n, m = exploit.shape[-1], control.shape[-1]
    if min(n, m) < LEAST_JOBS:
        nothing = np.full(exploit.shape[:-1], np.inf)
        return Bounds(-nothing, nothing)
    scores = winsorised(np.concatenate((exploit, control), axis=-1))
    x, y = scores[..., :n], scores[..., n:]
    information = n * m / (n + m)
    # Around the common mean, so that two groups which are each of one value by chance have a
    # variance; apart, so that controls of a greater spread than the rest are not taken for sure.
    together = scores.var(axis=-1, ddof=1) / information
    apart = x.var(axis=-1, ddof=1) / n + y.var(axis=-1, ddof=1) / m
    half_width = np.sqrt(np.maximum(together, apart)) * boundary(information, alpha, tuned_for)
    difference = x.mean(axis=-1) - y.mean(axis=-1)
    return Bounds(difference - half_width, difference + half_width)


def falls_behind(
    exploit: Float[np.ndarray, " exploiting"],
    control: Float[np.ndarray, " controls"],
    alpha: float = 0.05,
) -> bool:
    """Whether the exploiting jobs are shown to do worse than the controls.

    It is memoryless: who acts on it decides when to stop doing so.

    Args:
        exploit: finite float64 scores in order of arrival, greater is better.
        control: those of the controls.
        alpha: greatest probability that this is ever said where there is no difference.
    """
    return bool(confidence_sequence(exploit, control, alpha).upper < 0.0)


def boundary(information: float, alpha: float, tuned_for: float) -> float:
    """How many standard errors a one-sided bound lies from the estimate.

    Args:
        information: t, above 0.
        alpha: in (0, 0.5).
        tuned_for: the information for which no other choice makes it much smaller.

    Source: Waudby-Smith et al., Appendix B, and their choice of rho for a time, at 2 alpha as the
    bound is one-sided.
    """
    doubt = -2.0 * math.log(2.0 * alpha)
    rho_squared = (doubt + math.log1p(doubt)) / tuned_for
    spread = information * rho_squared + 1.0
    tail = math.log1p(math.sqrt(spread) / (2.0 * alpha))
    return math.sqrt(2.0 * spread / (information * rho_squared) * tail)


def winsorised(scores: Float[np.ndarray, "*studies jobs"]) -> Float[np.ndarray, "*studies jobs"]:
    """Scores cut off at their median ± 3 scaled median absolute deviations.

    Where more than half of the scores are equal, the mean absolute deviation takes the MAD's part.
    """
    median = np.median(scores, axis=-1, keepdims=True)
    deviations = np.abs(scores - median)
    scale = MAD_TO_DEVIATION * np.median(deviations, axis=-1, keepdims=True)
    scale = np.where(scale == 0.0, deviations.mean(axis=-1, keepdims=True), scale)
    limited: Float[np.ndarray, "*studies jobs"] = np.clip(
        scores, median - LIMIT * scale, median + LIMIT * scale
    )
    return limited
