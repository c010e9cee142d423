from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hyperoracle_trainers.algorithms.kronecker_factors import (
    Factors,
    InvertibleFactors,
    Layer,
    check_layer,
    factors_of,
    trust_region_step,
)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_a_linear_layers_factors_are_mean_outer_products() -> None:
    inputs = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    gradients = torch.tensor([[1.0], [-3.0]])
    factors = factors_of(nn.Linear(2, 1), inputs, gradients)
    # the mean of (1, 2, 1)ᵀ(1, 2, 1) and (3, 0, 1)ᵀ(3, 0, 1)
    assert factors.inputs.tolist() == [[5.0, 1.0, 2.0], [1.0, 2.0, 1.0], [2.0, 1.0, 1.0]]
    assert factors.outputs.tolist() == [[5.0]]
    without_bias = factors_of(nn.Linear(2, 1, bias=False), inputs, gradients)
    assert without_bias.inputs.tolist() == [[5.0, 1.0], [1.0, 2.0]]


def _slow_convolution_factors(layer: nn.Conv2d, inputs: Tensor, gradients: Tensor) -> Factors:
    """The factors of Grosse and Martens, example by example and position by position."""
    height, width = gradients.shape[2:]
    (top, left), (down, right) = layer.padding, layer.stride
    padded = functional.pad(inputs, (left, left, top, top))
    size = layer.weight[0].numel()
    a = torch.zeros(size + 1, size + 1, dtype=inputs.dtype)
    g = torch.zeros(len(layer.weight), len(layer.weight), dtype=inputs.dtype)
    for example, row, column in itertools.product(range(len(inputs)), range(height), range(width)):
        patch = [
            padded[
                example,
                channel,
                row * down + i * layer.dilation[0],
                column * right + j * layer.dilation[1],
            ]
            for channel in range(layer.in_channels)
            for i in range(layer.kernel_size[0])
            for j in range(layer.kernel_size[1])
        ]
        homogeneous = torch.tensor([*patch, 1.0], dtype=inputs.dtype)
        gradient = gradients[example, :, row, column]
        a += torch.outer(homogeneous, homogeneous) / len(inputs)
        g += torch.outer(gradient, gradient) / (len(inputs) * height * width)
    return Factors(a, g)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},
        {"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 0)},
        {"kernel_size": 2, "dilation": (1, 2), "padding": 1},
    ],
)
def test_a_convolutions_factors_are_those_of_a_loop_over_its_positions(
    options: dict[str, int | tuple[int, int]],
) -> None:
    layer = nn.Conv2d(2, 3, **options, dtype=torch.float64)  # type: ignore[arg-type] # of a kind each
    inputs = _normal(4, 2, 6, 5)
    gradients = _normal(*layer(inputs).shape, seed=1)
    expected = _slow_convolution_factors(layer, inputs, gradients)
    factors = factors_of(layer, inputs, gradients)
    torch.testing.assert_close(factors.inputs, expected.inputs)
    torch.testing.assert_close(factors.outputs, expected.outputs)


def test_a_convolution_over_one_position_is_a_linear_layer() -> None:
    inputs, gradients = _normal(5, 2, 3, 3), _normal(5, 4, 1, 1, seed=1)
    convolution = factors_of(nn.Conv2d(2, 4, 3), inputs, gradients)
    linear = factors_of(nn.Linear(18, 4), inputs.flatten(1), gradients.flatten(1))
    torch.testing.assert_close(convolution.inputs, linear.inputs)
    torch.testing.assert_close(convolution.outputs, linear.outputs)


def test_running_factors_keep_the_decay_and_take_the_rest() -> None:
    old, new = (
        Factors(torch.full((1, 1), a), torch.full((1, 1), g)) for a, g in ((1, 4), (3, 8.0))
    )
    mean = Factors(old.inputs.double(), old.outputs.double()).averaged_with(
        Factors(new.inputs.double(), new.outputs.double()), 0.75
    )
    assert mean.inputs.item() == 0.75 * 1 + 0.25 * 3
    assert mean.outputs.item() == 0.75 * 4 + 0.25 * 8


