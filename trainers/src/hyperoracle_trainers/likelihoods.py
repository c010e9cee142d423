"""The log-probability of actions and its gradient, written out in NumPy.

What :mod:`~hyperoracle_trainers.distributions` computes in torch, for updates so small that torch's
tape takes longer than the arithmetic.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]

_LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)


class Likelihood(Protocol):
    """Actions under a distribution.

    Attributes:
        log_probs: log-probabilities (or -densities) of the actions [batch].
        entropy: mean over the batch, in nats.
    """

    log_probs: Array
    entropy: float

    def by_outputs(self, by_log_probs: Array, by_entropy: float) -> Array:
        """Return the gradient of a loss by the actor's outputs [batch, output_size].

        Args:
            by_log_probs: the loss's gradient by the log-probabilities [batch].
            by_entropy: its derivative by the mean entropy.
        """
        ...


class CategoricalLikelihood:
    """Actions 0 … n − 1 under softmax(logits).

    Args:
        logits: [batch, n].
        actions: int64 [batch].

    Attributes:
        log_probs: [batch].
        entropy: mean over the batch, in nats.
    """

    def __init__(self, logits: Array, actions: npt.NDArray[np.int64]) -> None:
        shifted = logits - logits.max(axis=1, keepdims=True)
        exponentials = np.exp(shifted)
        sums = np.add.reduce(exponentials, axis=1, keepdims=True)
        self._all_log_probs = shifted - np.log(sums)
        self._probs = exponentials / sums
        self._chosen = np.arange(len(actions)), actions
        self.log_probs: Array = self._all_log_probs[self._chosen]
        self._entropies = -np.add.reduce(self._probs * self._all_log_probs, axis=1, keepdims=True)
        self.entropy = float(self._entropies.mean())

    def by_outputs(self, by_log_probs: Array, by_entropy: float) -> Array:
        """Return the gradient of a loss by the logits [batch, n].

        With probabilities p and entropy H of a state, ∂ log p_a / ∂ logit_j = [a = j] − p_j and
        ∂H / ∂ logit_j = −p_j (log p_j + H).
        """
        gradient: Array = self._probs * -by_log_probs[:, np.newaxis]
        gradient[self._chosen] += by_log_probs
        if by_entropy:
            surprise = self._probs * (self._all_log_probs + self._entropies)
            gradient -= surprise * (by_entropy / len(gradient))
        return gradient


class GaussianLikelihood:
    """Actions under independent normal distributions.

    Args:
        means: [batch, size].
        actions: [batch, size].
        log_std: logarithm of the standard deviations, the same in all states [size].

    Attributes:
        log_probs: log-densities [batch].
        entropy: in nats.
    """

    def __init__(self, means: Array, actions: Array, log_std: Array) -> None:
        self._precision = np.exp(-log_std)
        self._standard = (actions - means) * self._precision
        self._squares = self._standard * self._standard
        normaliser = float(log_std.sum()) + len(log_std) * _LOG_SQRT_2_PI
        self.log_probs: Array = np.add.reduce(self._squares, axis=1) * -0.5 - normaliser
        self.entropy = normaliser + 0.5 * len(log_std)

    def by_outputs(self, by_log_probs: Array, by_entropy: float) -> Array:
        """Return the gradient of a loss by the means [batch, size]; the entropy has no part."""
        del by_entropy
        gradient: Array = self._standard * self._precision * by_log_probs[:, np.newaxis]
        return gradient

    def by_log_std(self, by_log_probs: Array, by_entropy: float) -> Array:
        """Return the gradient of a loss by the logarithm of the standard deviations [size]."""
        gradient: Array = by_log_probs @ (self._squares - 1.0) + by_entropy
        return gradient
