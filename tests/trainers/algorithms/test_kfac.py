from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hyperoracle_trainers.algorithms.kfac import Kfac, KfacHyperparameters

# Nothing that one test does not ask for: no clipping, no memory of earlier steps.
PLAIN = KfacHyperparameters(
    kl_clip=1e12,
    step_size=1.0,
    damping=0.01,
    momentum=0.0,
    weight_decay=0.0,
    statistics_period=1,
    inversion_period=1,
)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _network(*layers: nn.Module) -> nn.Sequential:
    network = nn.Sequential(*layers).double()
    for index, parameter in enumerate(network.parameters()):
        parameter.data = 0.5 * _normal(*parameter.shape, seed=100 + index)
    return network


def _three_layers() -> nn.Sequential:
    return _network(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def _flat(module: nn.Module) -> Tensor:
    return torch.cat([each.detach().flatten() for each in module.parameters()])


def _observe(kfac: Kfac, network: nn.Module, inputs: Tensor, noise: Tensor) -> None:
    """Show what a model with normal noise of variance 1 around its outputs sees."""
    with kfac.recording() as recording:
        outputs = network(inputs)
    outcomes = outputs.detach() + noise
    kfac.observe(recording, -0.5 * (outcomes - outputs).square().sum())


def _watching(network: nn.Module, regions: Any = None, decay: float = 0.9, **changes: Any) -> Kfac:
    kfac = Kfac(decay)
    names = {name.partition(".")[0] for name, _ in network.named_parameters()}
    kfac.watch(network, regions or [sorted(names)])
    kfac.hyperparameters = dataclasses.replace(PLAIN, **changes)
    return kfac


def _moved(kfac: Kfac, gradient: Tensor, parameters: Tensor | None = None) -> Tensor:
    """Return minus the step that is taken at learning rate 1."""
    start = torch.zeros_like(gradient) if parameters is None else parameters
    after = start.clone()
    kfac.step(after, gradient, 1.0)
    return start - after


def _damped_fisher(network: nn.Sequential, inputs: Tensor, noise: Tensor, damping: float) -> Tensor:
    """The block-diagonal Fisher matrix as one dense matrix, over the flat parameters.

    Per example, in loops: the inputs of each layer by hand, the gradients by torch.
    """
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    a = [torch.zeros(layer.in_features + 1, layer.in_features + 1).double() for layer in layers]
    g = [torch.zeros(layer.out_features, layer.out_features).double() for layer in layers]
    for example, eps in zip(inputs, noise, strict=True):
        hidden, outputs = example, []
        for layer in network:
            if isinstance(layer, nn.Linear):
                homogeneous = torch.cat([hidden.detach(), torch.ones(1).double()])
                a[len(outputs)] += torch.outer(homogeneous, homogeneous) / len(inputs)
            hidden = layer(hidden)
            if isinstance(layer, nn.Linear):
                outputs.append(hidden)
        for index, each in enumerate(torch.autograd.grad(hidden @ eps, outputs)):
            g[index] += torch.outer(each, each) / len(inputs)
    blocks = []
    for inside, outside in zip(a, g, strict=True):
        blocks.append(_dense_block(inside, outside))
    fisher = torch.block_diag(*blocks)
    return fisher + damping * torch.eye(len(fisher)).double()


def _dense_block(inside: Tensor, outside: Tensor) -> Tensor:
    """The Fisher matrix of a layer with these factors, over all its weights, then all biases."""
    block = torch.kron(outside, inside)
    order = torch.arange(len(block)).view(len(outside), -1)  # by output, and input or bias
    order = torch.cat([order[:, :-1].flatten(), order[:, -1]])
    return block[order][:, order]


@pytest.mark.parametrize("damping", [1e-3, 0.1])
def test_a_step_on_three_layers_is_the_dense_natural_gradient(damping: float) -> None:
    network = _three_layers()
    inputs, noise = _normal(20, 4, seed=1), _normal(20, 3, seed=2)
    kfac = _watching(network, damping=damping)
    _observe(kfac, network, inputs, noise)
    gradient = _normal(len(_flat(network)), seed=3)
    fisher = _damped_fisher(network, inputs, noise, damping)
    expected = torch.linalg.solve(fisher, gradient)
    torch.testing.assert_close(_moved(kfac, gradient), expected, atol=1e-4, rtol=1e-4)


def test_the_step_keeps_the_foreseen_divergence_within_the_trust_region() -> None:
    network = _three_layers()
    inputs, noise = _normal(20, 4, seed=1), _normal(20, 3, seed=2)
    gradient = _normal(len(_flat(network)), seed=3)
    fisher = _damped_fisher(network, inputs, noise, PLAIN.damping)
    for kl_clip, step_size in ((1e-3, 1.0), (1e12, 0.3)):
        kfac = _watching(network, kl_clip=kl_clip, step_size=step_size)
        _observe(kfac, network, inputs, noise)
        step = _moved(kfac, gradient)
        natural = torch.linalg.solve(fisher, gradient)
        length = min(step_size, math.sqrt(2 * kl_clip / float(gradient @ natural)))
        torch.testing.assert_close(step, length * natural)
        assert kfac.predicted_kl == pytest.approx((0.5 * float(step @ fisher @ step),))
        if kl_clip == 1e-3:
            assert kfac.predicted_kl == pytest.approx((1e-3,))


def test_for_small_steps_the_foreseen_divergence_is_the_models() -> None:
    """One linear layer, one input: the factors are exact, and KL = ½ |Δ output|² is known."""
    network = _network(nn.Linear(3, 1))
    inputs = _normal(1, 3, seed=1).expand(4000, 3)
    kfac = _watching(network, kl_clip=1e-2, damping=1e-9)
    _observe(kfac, network, inputs, _normal(4000, 1, seed=2))
    before = network(inputs[:1]).detach()
    gradient = torch.cat([inputs[0], torch.ones(1).double()])  # of the output
    step = _moved(kfac, gradient, _flat(network))
    after = before - step @ gradient
    divergence = float(0.5 * (after - before).square())
    # G is estimated from 4,000 draws of variance 1: its standard error is √(2 / 4000) = 0.022
    assert divergence == pytest.approx(1e-2, rel=0.1)


class _TwoHeads(nn.Module):
    """A shared trunk, or with ``shared`` false two trunks."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.trunk = _network(nn.Linear(4, 5), nn.Tanh())
        self.other_trunk = None if shared else _network(nn.Linear(4, 5), nn.Tanh())
        self.policy = _network(nn.Linear(5, 2))
        self.value = _network(nn.Linear(5, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.trunk(inputs)
        other = hidden if self.other_trunk is None else self.other_trunk(inputs)
        return torch.cat([self.policy(hidden), self.value(other)], dim=1)


def test_a_shared_trunk_has_one_step_length_and_learns_from_both_heads() -> None:
    network = _TwoHeads(shared=True)
    inputs, noise = _normal(20, 4, seed=1), _normal(20, 3, seed=2)
    gradient = _normal(len(_flat(network)), seed=3)
    everything = [("trunk", "policy", "value")]
    free, tight = (_watching(network, everything, kl_clip=clip) for clip in (1e12, 1e-4))
    for kfac in (free, tight):
        _observe(kfac, network, inputs, noise)
    ratio = _moved(tight, gradient) / _moved(free, gradient)
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    assert ratio[0] < 0.1
    deaf = _watching(network, everything)
    _observe(deaf, network, inputs, noise * torch.tensor([1.0, 1.0, 0.0]).double())
    trunk = slice(0, 25)
    difference = _moved(deaf, gradient)[trunk] - _moved(free, gradient)[trunk]
    assert difference.norm() > 0.1 * _moved(free, gradient)[trunk].norm()


def _check_step_of_two_heads(
    kfac: Kfac, trunk: tuple[Tensor, Tensor], above: Tensor, noise: Tensor
) -> None:
    """Compare a step with the dense one, given the trunk's factors and A of both heads."""
    heads = [
        (above, noise[:, outputs].T @ noise[:, outputs] / len(noise))
        for outputs in (slice(2), slice(2, 3))
    ]
    fisher = torch.block_diag(*(_dense_block(a, g) for a, g in [trunk, *heads]))
    fisher += PLAIN.damping * torch.eye(len(fisher)).double()
    gradient = _normal(len(fisher), seed=3)
    natural = torch.linalg.solve(fisher, gradient)
    kl_clip = kfac.hyperparameters.kl_clip
    length = min(1.0, math.sqrt(2 * kl_clip / float(gradient @ natural)))
    torch.testing.assert_close(_moved(kfac, gradient), length * natural)
    assert len(kfac.predicted_kl) == 1


@pytest.mark.parametrize("kl_clip", [1e12, 1e-4])
def test_a_step_of_a_shared_trunk_is_the_dense_natural_gradient_in_one_trust_region(
    kl_clip: float,
) -> None:
    network = _TwoHeads(shared=True)
    inputs, noise = _normal(20, 4, seed=1), _normal(20, 3, seed=2)
    kfac = _watching(network, [("trunk", "policy", "value")], kl_clip=kl_clip)
    _observe(kfac, network, inputs, noise)
    # In loops over the examples, each layer's own Jacobian by hand: the trunk hears both heads.
    size = len(inputs)
    weights = torch.cat([network.policy[0].weight, network.value[0].weight]).detach()
    hidden = network.trunk(inputs).detach()
    inside, outside = torch.zeros(5, 5).double(), torch.zeros(5, 5).double()
    above = torch.zeros(6, 6).double()
    for example, features, eps in zip(inputs, hidden, noise, strict=True):
        before, behind = (torch.cat([each, torch.ones(1)]) for each in (example, features))
        inside += torch.outer(before, before) / size
        above += torch.outer(behind, behind) / size
        at_trunk = (weights.T @ eps) * (1.0 - features**2)
        outside += torch.outer(at_trunk, at_trunk) / size
    _check_step_of_two_heads(kfac, (inside, outside), above, noise)


@pytest.mark.parametrize("kl_clip", [1e12, 1e-4])
def test_a_step_of_a_shared_convolution_is_the_dense_natural_gradient_in_one_trust_region(
    kl_clip: float,
) -> None:
    network = _TwoHeads(shared=True)
    network.trunk = _network(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Flatten())
    network.policy, network.value = _network(nn.Linear(8, 2)), _network(nn.Linear(8, 1))
    size, positions = 20, list(itertools.product(range(2), range(2)))
    images, noise = _normal(size, 1, 3, 3, seed=1), _normal(size, 3, seed=2)
    kfac = _watching(network, [("trunk", "policy", "value")], kl_clip=kl_clip)
    _observe(kfac, network, images, noise)
    # In loops over examples and positions: A is summed and G averaged over the positions.
    weights = torch.cat([network.policy[0].weight, network.value[0].weight]).detach()
    hidden = network.trunk(images).detach()
    inside, outside = torch.zeros(5, 5).double(), torch.zeros(2, 2).double()
    above = torch.zeros(9, 9).double()
    for image, features, eps in zip(images, hidden, noise, strict=True):
        behind = torch.cat([features, torch.ones(1)])
        above += torch.outer(behind, behind) / size
        at_trunk = ((weights.T @ eps) * (1.0 - features**2)).view(2, 2, 2)
        for row, column in positions:
            patch = image[0, row : row + 2, column : column + 2].flatten()
            before, at_place = torch.cat([patch, torch.ones(1)]), at_trunk[:, row, column]
            inside += torch.outer(before, before) / size
            outside += torch.outer(at_place, at_place) / (size * len(positions))
    _check_step_of_two_heads(kfac, (inside, outside), above, noise)


def test_separate_trunks_have_a_step_length_each() -> None:
    network = _TwoHeads(shared=False)
    inputs, noise = _normal(20, 4, seed=1), _normal(20, 3, seed=2)
    gradient = _normal(len(_flat(network)), seed=3)
    regions = [("trunk", "policy"), ("other_trunk", "value")]

    def step(critic_scale: float) -> tuple[Tensor, Tensor]:
        kfac = _watching(network, regions, kl_clip=1e-3)
        _observe(kfac, network, inputs, noise)
        ours = gradient.clone()
        ours[25:50] *= critic_scale  # the critic's trunk, then the policy's head
        ours[62:] *= critic_scale
        moved = _moved(kfac, ours)
        actor = torch.cat([moved[:25], moved[50:62]])
        critic = torch.cat([moved[25:50], moved[62:]])
        return actor, critic

    (actor, critic), (actor_again, critic_again) = step(1.0), step(1e3)
    torch.testing.assert_close(actor_again, actor)
    torch.testing.assert_close(critic_again, critic)  # both are at the radius


def test_statistics_and_inverses_are_renewed_when_their_periods_are_over() -> None:
    network = _three_layers()
    kfac = _watching(network, statistics_period=2, inversion_period=3)
    gradient = _normal(len(_flat(network)), seed=3)
    wanted, steps = [], []
    for update in range(8):
        wanted.append(kfac.wants_statistics)
        if wanted[-1]:
            scale = 1.0 + update  # so that every inversion changes the steps
            _observe(kfac, network, scale * _normal(20, 4, seed=1), _normal(20, 3, seed=2))
        steps.append(_moved(kfac, gradient))
    assert wanted == [True, False] * 4
    changed = [not torch.equal(now, before) for before, now in itertools.pairwise(steps)]
    assert changed == [False, False, True, False, False, True, False]


def test_a_shorter_period_holds_at_once() -> None:
    network = _three_layers()
    kfac = _watching(network, statistics_period=100)
    _observe(kfac, network, _normal(20, 4, seed=1), _normal(20, 3, seed=2))
    _moved(kfac, _normal(len(_flat(network))))
    assert not kfac.wants_statistics
    kfac.hyperparameters = dataclasses.replace(kfac.hyperparameters, statistics_period=1)
    assert kfac.wants_statistics


@pytest.mark.parametrize(
    ("decay", "kept"),
    [
        (0.25, 0.25),  # G = 0.25 (0.25 G₁ + 0.75 × 9 G₁) + 0.75 × 9 G₁
        (0.99, 2 / 3),  # not yet long enough to forget: the plain mean (1 + 9 + 9) / 3
    ],
)
def test_later_statistics_are_averaged_with_the_decay_once_there_are_enough(
    decay: float, kept: float
) -> None:
    network = _three_layers()
    inputs, noise = _normal(20, 4, seed=1), _normal(20, 3, seed=2)
    gradient = _normal(len(_flat(network)), seed=3)
    kfac = _watching(network, decay=decay)
    for scale in (1, 3, 3):
        _observe(kfac, network, inputs, scale * noise)
    step = _moved(kfac, gradient)
    # The second batch finds one before it, so that it is at least half of the mean.
    second = min(decay, 0.5) * 1 + (1 - min(decay, 0.5)) * 9
    at_once = _watching(network)
    _observe(at_once, network, inputs, math.sqrt(kept * second + (1 - kept) * 9) * noise)
    torch.testing.assert_close(step, _moved(at_once, gradient))


def test_strong_damping_turns_the_step_into_the_gradient() -> None:
    network = _three_layers()
    kfac = _watching(network, damping=1e8)
    _observe(kfac, network, _normal(20, 4, seed=1), _normal(20, 3, seed=2))
    gradient = _normal(len(_flat(network)), seed=3)
    # λ⁻¹ ∇, up to eigenvalues of at most about 10,000 beside λ
    torch.testing.assert_close(1e8 * _moved(kfac, gradient), gradient, atol=0.05, rtol=0.05)


def test_momentum_averages_the_steps() -> None:
    network = _three_layers()
    plain, heavy = _watching(network), _watching(network, momentum=0.8)
    for kfac in (plain, heavy):
        _observe(kfac, network, _normal(20, 4, seed=1), _normal(20, 3, seed=2))
    first, second = _normal(2, len(_flat(network)), seed=3)
    a, b = _moved(plain, first), _moved(plain, second)
    torch.testing.assert_close(_moved(heavy, first), 0.2 * a)
    torch.testing.assert_close(_moved(heavy, second), 0.8 * 0.2 * a + 0.2 * b)


def test_weight_decay_is_a_gradient_of_its_own() -> None:
    network = _three_layers()
    plain, decaying = _watching(network), _watching(network, weight_decay=0.3)
    for kfac in (plain, decaying):
        _observe(kfac, network, _normal(20, 4, seed=1), _normal(20, 3, seed=2))
    gradient, parameters = _normal(len(_flat(network)), seed=3), _flat(network)
    expected = _moved(plain, gradient + 0.3 * parameters)
    torch.testing.assert_close(_moved(decaying, gradient, parameters), expected)


def test_the_learning_rate_scales_the_step() -> None:
    network = _three_layers()
    kfac = _watching(network)
    _observe(kfac, network, _normal(20, 4, seed=1), _normal(20, 3, seed=2))
    gradient = _normal(len(_flat(network)), seed=3)
    full = _moved(kfac, gradient)
    parameters = torch.zeros_like(gradient)
    kfac.step(parameters, gradient, 0.25)
    torch.testing.assert_close(parameters, -0.25 * full)


def test_convolutions_and_layers_without_bias_are_preconditioned() -> None:
    network = _network(
        nn.Conv2d(2, 3, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2, bias=False)
    )
    kfac = _watching(network)
    inputs, noise = _normal(10, 2, 4, 4, seed=1), _normal(10, 2, seed=2)
    _observe(kfac, network, inputs, noise)
    gradient = _normal(len(_flat(network)), seed=3)
    moved = _moved(kfac, gradient)
    # The last layer: G = E[noise noiseᵀ], A = E[a aᵀ] of the flattened activations.
    a = network[:3](inputs).detach()
    inside, outside = a.T @ a / 10, noise.T @ noise / 10
    fisher = torch.kron(outside, inside) + PLAIN.damping * torch.eye(24).double()
    expected = torch.linalg.solve(fisher, gradient[-24:])
    torch.testing.assert_close(moved[-24:], expected)
    assert not torch.allclose(moved[:27], gradient[:27])


class _WithScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(2).double())
        self.layer = nn.Linear(3, 2).double()


def test_a_parameter_in_no_layer_is_divided_by_its_own_fisher_value() -> None:
    module = _WithScale()
    kfac = Kfac(0.9)
    kfac.watch(module, [["scale", "layer"]], {"scale": 2.0})
    kfac.hyperparameters = dataclasses.replace(PLAIN, damping=0.5)
    _observe(kfac, module.layer, _normal(5, 3, seed=1), _normal(5, 2, seed=2))
    gradient = _normal(10, seed=3)
    torch.testing.assert_close(_moved(kfac, gradient)[:2], gradient[:2] / 2.5)


@pytest.mark.parametrize(
    ("regions", "exact_fisher", "message"),
    [
        ([["scale", "layer"]], {}, "scale: expected a parameter of a linear or"),
        ([["scale"]], {"scale": 2.0}, "layer: expected each in a trust region"),
    ],
)
def test_a_parameter_that_would_be_left_out_is_refused(
    regions: list[list[str]], exact_fisher: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Kfac(0.9).watch(_WithScale(), regions, exact_fisher)


def test_a_step_before_any_statistics_is_refused() -> None:
    kfac = _watching(_three_layers())
    with pytest.raises(RuntimeError, match="expected statistics before the first step"):
        _moved(kfac, torch.zeros(1))
