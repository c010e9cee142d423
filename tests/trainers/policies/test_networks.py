from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from hyperoracle_trainers.algorithms.optimisers import Optimiser, RMSprop
from hyperoracle_trainers.policies.networks import (
    ActorCritic,
    NumpyActor,
    ScaledImages,
    TorchActor,
    actor_of,
)

SPACES = [Discrete(3), Box(-1, 1, (2,), np.float32)]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("hidden_sizes", [(64, 64), (16,), ()])
def test_the_rollout_actor_agrees_with_torch(
    space: Box | Discrete, hidden_sizes: tuple[int, ...]
) -> None:
    policy = ActorCritic((5,), space, hidden_sizes, seed=0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1)  # biases are not 0 in real life
    observations = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    with torch.no_grad():
        expected = policy.actor(torch.from_numpy(observations)).numpy()
    outputs = NumpyActor(policy).outputs(observations)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)  # float32, 64 terms


def test_values_and_outputs_are_those_of_the_trunks() -> None:
    policy = ActorCritic((5,), Discrete(3), (8, 8), seed=0)
    observations = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    outputs, values = policy.outputs_and_values(observations)
    assert torch.equal(values, policy.critic(observations).squeeze(1))
    assert torch.equal(outputs, policy.actor(observations))


def test_the_rollout_actor_is_never_out_of_date() -> None:
    policy = ActorCritic((4,), Discrete(2), (8,), seed=0)
    optimiser = Optimiser(policy, RMSprop(0.99, 1e-5))
    actor = NumpyActor(policy)
    observations = np.ones((1, 4), np.float32)
    before = actor.outputs(observations)
    inputs = torch.ones(1, 4)
    loss = policy.actor(inputs).sum() + policy.critic(inputs).sum()
    loss.backward()
    optimiser.descend(learning_rate=0.5, max_grad_norm=10.0)
    with torch.no_grad():
        expected = policy.actor(torch.ones(1, 4)).numpy()
    np.testing.assert_allclose(actor.outputs(observations), expected, rtol=1e-4, atol=1e-6)
    assert not np.allclose(before, expected)


def test_parameters_come_in_a_fixed_order() -> None:
    policy = ActorCritic((4,), Box(-1, 1, (2,), np.float32), (8, 8), seed=0)
    assert [name for name, _ in policy.named_parameters()] == [
        *(f"actor.{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")),
        *(f"critic.{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")),
        "distribution.log_std",
    ]


def test_initial_weights_are_orthogonal_with_the_usual_gains() -> None:
    policy = ActorCritic((4,), Discrete(3), (16, 16), seed=0)
    for trunk, last_gain in ((policy.actor, 0.01), (policy.critic, 1.0)):
        for layer, gain in ((trunk[0], 2**0.5), (trunk[2], 2**0.5), (trunk[4], last_gain)):
            weight = layer.weight.detach()
            short = weight if weight.shape[0] <= weight.shape[1] else weight.T
            expected = gain**2 * torch.eye(len(short))
            torch.testing.assert_close(short @ short.T, expected, atol=1e-5, rtol=1e-5)
            assert not layer.bias.any()


def test_the_seed_alone_decides_the_weights_and_no_global_generator_is_touched() -> None:
    state = torch.get_rng_state()
    first, same, other = (ActorCritic((4,), Discrete(2), (8,), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.actor[0].weight, same.actor[0].weight)
    assert not torch.equal(first.actor[0].weight, other.actor[0].weight)
    assert torch.equal(torch.get_rng_state(), state)


def _image_policy(*, shared_trunk: bool) -> ActorCritic:
    return ActorCritic((84, 84, 4), Discrete(3), (), seed=0, shared_trunk=shared_trunk)


def _images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 84, 84, 4), generator=generator, dtype=torch.uint8)


def test_the_nature_network_has_the_published_size() -> None:
    trunk = _image_policy(shared_trunk=True).trunk
    assert trunk is not None
    shapes = [tuple(each.shape) for each in trunk.parameters()]
    assert shapes == [
        (32, 4, 8, 8), (32,), (64, 32, 4, 4), (64,), (64, 64, 3, 3), (64,), (512, 3136), (512,),
    ]  # fmt: skip


def test_images_are_scaled_and_their_channels_come_first() -> None:
    pixels = torch.tensor([[0, 51], [255, 102]], dtype=torch.uint8).view(1, 1, 2, 2)
    scaled = ScaledImages()(pixels)  # [1, height 1, width 2, channels 2]
    expected = torch.tensor([[0.0, 1.0], [0.2, 0.4]]).view(1, 2, 1, 2)
    torch.testing.assert_close(scaled, expected)
    assert scaled.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shared_trunk", [True, False])
def test_the_torch_actor_gives_the_modules_outputs(shared_trunk: bool) -> None:
    policy, images = _image_policy(shared_trunk=shared_trunk), _images(2)
    actor = actor_of(policy)
    assert isinstance(actor, TorchActor)
    expected, values = policy(images)
    np.testing.assert_allclose(
        actor.outputs(images.numpy()), expected.detach().numpy(), rtol=1e-5, atol=1e-6
    )
    again, same_values = policy.outputs_and_values(images)
    assert torch.equal(again, expected)
    assert torch.equal(same_values, values)


def test_a_shared_trunk_is_one_and_the_numpy_actor_goes_through_it() -> None:
    policy = ActorCritic((5,), Discrete(3), (16, 8), seed=0, shared_trunk=True)
    assert [name for name, _ in policy.named_parameters()] == [
        *(f"trunk.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")),
        *(f"{head}.0.{kind}" for head in ("actor", "critic") for kind in ("weight", "bias")),
    ]
    observations = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    outputs, values = policy(torch.from_numpy(observations))
    actor = actor_of(policy)
    assert isinstance(actor, NumpyActor)
    np.testing.assert_allclose(
        actor.outputs(observations), outputs.detach().numpy(), rtol=1e-4, atol=1e-6
    )
    values.sum().backward()
    assert policy.trunk is not None
    assert all(each.grad is not None for each in policy.trunk.parameters())
