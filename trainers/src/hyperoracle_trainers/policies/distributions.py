"""What the actor's output means: a categorical or a diagonal Gaussian over actions.

Each distribution does two things. In a rollout it draws actions, in NumPy and with noise that was
drawn for the whole rollout at once. In an update it gives log-probabilities and entropies, in
torch.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

_LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)


class ActionDistribution(Protocol):
    """A family of distributions over actions, one member per actor output.

    Attributes:
        output_size: numbers that the actor gives per observation.
        action_shape: shape of one action.
        action_dtype: NumPy's type of an action.
    """

    output_size: int
    action_shape: tuple[int, ...]
    action_dtype: type[np.generic]

    def noise(
        self, generator: np.random.Generator, shape: tuple[int, ...]
    ) -> npt.NDArray[np.float32]:
        """Draw noise of shape [*shape, output_size] for :meth:`sample`."""
        ...

    def sample(
        self, outputs: npt.NDArray[np.float32], noise: npt.NDArray[np.float32]
    ) -> npt.NDArray[Any]:
        """Return actions [batch, …], a deterministic function of outputs and noise.

        Args:
            outputs: the actor's [batch, output_size].
            noise: of the same shape.
        """
        ...

    def most_likely(self, outputs: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Return the most likely action [batch, …] for outputs [batch, output_size]."""
        ...

    def log_prob_and_entropy(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities (or -densities) [batch] and the mean entropy, in nats."""
        ...


class CategoricalActions(nn.Module):
    """Distribution over the actions 0 … n − 1; the actor's outputs are its logits."""

    action_shape: tuple[int, ...] = ()
    action_dtype: type[np.generic] = np.int64

    def __init__(self, actions: int) -> None:
        super().__init__()
        self.output_size = actions

    def noise(
        self, generator: np.random.Generator, shape: tuple[int, ...]
    ) -> npt.NDArray[np.float32]:
        """Draw standard Gumbel noise: the largest logit + noise is a draw from the softmax."""
        return generator.gumbel(size=(*shape, self.output_size)).astype(np.float32)

    def sample(
        self, outputs: npt.NDArray[np.float32], noise: npt.NDArray[np.float32]
    ) -> npt.NDArray[Any]:
        """Return an int64 action per row of logits."""
        actions: npt.NDArray[np.int64] = (outputs + noise).argmax(axis=1)
        return actions

    def most_likely(self, outputs: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Return the int64 action with the largest logit per row."""
        actions: npt.NDArray[np.int64] = outputs.argmax(axis=1)
        return actions

    def log_prob_and_entropy(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities [batch] and the mean entropy, in nats."""
        log_probs = torch.log_softmax(outputs, dim=1)
        chosen = log_probs.gather(1, actions.unsqueeze(1)).squeeze(1)
        return chosen, -(log_probs.exp() * log_probs).sum(1).mean()


class DiagonalGaussian(nn.Module):
    """Normal distribution per action dimension; the actor's outputs are the means.

    Attributes:
        log_std: logarithm of the standard deviations, a parameter that depends on no state.
    """

    action_dtype: type[np.generic] = np.float32

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.output_size = dimensions
        self.action_shape: tuple[int, ...] = (dimensions,)
        self.log_std = nn.Parameter(torch.zeros(dimensions))

    def noise(
        self, generator: np.random.Generator, shape: tuple[int, ...]
    ) -> npt.NDArray[np.float32]:
        """Draw normal noise with today's standard deviations."""
        noise = generator.standard_normal((*shape, self.output_size), dtype=np.float32)
        noise *= np.exp(self.log_std.detach().cpu().numpy())
        return noise

    def sample(
        self, outputs: npt.NDArray[np.float32], noise: npt.NDArray[np.float32]
    ) -> npt.NDArray[Any]:
        """Return a float32 action per row of means."""
        actions: npt.NDArray[np.float32] = outputs + noise
        return actions

    def most_likely(self, outputs: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Return the means."""
        return outputs

    def log_prob_and_entropy(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-densities [batch] and the entropy, which is the same in every state."""
        log_scale = self.log_std.sum()
        standard = (actions - outputs) * torch.exp(-self.log_std)
        normaliser = log_scale + self.output_size * _LOG_SQRT_2_PI
        log_prob = standard.square().sum(1) * -0.5 - normaliser
        return log_prob, normaliser + 0.5 * self.output_size


def distribution_for(action_space: Box | Discrete) -> CategoricalActions | DiagonalGaussian:
    """Return the distribution that suits an action space."""
    if isinstance(action_space, Discrete):
        return CategoricalActions(int(action_space.n))
    dimensions: Any = action_space.shape
    return DiagonalGaussian(int(dimensions[0]))
