"""From effects to a bin: what may be tried, what chance tries, what caution takes. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hyperoracle_server.strategies.value_model.gaussian_process import Effects

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


def frontier(
    effects: Effects,
    default: int,
    tried: Bool[np.ndarray, " bins"],
    *,
    ordered: bool,
    caution: float = 0.0,
) -> Bool[np.ndarray, " bins"]:
    """The bins that may be tried.

    Args:
        effects: of one hyperparameter, in one context.
        default: the default's bin.
        tried: whether a bin has been tried at all.
        ordered: whether bins of neighbouring numbers are alike.
        caution: c ≥ 0.

    Returns:
        Of ordered bins the default, those that were tried and have a mean more than c standard
        deviations above 0, and all that are one step away from one of these; of others all.
    """
    if not ordered:
        return np.ones(len(tried), bool)
    good = tried & (effects.means - caution * _deviations(effects) > 0.0)
    good[default] = True
    near = good.copy()
    near[1:] |= good[:-1]
    near[:-1] |= good[1:]
    return near


def sampled(
    effects: Effects, normal: Float[np.ndarray, "draws bins"]
) -> Float[np.ndarray, "draws bins"]:
    """Samples of one hyperparameter's effects in one context.

    Args:
        effects: their mean and covariance.
        normal: independent standard normal numbers: the samples' chance. The same numbers in
            another context give the same function's values there.
    """
    found: Float[np.ndarray, "draws bins"] = effects.means + normal @ _root(effects.covariance)
    return found


def explored_bins(
    samples: Sequence[Float[np.ndarray, "draws _"]],
    defaults: Sequence[int],
    allowed: Sequence[Bool[np.ndarray, " _"]],
) -> Int[np.ndarray, "draws hyperparameters"]:
    """The best allowed bins of each sample, other than the default of everything.

    Controls look after the default; a job that explores would be wasted on it. Where the default
    is best for every hyperparameter, the one with the best other bin takes that.

    Args:
        samples: per hyperparameter, see `sampled`; the default's effect is 0.
        defaults: per hyperparameter its default's bin.
        allowed: per hyperparameter which bins may be tried, see `frontier`.

    Source: Thompson, "On the likelihood that one unknown probability exceeds another in view of
    the evidence of two samples", Biometrika 1933.
    """
    best, others, other_values = [], [], []
    for values, default, may in zip(samples, defaults, allowed, strict=True):
        reachable = np.where(may, values, -np.inf)
        reachable[:, default] = -np.inf
        other = reachable.argmax(axis=1)
        value = reachable.max(axis=1)
        best.append(np.where(value > 0.0, other, default))
        others.append(other)
        other_values.append(value)
    chosen = np.stack(best, axis=1)
    rows = np.flatnonzero((chosen == np.array(defaults)).all(axis=1))
    leaving = np.stack(other_values, axis=1)[rows].argmax(axis=1)
    there_is_one = np.isfinite(np.stack(other_values, axis=1)[rows, leaving])
    rows, leaving = rows[there_is_one], leaving[there_is_one]
    chosen[rows, leaving] = np.stack(others, axis=1)[rows, leaving]
    return chosen


def cautious_bin(
    effects: Effects,
    default: int,
    allowed: Bool[np.ndarray, " bins"],
    caution: float,
) -> int:
    """The bin with the greatest mean less `caution` standard deviations, if above 0; the default.

    Args:
        effects: of one hyperparameter, in one context.
        default: the default's bin, whose value is 0.
        allowed: which may be taken.
        caution: c ≥ 0.
    """
    lower = np.where(allowed, effects.means - caution * _deviations(effects), -np.inf)
    lower[default] = 0.0
    best = int(np.argmax(lower))
    return best if lower[best] > 0.0 else default


def promising(effects: Effects, default: int) -> Bool[np.ndarray, " bins"]:
    """The bins that may well beat the default: mean plus one standard deviation above 0.

    Args:
        effects: of one hyperparameter, in one context.
        default: the default's bin, which never beats itself.
    """
    may: Bool[np.ndarray, " bins"] = effects.means + _deviations(effects) > 0.0
    may[default] = False
    return may


def jobs_in_direction(
    bins: Int[np.ndarray, " records"], jobs: Int[np.ndarray, " records"], default: int,
    count: int, *, ordered: bool,
) -> Int[np.ndarray, " bins"]:  # fmt: skip
    """How many distinct jobs stand behind leaving the default for each bin.

    Args:
        bins: what each record's decision took.
        jobs: whose decision it was.
        default: the default's bin; behind it stand no jobs.
        count: number of bins.
        ordered: whether all bins on one side of the default are one direction; else each is its
            own.
    """
    found = np.zeros(count, np.int64)
    for number in range(count):
        if number == default:
            continue
        same = np.sign(bins - default) == np.sign(number - default) if ordered else bins == number
        found[number] = len(np.unique(jobs[same]))
    return found


def _deviations(effects: Effects) -> Float[np.ndarray, " bins"]:
    deviations: Float[np.ndarray, " bins"] = np.sqrt(
        np.maximum(np.diagonal(effects.covariance), 0.0)
    )
    return deviations


def _root(covariance: Float[np.ndarray, "bins bins"]) -> Float[np.ndarray, "bins bins"]:
    """The symmetric square root; it changes smoothly with the covariance."""
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    root: Float[np.ndarray, "bins bins"] = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root
