"""How alike the effects of two bins of one hyperparameter are, the default's effect being 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

BIN_LENGTH = 1.5
"""Length scale of the radial basis function over the numbers of ordered bins."""


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
