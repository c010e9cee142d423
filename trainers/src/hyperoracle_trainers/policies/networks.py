"""The actor-critic: a tanh network or the Nature CNN, one trunk or two, orthogonal weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn
from torch.nn import functional

from hyperoracle_trainers.policies.distributions import ActionDistribution, distribution_for

SMALLEST_IMAGE = 36
"""Height and width, in pixels, below which nothing is left for the last convolution."""


class ActorCritic(nn.Module):
    """A policy and a state-value function.

    A trunk turns an observation into features: for vectors tanh layers, for images the convolutions
    of :func:`nature_layers`. A linear head turns features into the actor's outputs, another one
    into the value. Actor and critic have a trunk each, or share one.

    ``named_parameters()`` yields, in this order: ``trunk.*`` (if it is shared), ``actor.*``,
    ``critic.*`` (weight before bias, first layer first) and for continuous actions
    ``distribution.log_std``.

    Args:
        observation_shape: (size,) of a vector or (height, width, channels) of an image.
        action_space: decides the distribution over actions.
        hidden_sizes: units of each tanh layer of a trunk; images have no use for them.
        seed: decides the initial weights.
        shared_trunk: whether actor and critic share one trunk.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        action_space: Box | Discrete,
        hidden_sizes: Sequence[int],
        seed: int,
        *,
        shared_trunk: bool = False,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        distribution = distribution_for(action_space)

        def trunk() -> list[nn.Module]:
            if len(observation_shape) == 3:
                return nature_layers(observation_shape, generator)
            return tanh_layers(observation_shape[0], hidden_sizes, generator)

        def head(features: int, outputs: int, gain: float) -> nn.Module:
            return _with_orthogonal_weights(_linear(features, outputs), gain, generator)

        self.trunk = nn.Sequential(*trunk()) if shared_trunk else None
        layers = [] if self.trunk is not None else trunk()
        features = _features(self.trunk or layers, observation_shape)
        self.actor = nn.Sequential(*layers, head(features, distribution.output_size, 0.01))
        layers = [] if self.trunk is not None else trunk()
        self.critic = nn.Sequential(*layers, head(features, 1, 1.0))
        self.distribution = distribution

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return the actor's outputs [batch, output_size] and the values [batch].

        Args:
            observations: float32 [batch, size] or uint8 [batch, height, width, channels].
        """
        features = observations if self.trunk is None else self.trunk(observations)
        return self.actor(features), self.critic(features).squeeze(1)

    def outputs_and_values(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return what calling the module returns, with less to do around small layers."""
        features = observations if self.trunk is None else _passed(self.trunk, observations)
        return _passed(self.actor, features), _passed(self.critic, features).squeeze(1)

    def outputs(self, observations: Tensor) -> Tensor:
        """Return the actor's outputs [batch, output_size] alone."""
        features = observations if self.trunk is None else _passed(self.trunk, observations)
        return _passed(self.actor, features)


