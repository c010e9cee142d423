"""One pass of a batch through an actor-critic and, if wanted, its gradient back.

An update computes its loss from three results of the pass: log-probabilities, entropy and values.
It hands the loss's gradient by these three back, and finds the gradient by all parameters where
torch would have left it. Small networks are passed in NumPy, all others by torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hyperoracle_trainers.distributions import DiagonalGaussian
from hyperoracle_trainers.likelihoods import CategoricalLikelihood, GaussianLikelihood
from hyperoracle_trainers.networks import ActorCritic
from hyperoracle_trainers.tanh_network import Layer, activations, write_gradients

Array = npt.NDArray[np.floating[Any]]


class ForwardPass(Protocol):
    """What an actor-critic says of a batch.

    Attributes:
        log_probs: of the actions, of the first observations as many as there are actions [batch].
        entropy: mean over these observations, in nats.
        values: of all observations [observations].
    """

    log_probs: Array
    entropy: float
    values: Array

    def backward(self, *, by_log_probs: Array, by_entropy: float, by_values: Array) -> None:
        """Write the gradient of a loss into every parameter's ``grad``, which it replaces.

        Args:
            by_log_probs: the loss's gradient by the log-probabilities [batch].
            by_entropy: its derivative by the mean entropy.
            by_values: its gradient by the values of the same observations [batch]; those of
                further ones do not count.
        """
        ...


Pass = Callable[[Tensor, Tensor], ForwardPass]
"""From observations [at least batch, *shape] and actions [batch, …], on the policy's device."""


def pass_of(policy: ActorCritic) -> Pass:
    """Return the fastest way to pass batches through a policy.

    Args:
        policy: the memory of its parameters and their ``grad`` is not replaced afterwards.
    """
    on_cpu = next(policy.parameters()).device.type == "cpu"
    small = not any(isinstance(layer, nn.Conv2d) for layer in policy.modules())
    if on_cpu and small and policy.trunk is None:
        arrays = _Arrays(policy)
        return lambda observations, actions: NumpyPass(arrays, observations, actions)
    return lambda observations, actions: TorchPass(policy, observations, actions)


class TorchPass:
    """A pass of any policy, by torch and its tape; see :class:`ForwardPass`."""

    def __init__(self, policy: ActorCritic, observations: Tensor, actions: Tensor) -> None:
        self._parameters = list(policy.parameters())
        outputs, values = policy.outputs_and_values(observations)
        distribution, size = policy.distribution, len(actions)
        log_probs, entropy = distribution.log_prob_and_entropy(outputs[:size], actions)
        self._results = log_probs, entropy, values[:size]
        self.log_probs: Array = log_probs.detach().cpu().numpy()
        self.entropy = float(entropy.detach())
        self.values: Array = values.detach().cpu().numpy()

    def backward(self, *, by_log_probs: Array, by_entropy: float, by_values: Array) -> None:
        """Write the gradient of a loss into every parameter's ``grad``."""
        given = zip(self._results, (by_log_probs, by_entropy, by_values), strict=True)
        by_results = [
            torch.as_tensor(each, dtype=result.dtype, device=result.device)
            for result, each in given
        ]
        gradients = torch.autograd.grad(self._results, self._parameters, by_results)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient
            else:
                parameter.grad.copy_(gradient)


class _Arrays:
    """The parameters of a policy of tanh layers and their gradients, on the same memory.

    Attributes:
        actor: the actor's layers, and so on.
        by_actor: the gradients by them, and so on.
        log_std: of a continuous policy, with the gradient by it.
    """

    def __init__(self, policy: ActorCritic) -> None:
        for parameter in policy.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.actor = _layers(policy.actor, _values_of)
        self.critic = _layers(policy.critic, _values_of)
        self.by_actor = _layers(policy.actor, _gradient_of)
        self.by_critic = _layers(policy.critic, _gradient_of)
        distribution = policy.distribution
        self.log_std: tuple[Array, Array] | None = None
        if isinstance(distribution, DiagonalGaussian):
            self.log_std = _values_of(distribution.log_std), _gradient_of(distribution.log_std)


class NumpyPass:
    """A pass of a policy of tanh layers on the CPU, in NumPy; see :class:`ForwardPass`."""

    def __init__(self, arrays: _Arrays, observations: Tensor, actions: Tensor) -> None:
        self._arrays = arrays
        seen, taken = observations.numpy(), actions.numpy()
        self._size = size = len(taken)
        self._critic = activations(seen, arrays.critic)
        self._actor = activations(seen[:size], arrays.actor)
        outputs = self._actor[-1]
        self._likelihood = (
            CategoricalLikelihood(outputs, taken)
            if arrays.log_std is None
            else GaussianLikelihood(outputs, taken, arrays.log_std[0])
        )
        self.log_probs = self._likelihood.log_probs
        self.entropy = self._likelihood.entropy
        self.values: Array = self._critic[-1][:, 0]

    def backward(self, *, by_log_probs: Array, by_entropy: float, by_values: Array) -> None:
        """Write the gradient of a loss into every parameter's ``grad``."""
        arrays, likelihood = self._arrays, self._likelihood
        by_outputs = likelihood.by_outputs(by_log_probs, by_entropy)
        write_gradients(self._actor, arrays.actor, by_outputs, arrays.by_actor)
        hidden = [each[: self._size] for each in self._critic]
        write_gradients(hidden, arrays.critic, by_values[:, np.newaxis], arrays.by_critic)
        if isinstance(likelihood, GaussianLikelihood) and arrays.log_std is not None:
            arrays.log_std[1][...] = likelihood.by_log_std(by_log_probs, by_entropy)


def _layers(modules: Iterable[nn.Module], array_of: Callable[[Tensor], Array]) -> list[Layer]:
    return [
        (array_of(module.weight), array_of(module.bias))
        for module in modules
        if isinstance(module, nn.Linear)
    ]


def _values_of(parameter: Tensor) -> Array:
    array: Array = parameter.detach().numpy()
    return array


def _gradient_of(parameter: Tensor) -> Array:
    assert parameter.grad is not None
    array: Array = parameter.grad.numpy()
    return array