def _dense(factors: Factors, gradient: Tensor, damping: float) -> Tensor:
    """G ⊗ A + λI, written out and inverted as one matrix."""
    fisher = torch.kron(factors.outputs, factors.inputs)
    fisher += damping * torch.eye(len(fisher), dtype=fisher.dtype)
    return torch.linalg.solve(fisher, gradient.flatten()).view_as(gradient)


@pytest.mark.parametrize("damping", [1e-6, 1e-2, 10.0])
def test_preconditioning_equals_the_inverse_of_the_damped_kronecker_product(damping: float) -> None:
    factors = factors_of(nn.Linear(4, 3), _normal(9, 4), _normal(9, 3, seed=1))
    gradient = _normal(3, 5, seed=2)
    ours = InvertibleFactors.of(factors).precondition(gradient, damping)
    torch.testing.assert_close(ours, _dense(factors, gradient, damping), atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("examples", ["one example", "one input for all"])
def test_where_the_factors_are_exact_so_is_the_natural_gradient(examples: str) -> None:
    """E[aaᵀ ⊗ ggᵀ] is a Kronecker product if there is one example, or one input for all."""
    size = 1 if examples == "one example" else 6
    inputs = _normal(1, 4).expand(size, 4)
    gradients = _normal(size, 3, seed=1)
    homogeneous = torch.cat([inputs, torch.ones(size, 1, dtype=torch.float64)], dim=1)
    per_example = torch.stack(
        [torch.outer(g, a).flatten() for g, a in zip(gradients, homogeneous, strict=True)]
    )
    fisher = per_example.T @ per_example / size
    factors = factors_of(nn.Linear(4, 3), inputs, gradients)
    torch.testing.assert_close(torch.kron(factors.outputs, factors.inputs), fisher)

    # A gradient that the Fisher matrix reaches has an inverse image; a little damping is enough to
    # keep rounding errors (1e-16) out of the directions that it does not reach.
    gradient = (fisher @ _normal(15, seed=2)).view(3, 5)
    exact = (torch.linalg.pinv(fisher, hermitian=True) @ gradient.flatten()).view(3, 5)
    ours = InvertibleFactors.of(factors).precondition(gradient, 1e-10)
    torch.testing.assert_close(ours, exact, atol=1e-4, rtol=1e-4)


def test_without_information_only_the_damping_is_left() -> None:
    nothing = Factors(torch.eye(2, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))
    gradient = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    ours = InvertibleFactors.of(nothing).precondition(gradient, 0.04)
    torch.testing.assert_close(ours, gradient / 0.04)


def test_factors_that_are_not_finite_show_in_the_result() -> None:
    broken = Factors(torch.full((2, 2), math.inf), torch.eye(1))
    assert InvertibleFactors.of(broken).precondition(torch.ones(1, 2), 0.1).isnan().any()


def test_the_trust_region_shortens_a_step_to_its_radius() -> None:
    # ½ η² 8 = 0.01 at η = 0.05
    assert trust_region_step(8.0, step_size=1.0, kl_clip=0.01) == pytest.approx(0.05)
    assert trust_region_step(8.0, step_size=0.02, kl_clip=0.01) == 0.02
    assert trust_region_step(0.0, step_size=0.02, kl_clip=0.01) == 0.02
    assert trust_region_step(8.0, step_size=1.0, kl_clip=0.0) == 0.0


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, groups=2),
        nn.Conv2d(2, 2, 3, padding="same"),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
    ],
)
def test_a_convolution_without_such_factors_is_refused(layer: Layer) -> None:
    with pytest.raises(ValueError, match=r"trunk\.0: expected a convolution of one group"):
        check_layer("trunk.0", layer)
