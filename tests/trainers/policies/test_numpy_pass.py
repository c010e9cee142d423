"""The gradients that are written out, against torch's tape, in double precision."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from hyperoracle_trainers.algorithms.optimisers import Optimiser, RMSprop
from hyperoracle_trainers.policies.networks import ActorCritic
from hyperoracle_trainers.policies.numpy_pass import ForwardPass, NumpyPass, TorchPass, pass_of

SPACES = [Discrete(3), Box(-1, 1, (2,), np.float32)]


def policy_for(space: Any, hidden_sizes: tuple[int, ...], **options: Any) -> ActorCritic:
    policy = ActorCritic((5,), space, hidden_sizes, seed=0, **options).double()
    for parameter in policy.parameters():  # the last layer's first weights are almost 0
        generator = torch.Generator().manual_seed(parameter.numel())
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator).double()
    return policy


def batch_for(space: Any, size: int, further: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(size)
    observations = torch.randn(size + further, 5, generator=generator).double()
    if isinstance(space, Discrete):
        return observations, torch.randint(3, (size,), generator=generator)
    return observations, torch.randn(size, 2, generator=generator).double()


def gradients_of(policy: ActorCritic, made: ForwardPass, by_entropy: float) -> list[torch.Tensor]:
    generator = np.random.default_rng(7)
    size = len(made.log_probs)
    made.backward(
        by_log_probs=generator.normal(size=size),
        by_entropy=by_entropy,
        by_values=generator.normal(size=size),
    )
    return [parameter.grad.clone() for parameter in policy.parameters()]


@pytest.mark.parametrize("space", SPACES, ids=["categorical", "gaussian"])
@pytest.mark.parametrize("hidden_sizes", [(), (7,), (7, 4)])
@pytest.mark.parametrize("further", [0, 3])
@pytest.mark.parametrize("by_entropy", [0.0, -0.4])
def test_numpy_gives_what_torch_gives(
    space: Any, hidden_sizes: tuple[int, ...], further: int, by_entropy: float
) -> None:
    policy = policy_for(space, hidden_sizes)
    observations, actions = batch_for(space, 6, further)
    theirs = TorchPass(policy, observations, actions)
    expected = gradients_of(policy, theirs, by_entropy)
    ours = pass_of(policy)(observations, actions)
    assert isinstance(ours, NumpyPass)
    np.testing.assert_allclose(ours.log_probs, theirs.log_probs, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-12, atol=1e-12)
    assert len(ours.values) == 6 + further
    assert ours.entropy == pytest.approx(theirs.entropy, rel=1e-12)
    for mine, other in zip(gradients_of(policy, ours, by_entropy), expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shared_trunk", [False, True])
def test_a_gradient_replaces_the_one_before_in_the_optimisers_memory(shared_trunk: bool) -> None:
    policy = policy_for(Discrete(3), (4,), shared_trunk=shared_trunk)
    optimiser = Optimiser(policy, RMSprop(0.99, 1e-5))
    make_pass = pass_of(policy)
    batch = batch_for(Discrete(3), 6, 0)
    first = gradients_of(policy, make_pass(*batch), -0.1)
    again = gradients_of(policy, make_pass(*batch), -0.1)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)
    norm = optimiser.descend(learning_rate=0.0, max_grad_norm=1e9)
    assert norm == pytest.approx(float(torch.cat([each.flatten() for each in first]).norm()))


def test_a_pass_is_of_the_weights_as_they_are_now() -> None:
    policy = policy_for(Discrete(3), (4,))
    Optimiser(policy, RMSprop(0.99, 1e-5))
    make_pass = pass_of(policy)
    batch = batch_for(Discrete(3), 6, 0)
    before = make_pass(*batch)
    other = copy.deepcopy(policy.state_dict())
    other["critic.2.bias"] += 1.0
    policy.load_state_dict(other)
    np.testing.assert_allclose(make_pass(*batch).values, before.values + 1.0)


def test_images_and_shared_trunks_are_passed_by_torch() -> None:
    images = ActorCritic((84, 84, 4), Discrete(3), (), seed=0)
    seen = torch.zeros(2, 84, 84, 4, dtype=torch.uint8)
    assert isinstance(pass_of(images)(seen, torch.tensor([0, 1])), TorchPass)
    shared = policy_for(Discrete(3), (4,), shared_trunk=True)
    assert isinstance(pass_of(shared)(*batch_for(Discrete(3), 6, 0)), TorchPass)


def test_large_logits_overflow_nothing() -> None:
    policy = policy_for(Discrete(3), ())
    with torch.no_grad():
        policy.actor[0].bias += torch.tensor([1000.0, 0.0, -1000.0])
    made = pass_of(policy)(*batch_for(Discrete(3), 6, 0))
    assert np.isfinite(made.log_probs).all()
    assert made.entropy == pytest.approx(0.0, abs=1e-9)
