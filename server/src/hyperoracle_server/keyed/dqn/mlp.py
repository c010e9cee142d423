"""A multi-layer perceptron with rectifiers: its Huber loss, that loss's gradients, and Adam."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Parameters: TypeAlias = dict[str, npt.NDArray[np.floating]]
"""`weight_i` (inputs, outputs) and `bias_i` (outputs,) of each layer, the first being 0."""

FIRST_DECAY = 0.9
SECOND_DECAY = 0.999
EPSILON = 1e-8


def parameter_shapes(sizes: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The shape of every weight and bias of a network with these layer sizes, the input first."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (inputs, width) in enumerate(pairwise(sizes)):
        shapes[f"weight_{layer}"] = (inputs, width)
        shapes[f"bias_{layer}"] = (width,)
    return shapes


def initial_parameters(sizes: Sequence[int], rng: np.random.Generator) -> Parameters:
    """Float32 weights and biases, uniform within ±1/√inputs (as torch's linear layers begin)."""
    parameters: Parameters = {}
    for layer, (inputs, width) in enumerate(pairwise(sizes)):
        bound = inputs**-0.5
        weight, bias = (
            rng.uniform(-bound, bound, (inputs, width)),
            rng.uniform(-bound, bound, width),
        )
        parameters[f"weight_{layer}"] = weight.astype(np.float32)
        parameters[f"bias_{layer}"] = bias.astype(np.float32)
    return parameters


def outputs(
    parameters: Parameters, inputs: Float[np.ndarray, "*samples inputs"]
) -> Float[np.ndarray, "*samples outputs"]:
    """The network's outputs; no rectifier after the last layer."""
    return _activations(parameters, inputs)[-1]


def loss_and_gradients(
    parameters: Parameters,
    inputs: Float[np.ndarray, "samples inputs"],
    chosen: Int[np.ndarray, " samples"],
    targets: Float[np.ndarray, " samples"],
) -> tuple[float, Parameters]:
    """The mean Huber loss of the chosen outputs, and its gradients.

    The loss of an error e is e²/2 where |e| ≤ 1, else |e| − 1/2: its slope is the error clipped
    to ±1.

    Args:
        parameters: the network's.
        inputs: one sample a row, at least one.
        chosen: the output that each sample is about.
        targets: what that output should be.

    Returns:
        The loss and a gradient per parameter.

    Source: Mnih et al., Nature 2015, Methods (the error term clipped to ±1).
    """
    activations = _activations(parameters, inputs)
    count = len(inputs)
    rows = np.arange(count)
    errors = activations[-1][rows, chosen] - targets
    size = np.abs(errors)
    loss = float(np.where(size <= 1.0, 0.5 * errors * errors, size - 0.5).mean())
    slope = np.zeros_like(activations[-1])
    slope[rows, chosen] = np.clip(errors, -1.0, 1.0) / count
    gradients: Parameters = {}
    for layer in reversed(range(len(activations) - 1)):
        gradients[f"weight_{layer}"] = activations[layer].T @ slope
        gradients[f"bias_{layer}"] = slope.sum(axis=0)
        if layer:
            slope = (slope @ parameters[f"weight_{layer}"].T) * (activations[layer] > 0)
    return loss, gradients


def _activations(
    parameters: Parameters, inputs: Float[np.ndarray, "*samples inputs"]
) -> list[Float[np.ndarray, "*samples width"]]:
    """The inputs, what each hidden layer makes of them after its rectifier, and the outputs."""
    layers = len(parameters) // 2
    found = [inputs]
    for layer in range(layers):
        values = found[-1] @ parameters[f"weight_{layer}"] + parameters[f"bias_{layer}"]
        found.append(values if layer == layers - 1 else np.maximum(values, 0.0))
    return found


def adam_step(
    parameters: Parameters,
    gradients: Parameters,
    first: Parameters,
    second: Parameters,
    update: int,
    learning_rate: float,
) -> None:
    """Take a step down, in place.

    Args:
        parameters: to be moved.
        gradients: of the loss, one per parameter.
        first: running means of the gradients, moved on.
        second: running means of their squares, moved on.
        update: the number of this step, 1 for the first.
        learning_rate: α.

    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, Algorithm 1.
    """
    first_correction = 1.0 - FIRST_DECAY**update
    second_correction = 1.0 - SECOND_DECAY**update
    for name, gradient in gradients.items():
        mean, square = first[name], second[name]
        mean += (1.0 - FIRST_DECAY) * (gradient - mean)
        square *= SECOND_DECAY
        square += (1.0 - SECOND_DECAY) * gradient * gradient
        scale = np.sqrt(square / second_correction) + EPSILON
        parameters[name] -= (learning_rate / first_correction) * mean / scale
