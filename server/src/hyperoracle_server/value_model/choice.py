"""From effects to a bin: what may be tried, what chance tries, what caution takes. Pure NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperoracle_server.value_model.gaussian_process import Effects

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


def frontier(
    effects: Effects, default: int, tried: Bool[np.ndarray, " bins"], *, ordered: bool
) -> Bool[np.ndarray, " bins"]:
    """The bins that may be tried.

    Args:
        effects: of one hyperparameter, in one context.
        default: the default's bin.
        tried: whether a bin has been tried at all.
        ordered: whether bins of neighbouring numbers are alike.

    Returns:
        Of ordered bins the default, those that were tried and have a mean above 0, and all that
        are one step away from one of these; of others all.
    """
    if not ordered:
        return np.ones(len(tried), bool)
    good = tried & (effects.means > 0.0)
    good[default] = True
    near = good.copy()
    near[1:] |= good[:-1]
    near[:-1] |= good[1:]
    return near


def sampled_bin(
    effects: Effects,
    default: int,
    allowed: Bool[np.ndarray, " bins"],
    normal: Float[np.ndarray, " bins"],
) -> int:
    """The best allowed bin of one sample of the effects (Thompson sampling).

    Args:
        effects: of one hyperparameter, in one context.
        default: the default's bin.
        allowed: see `frontier`.
        normal: independent standard normal numbers: the sample's chance. The same numbers in
            another context give the same function's values there.

    Source: Thompson, "On the likelihood that one unknown probability exceeds another in view of
    the evidence of two samples", Biometrika 1933.
    """
    return _best(effects.means + _root(effects.covariance) @ normal, default, allowed)


def propensities(
    effects: Effects,
    default: int,
    allowed: Bool[np.ndarray, " bins"],
    rng: np.random.Generator,
    draws: int = 256,
) -> Float[np.ndarray, " bins"]:
    """Estimates of how probable `sampled_bin` makes each bin, by counting; allowed ones above 0.

    Args:
        effects: as there.
        default: as there.
        allowed: as there.
        rng: of the counting.
        draws: how many are counted.
    """
    samples = effects.means + rng.standard_normal((draws, len(allowed))) @ _root(effects.covariance)
    chosen = np.array([_best(sample, default, allowed) for sample in samples])
    counts = np.bincount(chosen, minlength=len(allowed)) + allowed
    shares: Float[np.ndarray, " bins"] = counts / counts.sum()
    return shares


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
    deviations = np.sqrt(np.maximum(np.diagonal(effects.covariance), 0.0))
    return _best(effects.means - caution * deviations, default, allowed)


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


def _best(
    values: Float[np.ndarray, " bins"], default: int, allowed: Bool[np.ndarray, " bins"]
) -> int:
    """The allowed bin of the greatest value, the default's being 0; level ones do not beat it."""
    reachable = np.where(allowed, values, -np.inf)
    reachable[default] = 0.0
    best = int(np.argmax(reachable))
    return best if reachable[best] > 0.0 else default


def _root(covariance: Float[np.ndarray, "bins bins"]) -> Float[np.ndarray, "bins bins"]:
    """The symmetric square root; it changes smoothly with the covariance."""
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    root: Float[np.ndarray, "bins bins"] = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root
