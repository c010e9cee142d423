"""The network, its loss, its gradients and Adam, against torch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.keyed.dqn.mlp import (
    adam_step,
    initial_parameters,
    loss_and_gradients,
    outputs,
    parameter_shapes,
)

SIZES = [(3, 2), (4, 8, 3), (32, 64, 64, 7)]


def doubles(sizes, seed=0):
    """Float64 parameters: a difference from torch is then a mistake, not rounding."""
    parameters = initial_parameters(sizes, np.random.default_rng(seed))
    return {name: array.astype(np.float64) for name, array in parameters.items()}


def torch_outputs(parameters, inputs):
    layers = len(parameters) // 2
    values = inputs
    for layer in range(layers):
        values = values @ parameters[f"weight_{layer}"] + parameters[f"bias_{layer}"]
        values = values if layer == layers - 1 else torch.relu(values)
    return values


def torch_loss(parameters, inputs, chosen, targets):
    found = torch_outputs(parameters, inputs)[torch.arange(len(inputs)), chosen]
    return torch.nn.functional.huber_loss(found, targets, delta=1.0)


def as_torch(parameters):
    return {name: torch.tensor(array, requires_grad=True) for name, array in parameters.items()}


def batch(sizes, count, seed):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, sizes[0]))
    return inputs, rng.integers(sizes[-1], size=count), rng.normal(scale=2.0, size=count)


@pytest.mark.parametrize("sizes", SIZES)
def test_outputs_loss_and_gradients_are_torchs(sizes):
    parameters = doubles(sizes)
    inputs, chosen, targets = batch(sizes, 40, seed=1)
    theirs = as_torch(parameters)
    expected = torch_loss(theirs, *map(torch.tensor, (inputs, chosen, targets)))
    expected.backward()
    loss, gradients = loss_and_gradients(parameters, inputs, chosen, targets)
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    assert gradients.keys() == parameters.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, theirs[name].grad, rtol=1e-10, atol=1e-14)
    with torch.no_grad():
        np.testing.assert_allclose(
            outputs(parameters, inputs), torch_outputs(theirs, torch.tensor(inputs)), rtol=1e-10
        )
    assert (np.abs(outputs(parameters, inputs)[np.arange(40), chosen] - targets) > 1).any()


def test_training_with_adam_is_torchs_for_many_steps():
    sizes, rate = (4, 8, 3), 3e-3
    parameters = doubles(sizes)
    theirs = as_torch(parameters)
    optimiser = torch.optim.Adam(theirs.values(), lr=rate)
    first = {name: np.zeros_like(array) for name, array in parameters.items()}
    second = {name: np.zeros_like(array) for name, array in parameters.items()}
    for update in range(1, 201):
        inputs, chosen, targets = batch(sizes, 16, seed=update)
        _, gradients = loss_and_gradients(parameters, inputs, chosen, targets)
        adam_step(parameters, gradients, first, second, update, rate)
        optimiser.zero_grad()
        torch_loss(theirs, *map(torch.tensor, (inputs, chosen, targets))).backward()
        optimiser.step()
    for name, array in parameters.items():
        np.testing.assert_allclose(array, theirs[name].detach(), rtol=1e-7, atol=1e-9)


def test_the_first_step_of_adam_by_hand():
    # Both corrections undo the decay: the step is the rate, against the gradient's sign.
    parameters = {"w": np.array([1.0, 1.0])}
    zeros = [{"w": np.zeros(2)} for _ in range(2)]
    adam_step(parameters, {"w": np.array([2.0, -0.5])}, *zeros, 1, 0.1)
    np.testing.assert_allclose(parameters["w"], [0.9, 1.1], rtol=1e-7)


@pytest.mark.parametrize("sizes", SIZES)
def test_one_input_gives_what_it_gives_in_a_batch(sizes):
    parameters = initial_parameters(sizes, np.random.default_rng(3))
    inputs = np.random.default_rng(4).normal(size=(5, sizes[0])).astype(np.float32)
    together = outputs(parameters, inputs)
    assert together.dtype == np.float32
    for row, alone in zip(together, inputs, strict=True):
        np.testing.assert_allclose(outputs(parameters, alone), row, rtol=1e-4, atol=1e-6)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6))
def test_first_parameters_have_their_shapes_and_bounds(sizes):
    parameters = initial_parameters(sizes, np.random.default_rng(0))
    assert {name: array.shape for name, array in parameters.items()} == parameter_shapes(sizes)
    for layer, inputs in enumerate(sizes[:-1]):
        for name in (f"weight_{layer}", f"bias_{layer}"):
            assert parameters[name].dtype == np.float32
            assert (np.abs(parameters[name]) <= np.float32(inputs**-0.5)).all()
