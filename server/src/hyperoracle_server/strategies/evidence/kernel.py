"""The kernel that weighs neighbours, and the weighted mean of Eq. 3. Pure NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

KERNEL_OFFSET = 1e-3
"""Keeps the similarity of a key to itself finite (1000)."""


def similarity(squared_distances: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """How much a neighbour counts: Sim(i, k) = 1 / (d² + 1e-3).

    Args:
        squared_distances: *squared* Euclidean distances, float64, any shape, each ≥ 0;
            infinity marks an absent neighbour and gives 0.

    Returns:
        Similarities in [0, 1000], float64, of the same shape.

    Source: the inverse-distance kernel of Pritzel et al., Neural Episodic Control, ICML 2017,
    Eq. 5, which Le et al., Episodic Policy Gradient Training, AAAI 2022, use in Eq. 3 and 4.
    """
    return np.reciprocal(squared_distances + KERNEL_OFFSET)


def weighted_values(
    squared_distances: Float[np.ndarray, "neighbours groups"],
    values: Float[np.ndarray, "neighbours groups"],
) -> tuple[Float[np.ndarray, " groups"], Bool[np.ndarray, " groups"]]:
    """The kernel-weighted mean value of each column.

    Args:
        squared_distances: float64, each ≥ 0, nearest first in each column; infinity where the
            neighbour is absent (always after those present).
        values: finite float64; anything finite where the neighbour is absent.

    Returns:
        The means, float64, each between the least and the greatest value of its column
        (0 for a column without neighbours), and which columns have a neighbour.

    Source: Le et al., Episodic Policy Gradient Training, AAAI 2022, Eq. 3.
    """
    present = squared_distances != np.inf
    known = present[0]
    all_known = known.all()
    weights = similarity(squared_distances)
    total = weights.sum(axis=0)
    if not all_known:
        total[~known] = 1.0
    # Weights are divided first: a sum of similarity x value could overflow, a mean can only
    # through rounding, next to the largest float.
    weights /= total
    values = np.where(present, values, values[0])
    weights *= values
    with np.errstate(over="ignore"):
        means = weights.sum(axis=0)
    # Rounding may step over the ends.
    np.maximum(means, values.min(axis=0), out=means)
    np.minimum(means, values.max(axis=0), out=means)
    if not all_known:
        means[~known] = 0.0
    return means, known
