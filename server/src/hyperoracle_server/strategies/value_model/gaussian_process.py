"""What bins are worth in a context: a Gaussian process with the default as its fixed point.

An advantage is r = b(x) + Σ_h A_h(x, a_h) + noise: what happens at context x whatever is done, and
the effect of each hyperparameter's bin a_h, with A_h(x, default) = 0 everywhere. Both are Gaussian
processes with mean 0:

    cov b   = v_b (½ + ½ k(x, x'))
    cov A_h = v_A K_h(a, a') (ρ + (1 − ρ) k(x, x')),    k(x, x') = exp(−|x − x'|² / (2 · 0.7²))

so a bin that nobody tried has effect 0 with an honest variance, and an effect that holds in all
contexts (ρ = 1) is learned from all of them. The four scales are those of a small grid that make
the records most likely, with a weak prior towards small effects.

Source:
    Rasmussen and Williams, "Gaussian Processes for Machine Learning" (MIT Press 2006), Eq. 2.25,
    2.26 and 2.30; additive kernels as in Duvenaud et al., "Additive Gaussian Processes" (NeurIPS
    2011).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

CONTEXT_LENGTH = 0.7
_JITTER = 1e-9

BIN_LENGTH = 1.5
"""Length scale of the radial basis function over the numbers of ordered bins."""


class Scales(NamedTuple):
    """What a model is made from; advantages are standardised, so that 1 is their own scale.

    Attributes:
        baseline_variance: v_b.
        effect_variance: v_A.
        context_free_share: ρ, within [0, 1].
        noise_variance: of one advantage.
    """

    baseline_variance: float
    effect_variance: float
    context_free_share: float
    noise_variance: float


SCALES = tuple(
    Scales(*each)
    for each in itertools.product(
        (0.3, 1.0), (0.03, 0.1, 0.3, 1.0), (1.0, 0.5, 0.0), (0.15, 0.4, 0.9)
    )
)
"""The grid that `fitted` chooses from."""


class Records(NamedTuple):
    """Decisions and what came of them.

    Attributes:
        contexts: where each was made, float64, about ±1 in every dimension.
        bins: the bin of each hyperparameter.
        advantages: standardised, float64.
    """

    contexts: Float[np.ndarray, "records dimensions"]
    bins: Int[np.ndarray, "records hyperparameters"]
    advantages: Float[np.ndarray, " records"]


class Effects(NamedTuple):
    """What is known of one hyperparameter's bins in one context.

    Attributes:
        means: expected advantages over the default.
        covariance: of these advantages; row and column of the default are 0.
    """

    means: Float[np.ndarray, " bins"]
    covariance: Float[np.ndarray, "bins bins"]


def bin_kernel(count: int, default: int, *, ordered: bool) -> Float[np.ndarray, "bins bins"]:
    """Prior covariance of the effects of a hyperparameter's bins.

    A function over the bins with a radial basis function as its kernel is told that it is 0 at the
    default: k(i, j) − k(i, d) k(d, j). So the default has no effect and no variance, bins near it
    have little, and what is learned on one side of it says little about the other.

    Args:
        count: number of bins, at least 1.
        default: number of the default's bin.
        ordered: whether bins of neighbouring numbers are alike; else all are equally unlike, as
            neighbours are.

    Returns:
        Symmetric, positive semi-definite, float64; row and column ``default`` are 0.
    """
    numbers = np.arange(count)
    distances = np.abs(numbers[:, np.newaxis] - numbers)
    if not ordered:
        distances = np.minimum(distances, 1)
    kernel: Float[np.ndarray, "bins bins"] = np.exp(-0.5 * (distances / BIN_LENGTH) ** 2)
    return kernel - np.outer(kernel[:, default], kernel[default])


class EffectModel:
    """Records under given scales.

    Args:
        records: at least none.
        bin_kernels: of each hyperparameter, see `bin_kernel`.
        scales: see `Scales`.

    Attributes:
        scales: as given.
        log_likelihood: logarithm of the advantages' density under the model.
    """

    def __init__(
        self,
        records: Records,
        bin_kernels: Sequence[Float[np.ndarray, "bins bins"]],
        scales: Scales,
    ) -> None:
        self.scales = scales
        self._records = records
        self._bin_kernels = bin_kernels
        covariance = _Parts.of(records, bin_kernels).covariance(scales)
        self._factor = np.linalg.cholesky(covariance)
        whitened = _whitened(self._factor, records.advantages)
        # Lᵀ w = z is the same kind of problem with rows and columns in reverse order.
        self._weights = _whitened(self._factor.T[::-1, ::-1], whitened[::-1])[::-1]
        self.log_likelihood = _log_density(self._factor, whitened)

    def effects(self, context: Float[np.ndarray, " dimensions"], hyperparameter: int) -> Effects:
        """The posterior of one hyperparameter's bins.

        Args:
            context: where a decision is to be made.
            hyperparameter: its number.
        """
        scales, kernel = self.scales, self._bin_kernels[hyperparameter]
        share = scales.context_free_share
        near = share + (1.0 - share) * context_kernel(context[np.newaxis], self._records.contexts)
        tried = kernel[:, self._records.bins[:, hyperparameter]]  # [bins, records]
        shared = scales.effect_variance * tried * near
        explained = _whitened(self._factor, shared.T)
        covariance = scales.effect_variance * kernel - explained.T @ explained
        return Effects(shared @ self._weights, covariance)


def fitted(records: Records, bin_kernels: Sequence[Float[np.ndarray, "bins bins"]]) -> EffectModel:
    """The model whose scales fit the records best, small effects being a little more likely.

    The prior density of v_A is proportional to 1 / √v_A. Without records the smallest effects win.
    """
    parts = _Parts.of(records, bin_kernels)

    def log_posterior(scales: Scales) -> float:
        factor = np.linalg.cholesky(parts.covariance(scales))
        whitened = _whitened(factor, records.advantages)
        return _log_density(factor, whitened) - 0.5 * math.log(scales.effect_variance)

    return EffectModel(records, bin_kernels, max(SCALES, key=log_posterior))


def context_kernel(
    left: Float[np.ndarray, "left dimensions"], right: Float[np.ndarray, "right dimensions"]
) -> Float[np.ndarray, "left right"]:
    """How alike contexts are: exp(−|x − x'|² / (2 · 0.7²))."""
    differences = left[:, np.newaxis] - right
    squared = (differences**2).sum(axis=2)
    kernel: Float[np.ndarray, "left right"] = np.exp(-0.5 * squared / CONTEXT_LENGTH**2)
    return kernel


class _Parts(NamedTuple):
    """What the covariance of the advantages is added up from, whatever the scales."""

    contexts: Float[np.ndarray, "records records"]
    effects: Float[np.ndarray, "records records"]

    @classmethod
    def of(cls, records: Records, bin_kernels: Sequence[Float[np.ndarray, "bins bins"]]) -> _Parts:
        count = len(records.advantages)
        effects = np.zeros((count, count))
        for number, kernel in enumerate(bin_kernels):
            tried = records.bins[:, number]
            effects += kernel[np.ix_(tried, tried)]
        return cls(context_kernel(records.contexts, records.contexts), effects)

    def covariance(self, scales: Scales) -> Float[np.ndarray, "records records"]:
        share = scales.context_free_share
        baseline = scales.baseline_variance * (0.5 + 0.5 * self.contexts)
        effects = scales.effect_variance * self.effects * (share + (1.0 - share) * self.contexts)
        noise = (scales.noise_variance + _JITTER) * np.eye(len(self.contexts))
        return baseline + effects + noise


def _whitened(
    factor: Float[np.ndarray, "records records"], given: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Solve L z = y by forward substitution; NumPy's own solver would decompose L again."""
    solved = np.empty(given.shape)
    for row in range(len(given)):
        solved[row] = (given[row] - factor[row, :row] @ solved[:row]) / factor[row, row]
    return solved


def _log_density(
    factor: Float[np.ndarray, "records records"], whitened: Float[np.ndarray, " records"]
) -> float:
    """Of a normal distribution by its Cholesky factor L, at y with L⁻¹ y given."""
    log_determinant = 2.0 * float(np.log(np.diagonal(factor)).sum())
    square = float(whitened @ whitened)
    return -0.5 * (square + log_determinant + len(whitened) * math.log(2.0 * math.pi))
