"""Intervals for how two groups differ that hold however often one looks: pure functions of arrays.

Who looks after every job and stops at the first "better" finds one sooner or later with a usual
95 % interval. These hold at all looks together: where there is no difference, the probability that
an interval *ever* excludes it is at most 5 %, asymptotically. How that is with few jobs and ugly
scores is measured by `benchmarks/gain_claims.py`, whose table is in `docs/explanation/gain.md`.

An estimate of a difference, in standard errors, moves like a Brownian motion over the square root
of its time, the information n m / (n + m), whatever the order of roles, if a role does not depend
on what is yet to come. `standard_errors_at` is a boundary that such a motion rarely crosses.

Standard errors are chosen so that few jobs are not taken for sure: the greater one of "both groups
are alike" and "each has its own spread".

Source: Robbins, "Statistical methods related to the law of the iterated logarithm", Annals of
Mathematical Statistics 1970; Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central
limit theory and asymptotic confidence sequences", Annals of Statistics 2024; Brunner and Munzel,
"The nonparametric Behrens-Fisher problem", Biometrical Journal 2000 (placements and their
variances).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

LEAST_JOBS = 5
"""Of each group; with fewer there are no bounds."""

LEAST_JOBS_FOR_MEANS = 20
"""Of each group, for bounds of a difference of means. A rare failure moves a mean, and no method
sees it before it has happened: one in 15 % of a group's jobs is still unseen in 44 % of studies
with 5 of its jobs, in 20 % with 10 and in 4 % with 20. The probability of improvement has no such
trouble: nothing can move it by more than the share of jobs that it happens to."""

ALPHA = 0.05
"""Probability that an interval ever excludes the truth: half of it on either side."""

_FIRST_INFORMATION = LEAST_JOBS / 2.0  # n m / (n + m) at LEAST_JOBS of each: the first look
_NORMAL = NormalDist()


class AnytimeInterval(NamedTuple):
    """A statistic and its 95 % interval, which contains it and holds at all looks together.

    Attributes:
        value: float64 [...].
        low: float64 [...]; −inf where nothing can be said.
        high: float64 [...]; inf where nothing can be said.
    """

    value: Float[np.ndarray, "*studies"]
    low: Float[np.ndarray, "*studies"]
    high: Float[np.ndarray, "*studies"]


def probability_of_improvement(
    group: Float[np.ndarray, "*studies group"], baseline: Float[np.ndarray, "*studies baseline"]
) -> AnytimeInterval:
    """That a random member of the group exceeds a random one of the baseline, ties counting half.

    With θ the probability, its estimate is the mean of the *placements*: the share of the other
    group that lies below a score. The interval holds those θ from which the estimate lies at most
    `standard_errors_at` standard errors away, by either of two variances: that of the permutation
    distribution, ties included, times 4 θ (1 − θ), and that of the placements, group by group.
    To the latter each group adds one placement at 0 and one at 1: a few jobs that all lie on one
    side of the others have no spread to show, whatever it is.

    Args:
        group: finite scores, greater is better, at least one; leading axes are studies.
        baseline: those of the other group.
    """
    n, m = group.shape[-1], baseline.shape[-1]
    ranks = midranks(np.concatenate((group, baseline), axis=-1))
    of_group = (ranks[..., :n] - midranks(group)) / m  # [..., n]
    of_baseline = (ranks[..., n:] - midranks(baseline)) / n  # [..., m]
    value = of_group.mean(axis=-1)
    if min(n, m) < LEAST_JOBS:
        return _unbounded(value)
    errors = standard_errors_at(n * m / (n + m))
    apart = _variance_with_ends(of_group) / n + _variance_with_ends(of_baseline) / m
    low, high = value - errors * np.sqrt(apart), value + errors * np.sqrt(apart)
    # (value − θ)² ≤ k θ (1 − θ), solved for θ; `alike` is the variance at θ = ½.
    alike = ranks.var(axis=-1, ddof=1) / (n * m * (n + m))
    k = 4.0 * errors**2 * alike
    centre = (2.0 * value + k) / (2.0 * (1.0 + k))
    width = np.sqrt(k**2 + 4.0 * k * value * (1.0 - value)) / (2.0 * (1.0 + k))
    low = np.minimum(np.minimum(low, centre - width), value)
    high = np.maximum(np.maximum(high, centre + width), value)
    return AnytimeInterval(value, np.maximum(low, 0.0), np.minimum(high, 1.0))


def mean_difference(
    group: Float[np.ndarray, "*studies group"], baseline: Float[np.ndarray, "*studies baseline"]
) -> AnytimeInterval:
    """The difference of the means, group − baseline, in the scores' unit.

    Args:
        group: finite scores, at least one; leading axes are studies.
        baseline: those of the other group.

    Returns:
        Without bounds where there are fewer than `LEAST_JOBS_FOR_MEANS` of either, or where all
        scores are equal.
    """
    x, y, exponent = _in_unit_range(group, baseline)
    n, m = x.shape[-1], y.shape[-1]
    difference = x.mean(axis=-1) - y.mean(axis=-1)
    value = np.ldexp(difference, exponent)
    if min(n, m) < LEAST_JOBS_FOR_MEANS:
        return _unbounded(value)
    error = np.sqrt(sum(_variances_of_means(x, y)))
    half_width = np.where(error > 0.0, standard_errors_at(n * m / (n + m)) * error, np.inf)
    low, high = difference - half_width, difference + half_width
    return AnytimeInterval(value, np.ldexp(low, exponent), np.ldexp(high, exponent))


def relative_difference(
    group: Float[np.ndarray, "*studies group"], baseline: Float[np.ndarray, "*studies baseline"]
) -> AnytimeInterval:
    """The difference of the means over the size of the baseline's.

    The interval holds the ratios r for which group − r baseline may have the mean 0.

    Args:
        group: finite scores, at least one; leading axes are studies.
        baseline: those of the other group.

    Returns:
        An interval as for `mean_difference`; NaN throughout where the baseline's mean may be 0, or
        with fewer than `LEAST_JOBS` of either: then nobody knows whether it may be.

    Source: Fieller, "Some problems in interval estimation", JRSS B 1954.
    """
    x, y, _ = _in_unit_range(group, baseline)
    n, m = x.shape[-1], y.shape[-1]
    own, other = x.mean(axis=-1), y.mean(axis=-1)
    if min(n, m) < LEAST_JOBS:
        return AnytimeInterval(*(np.full(own.shape, np.nan) for _ in range(3)))
    squared_errors = standard_errors_at(n * m / (n + m)) ** 2
    of_own, of_other = _variances_of_means(x, y)
    # a r² − 2 b r + c ≤ 0, solved for r.
    a, b, c = (
        other**2 - squared_errors * of_other, own * other, own**2 - squared_errors * of_own
    )  # fmt: skip
    with np.errstate(all="ignore"):  # what is no number becomes NaN just below
        value = own / other
        width = np.sqrt(np.maximum(b**2 - a * c, 0.0)) / a
        low, high = np.minimum(b / a - width, value), np.maximum(b / a + width, value)
        low, high = (
            np.sign(other) * (end - 1.0)
            for end in (np.where(other > 0.0, low, high), np.where(other > 0.0, high, low))
        )
        value = np.sign(other) * (value - 1.0)
    known = (a > 0.0) & np.isfinite(low) & np.isfinite(high)
    unsure = (of_own + of_other == 0.0) | (min(n, m) < LEAST_JOBS_FOR_MEANS)
    low, high = np.where(unsure, -np.inf, low), np.where(unsure, np.inf, high)
    return AnytimeInterval(*(np.where(known, each, np.nan) for each in (value, low, high)))


@lru_cache(maxsize=4096)
def standard_errors_at(information: float) -> float:
    """How many standard errors either bound lies from the estimate; 2.8 at first, 3.5 at 250.

    A Brownian motion W over its time t from t₀ on, the first look's, has W(t) / √t ever above u(t)
    with the probability α / 2, where h(u(t)) = h(a) + log(t / t₀), h(u) = u² + 2 log Φ(u), and a
    is such that 1 − Φ(a) + φ(a) (a + φ(a) / Φ(a)) = α / 2.

    Args:
        information: t = n m / (n + m), at least that of `LEAST_JOBS` of each.

    Source: Robbins 1970: the mixture of all drifts above 0 with the same weight.
    """
    ratio = max(information / _FIRST_INFORMATION, 1.0)
    wanted = _squared(_at_first()) + math.log(ratio)
    return _solved(lambda u: _squared(u) - wanted)


@lru_cache(maxsize=1)
def _at_first() -> float:
    def less_than_half_alpha(a: float) -> float:
        density, below = _NORMAL.pdf(a), _NORMAL.cdf(a)
        return ALPHA / 2.0 - (1.0 - below + density * (a + density / below))

    return _solved(less_than_half_alpha)


def _squared(u: float) -> float:
    return u * u + 2.0 * math.log(_NORMAL.cdf(u))


def _solved(rising: Callable[[float], float]) -> float:
    """Where a function that rises is 0, between 0.5 and 30, by halving."""
    low, high = 0.5, 30.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (low, middle) if rising(middle) > 0.0 else (middle, high)
    return high


def midranks(scores: Float[np.ndarray, "*studies jobs"]) -> Float[np.ndarray, "*studies jobs"]:
    """Ranks from 1 on along the last axis; equal scores share the mean of theirs."""
    count = scores.shape[-1]
    order = np.argsort(scores, axis=-1)
    ordered = np.take_along_axis(scores, order, axis=-1)
    differs = ordered[..., 1:] != ordered[..., :-1]
    edge = np.ones((*scores.shape[:-1], 1), dtype=bool)
    place = np.arange(count)
    begins = np.where(np.concatenate((edge, differs), axis=-1), place, 0)
    ends = np.where(np.concatenate((differs, edge), axis=-1), place, count - 1)
    first = np.maximum.accumulate(begins, axis=-1)
    last = np.minimum.accumulate(ends[..., ::-1], axis=-1)[..., ::-1]
    ranks = np.empty(scores.shape)
    np.put_along_axis(ranks, order, (first + last) / 2.0 + 1.0, axis=-1)
    return ranks


def _unbounded(value: Float[np.ndarray, "*studies"]) -> AnytimeInterval:
    nothing = np.full(value.shape, np.inf)
    return AnytimeInterval(value, -nothing, nothing)


def _variance_with_ends(
    placements: Float[np.ndarray, "*studies jobs"],
) -> Float[np.ndarray, "*studies"]:
    ends = np.broadcast_to(np.array([0.0, 1.0]), (*placements.shape[:-1], 2))
    return np.asarray(np.concatenate((placements, ends), axis=-1).var(axis=-1, ddof=1))


def _in_unit_range(
    group: Float[np.ndarray, "*studies group"], baseline: Float[np.ndarray, "*studies baseline"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both over a power of two, which rounds nothing, so that squares stay numbers; and its log."""
    greatest = np.maximum(np.abs(group).max(axis=-1), np.abs(baseline).max(axis=-1))
    exponent = np.frexp(greatest)[1]
    down = -exponent[..., None]
    return np.ldexp(group, down), np.ldexp(baseline, down), exponent


def _variances_of_means(
    x: Float[np.ndarray, "*studies group"], y: Float[np.ndarray, "*studies baseline"]
) -> tuple[np.ndarray, np.ndarray]:
    """Of both means, by the groups' own spreads or by the common one: what is more in sum.

    The common one, around the common mean, gives groups a variance which are each of one value by
    chance; their own ones are for a small group of a greater spread.
    """
    n, m = x.shape[-1], y.shape[-1]
    together = np.concatenate((x, y), axis=-1).var(axis=-1, ddof=1)
    own, other = x.var(axis=-1, ddof=1) / n, y.var(axis=-1, ddof=1) / m
    alike = together / n + together / m > own + other
    return np.where(alike, together / n, own), np.where(alike, together / m, other)
