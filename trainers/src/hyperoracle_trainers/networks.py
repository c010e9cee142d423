"""The actor-critic: separate tanh trunks, orthogonal weights; and its fast twin for rollouts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn
from torch.nn import functional

from hyperoracle_trainers.distributions import distribution_for


class ActorCritic(nn.Module):
    """A policy and a state-value function that share no weights.

    ``named_parameters()`` yields, in this order: ``actor.*``, ``critic.*`` (weight before bias,
    first layer first) and for continuous actions ``distribution.log_std``.

    Args:
        observation_size: length of an observation.
        action_space: decides the distribution over actions.
        hidden_sizes: units of each tanh layer of either trunk.
        seed: decides the initial weights.
    """

    def __init__(
        self,
        observation_size: int,
        action_space: Box | Discrete,
        hidden_sizes: Sequence[int],
        seed: int,
    ) -> None:
        super().__init__()
        distribution = distribution_for(action_space)
        generator = torch.Generator().manual_seed(seed)
        outputs = distribution.output_size
        self.actor = _mlp((observation_size, *hidden_sizes, outputs), 0.01, generator)
        self.critic = _mlp((observation_size, *hidden_sizes, 1), 1.0, generator)
        self.distribution = distribution
        self._actor_layers = _linear_layers(self.actor)
        self._critic_layers = _linear_layers(self.critic)

    def values(self, observations: Tensor) -> Tensor:
        """Return the values [batch] of observations [batch, observation_size]."""
        return _forward(self._critic_layers, observations).squeeze(1)

    def log_prob_and_entropy(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities [batch] of actions and the mean entropy, in nats."""
        outputs = _forward(self._actor_layers, observations)
        return self.distribution.log_prob_and_entropy(outputs, actions)


class RolloutActor:
    """The actor of an :class:`ActorCritic`, computed in NumPy on the same memory.

    For a handful of observations torch spends its time on dispatch; NumPy is several times
    faster. The weights are views of torch's, so the actor is never out of date.

    Args:
        policy: an actor-critic on the CPU whose parameters' memory is not replaced afterwards.
    """

    def __init__(self, policy: ActorCritic) -> None:
        self.distribution = policy.distribution
        self._layers = [
            (layer.weight.detach().numpy().T, layer.bias.detach().numpy())
            for layer in _linear_layers(policy.actor)
        ]

    def outputs(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the actor's outputs [batch, output_size] (logits or means) for observations."""
        hidden = observations
        for weight, bias in self._layers[:-1]:
            hidden = hidden @ weight
            hidden += bias
            np.tanh(hidden, out=hidden)
        weight, bias = self._layers[-1]
        outputs: npt.NDArray[np.float32] = hidden @ weight + bias
        return outputs


def _linear_layers(trunk: nn.Sequential) -> tuple[nn.Linear, ...]:
    return tuple(layer for layer in trunk if isinstance(layer, nn.Linear))


def _forward(layers: Sequence[nn.Linear], inputs: Tensor) -> Tensor:
    """Return what the trunk would; calling its modules one by one costs twice as much."""
    hidden = inputs
    for layer in layers[:-1]:
        hidden = torch.tanh(functional.linear(hidden, layer.weight, layer.bias))
    return functional.linear(hidden, layers[-1].weight, layers[-1].bias)


def _mlp(sizes: Sequence[int], last_gain: float, generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [_linear(inputs, outputs, math.sqrt(2), generator), nn.Tanh()]
    layers.append(_linear(sizes[-2], sizes[-1], last_gain, generator))
    return nn.Sequential(*layers)


def _linear(inputs: int, outputs: int, gain: float, generator: torch.Generator) -> nn.Linear:
    """Return a layer with orthogonal weights and zero bias.

    Source: Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks" (ICLR 2014); gains as in Engstrom et al. (ICLR 2020).
    """
    # skip_init: the layer's own initialisation would draw from torch's global generator.
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call] # torch ships it so
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
