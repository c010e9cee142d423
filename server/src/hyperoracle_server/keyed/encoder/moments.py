"""Running mean and variance of the features, and the standardisation they define."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

CLIP = 5.0
"""Standardised features are clipped to ±CLIP: gradients have heavy tails, and one wild feature
must not place a hyper-state by itself."""

COUNT_CAP = 10_000.0
"""Samples that the moments remember at most, so that they follow a drift."""

_CHUNK_ROWS = 256  # bounds the float64 copies of a large round


@dataclass(frozen=True)
class Moments:
    """Mean and (population) variance per feature, and the number of samples behind them.

    Args:
        mean: Mean per feature.
        variance: Variance per feature, ≥ 0.
        count: Effective number of samples, ≥ 0; 0 means that no sample was seen.
    """

    mean: Float[np.ndarray, " features"]
    variance: Float[np.ndarray, " features"]
    count: float

    @classmethod
    def unseen(cls, feature_count: int) -> Moments:
        """Return moments before any sample: they leave features as they are, but clipped."""
        return cls(np.zeros(feature_count), np.ones(feature_count), 0.0)

    def updated(
        self, samples: Float[np.ndarray, "samples features"], count_cap: float = COUNT_CAP
    ) -> Moments:
        """Return the moments after more samples.

        Args:
            samples: Finite hyper-states of any float dtype; sums are taken in float64.
            count_cap: Effective count is cut to this afterwards, so the next round of n samples
                weighs at least n / (count_cap + n).

        Source: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing
        sample variances, 1979: M2 = M2_a + M2_b + δ² n_a n_b / n.
        """
        mean, squares, count = self.mean, self.variance * self.count, self.count
        for start in range(0, len(samples), _CHUNK_ROWS):
            chunk = samples[start : start + _CHUNK_ROWS].astype(np.float64)
            chunk_mean = chunk.mean(axis=0)
            difference = chunk_mean - mean
            total = count + len(chunk)
            squares = (
                squares
                + np.square(chunk - chunk_mean).sum(axis=0)
                + np.square(difference) * (count * len(chunk) / total)
            )
            mean = mean + difference * (len(chunk) / total)
            count = total
        return Moments(mean, squares / count if count else self.variance, min(count, count_cap))

    def inverse_scale(self) -> Float[np.ndarray, " features"]:
        """Return 1 / standard deviation per feature, and 0 for a feature that never varied.

        A feature that was constant so far carries no information that training could have
        used; a later first deviation would be of unbounded size, so it waits for the next
        training round. The limits lie below what one least step of float16 in 10,000 samples
        causes, and above the rounding of the sums.
        """
        constant = self.variance <= 1e-20 + 1e-12 * np.square(self.mean)
        return np.where(constant, 0.0, 1.0 / np.sqrt(np.where(constant, 1.0, self.variance)))


def standardise(
    features: Float[np.ndarray, "*samples features"],
    mean: Float[np.ndarray, " features"],
    inverse_scale: Float[np.ndarray, " features"],
) -> Float[np.ndarray, "*samples features"]:
    """Return (features − mean) · inverse_scale, clipped to ±CLIP, in float32.

    Training and serving share this function, so that they see the same numbers.

    Args:
        features: Hyper-states, float16 or float32.
        mean: Mean per feature, float32.
        inverse_scale: 1 / standard deviation per feature, float32.
    """
    standardised = features.astype(np.float32)
    np.subtract(standardised, mean, out=standardised)
    np.multiply(standardised, inverse_scale, out=standardised)
    return np.clip(standardised, -CLIP, CLIP, out=standardised)