class Actor(Protocol):
    """The actor as a rollout uses it."""

    @property
    def distribution(self) -> ActionDistribution:
        """Distribution over actions that the outputs are of."""
        ...

    def outputs(self, observations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the outputs [batch, output_size] for observations [batch, *shape]."""
        ...

    @property
    def values(self) -> npt.NDArray[np.float32] | None:
        """The critic's values of the observations that were last acted on [batch].

        None where they are no by-product of the outputs.
        """
        ...


class NumpyActor:
    """The actor of an :class:`ActorCritic` of tanh layers, computed in NumPy on the same memory.

    For a handful of observations torch spends its time on dispatch; NumPy is several times
    faster. The weights are views of torch's, so the actor is never out of date.

    Args:
        policy: on the CPU; its parameters' memory is not replaced afterwards.
    """

    values = None

    def __init__(self, policy: ActorCritic) -> None:
        self.distribution = policy.distribution
        self._layers = [
            (layer.weight.detach().numpy().T, layer.bias.detach().numpy())
            for layer in chain(policy.trunk or (), policy.actor)
            if isinstance(layer, nn.Linear)
        ]

    def outputs(self, observations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the outputs [batch, output_size] for observations [batch, size]."""
        hidden = observations
        for weight, bias in self._layers[:-1]:
            hidden = hidden @ weight
            hidden += bias
            np.tanh(hidden, out=hidden)
        weight, bias = self._layers[-1]
        outputs: npt.NDArray[np.float32] = hidden @ weight + bias
        return outputs


class TorchActor:
    """The actor of any :class:`ActorCritic`, on whatever device it is.

    Args:
        policy: is never out of date.

    Attributes:
        values: see :class:`Actor`; not None if actor and critic share a trunk.
    """

    def __init__(self, policy: ActorCritic) -> None:
        self.distribution = policy.distribution
        self.values: npt.NDArray[np.float32] | None = None
        self._policy = policy
        self._device = next(policy.parameters()).device

    @torch.inference_mode()
    def outputs(self, observations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the outputs [batch, output_size] for observations [batch, *shape]."""
        seen = torch.from_numpy(observations).to(self._device)
        if self._policy.trunk is None:
            outputs = self._policy.outputs(seen)
        else:
            outputs, values = self._policy.outputs_and_values(seen)
            self.values = values.cpu().numpy()
        array: npt.NDArray[np.float32] = outputs.cpu().numpy()
        return array


def actor_of(policy: ActorCritic) -> Actor:
    """Return the faster actor of the two that can act for a policy.

    Args:
        policy: its parameters' memory is not replaced afterwards.
    """
    on_cpu = next(policy.parameters()).device.type == "cpu"
    small = not any(isinstance(layer, nn.Conv2d) for layer in policy.modules())
    return NumpyActor(policy) if on_cpu and small else TorchActor(policy)


class ScaledImages(nn.Module):
    """Turns bytes into numbers from 0 to 1 in the order that convolutions want.

    The result shares the memory layout of the images ("channels last"), in which convolutions are
    fast on every device.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 [batch, channels, height, width].

        Args:
            images: uint8 [batch, height, width, channels].
        """
        return images.to(torch.float32).mul_(1.0 / 255.0).permute(0, 3, 1, 2)


def tanh_layers(
    inputs: int, hidden_sizes: Iterable[int], generator: torch.Generator
) -> list[nn.Module]:
    """Return linear layers of ``hidden_sizes`` units with tanh behind each."""
    layers: list[nn.Module] = []
    for units in hidden_sizes:
        layer = _linear(inputs, units)
        layers += [_with_orthogonal_weights(layer, math.sqrt(2), generator), nn.Tanh()]
        inputs = units
    return layers


def nature_layers(shape: Sequence[int], generator: torch.Generator) -> list[nn.Module]:
    """Return the layers from an image to 512 features.

    Args:
        shape: (height, width, channels) of an image; its bytes are scaled to 0 … 1 first.
        generator: of the weights.

    Source:
        Mnih et al., "Human-level control through deep reinforcement learning" (Nature 2015),
        Methods.
    """
    height, width, channels = shape
    layers: list[nn.Module] = [ScaledImages()]
    for outputs, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
        with _global_generator_untouched():
            layer = nn.Conv2d(channels, outputs, kernel, stride)
        layers += [_with_orthogonal_weights(layer, math.sqrt(2), generator), nn.ReLU()]
        height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        channels = outputs
    layer_512 = _linear(channels * height * width, 512)
    layers += [nn.Flatten(), _with_orthogonal_weights(layer_512, math.sqrt(2), generator)]
    return [*layers, nn.ReLU()]


def _features(trunk: Iterable[nn.Module], observation_shape: Sequence[int]) -> int:
    """Return the number of features that a trunk gives; one without layers gives its input."""
    linear = [layer for layer in trunk if isinstance(layer, nn.Linear)]
    return linear[-1].out_features if linear else observation_shape[0]


def _passed(layers: nn.Sequential, inputs: Tensor) -> Tensor:
    """Return what ``layers`` would; calling small modules one by one costs twice as much."""
    hidden = inputs
    for layer in layers:
        if isinstance(layer, nn.Linear):
            hidden = functional.linear(hidden, layer.weight, layer.bias)
        elif isinstance(layer, nn.Tanh):
            hidden = torch.tanh(hidden)
        else:
            hidden = layer(hidden)
    return hidden


def _linear(inputs: int, outputs: int) -> nn.Linear:
    with _global_generator_untouched():
        return nn.Linear(inputs, outputs)


def _global_generator_untouched() -> AbstractContextManager[None]:
    """Leave torch's global generator as it is: a new layer draws weights that nobody uses.

    ``skip_init`` would not draw them, but it imports sympy, half a second of every process.
    """
    return torch.random.fork_rng(devices=())


def _with_orthogonal_weights(
    layer: nn.Linear | nn.Conv2d, gain: float, generator: torch.Generator
) -> nn.Module:
    """Give a layer orthogonal weights and zero bias, and return it.

    Source: Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks" (ICLR 2014); gains as in Engstrom et al. (ICLR 2020).
    """
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
