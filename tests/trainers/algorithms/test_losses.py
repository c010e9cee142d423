"""One update of each algorithm against its textbook form, written with torch's own parts."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributions, nn

from hyperoracle_trainers.algorithms.actor_critic import A2C
from hyperoracle_trainers.algorithms.ppo import PPO, _Batch
from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.policies.networks import ActorCritic

HYPERPARAMETERS = {
    "learning_rate": 3e-3,
    "clip_range": 0.2,
    "value_loss_coefficient": 0.4,
    "entropy_coefficient": 0.03,
    "max_grad_norm": 0.7,
    "rmsprop_alpha": 0.99,
    "momentum": 0.0,
}
ENVIRONMENTS = ["CartPole-v1", "Pendulum-v1"]


def _distribution(policy: ActorCritic, observations: Tensor) -> distributions.Distribution:
    outputs = policy.actor(observations)
    log_std = getattr(policy.distribution, "log_std", None)
    if log_std is None:
        return distributions.Categorical(logits=outputs)
    return distributions.Independent(distributions.Normal(outputs, log_std.exp()), 1)


def _step(policy: ActorCritic, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(policy.parameters(), HYPERPARAMETERS["max_grad_norm"])
    optimiser.step()


def _assert_same_gradients(ours: ActorCritic, reference: ActorCritic) -> None:
    """Compare the clipped gradients, then let the reference go on from where we are.

    Parameters are not compared: both optimisers divide by the gradient's size, which turns the
    rounding errors of tiny gradients into whole steps.
    """
    for mine, expected in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, expected.grad, atol=2e-6, rtol=1e-4)  # norm is 0.7
    reference.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
@pytest.mark.parametrize("value_clip_range", [None, 0.1])
def test_ppos_updates_are_those_of_the_clipped_objective(
    env_id: str, value_clip_range: float | None
) -> None:
    settings = default_settings("ppo", env_id, seed=5, value_clip_range=value_clip_range)
    trainer = PPO(settings)
    policy = copy.deepcopy(trainer.policy)
    optimiser = torch.optim.Adam(policy.parameters(), lr=3e-3, eps=settings.adam_epsilon)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        observations = torch.randn(24, policy.actor[0].in_features, generator=generator)
        with torch.no_grad():
            actions = _distribution(policy, observations).sample()
            old_log_probs = _distribution(policy, observations).log_prob(actions)
            old_log_probs += 0.3 * torch.randn(24, generator=generator)  # clips about half
            old_values = policy.critic(observations).squeeze(1)
            old_values += 0.3 * torch.randn(24, generator=generator)
        advantages, returns = torch.randn(2, 24, generator=generator)
        batch = _Batch(observations, actions, old_log_probs, old_values, advantages, returns)
        metrics = trainer._update(batch, HYPERPARAMETERS)

        distribution = _distribution(policy, observations)
        ratio = (distribution.log_prob(actions) - old_log_probs).exp()
        normalised = (advantages - advantages.mean()) / advantages.std()
        worst = torch.where(normalised > 0, ratio.clamp(max=1.2), ratio.clamp(min=0.8))
        values = policy.critic(observations).squeeze(1)
        if value_clip_range is not None:
            low, high = old_values - value_clip_range, old_values + value_clip_range
            values = torch.maximum(torch.minimum(values, high), low)
        policy_loss = -(worst * normalised).mean()
        value_loss = ((values - returns) ** 2).mean()
        entropy = distribution.entropy().mean()
        _step(policy, optimiser, policy_loss + 0.4 * value_loss - 0.03 * entropy)

        _assert_same_gradients(trainer.policy, policy)
        clipped = ((ratio < 0.8) | (ratio > 1.2)).float().mean()
        assert 0.2 < clipped < 0.8
        expected = [policy_loss, value_loss, entropy, ((ratio - 1) - ratio.log()).mean(), clipped]
        torch.testing.assert_close(
            torch.tensor(metrics[:5]), torch.stack(expected).detach(), atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
@pytest.mark.parametrize("normalise_advantages", [False, True])
def test_a2cs_update_is_that_of_the_policy_gradient(
    env_id: str, normalise_advantages: bool
) -> None:
    changes: dict[str, Any] = {"number_of_envs": 3, "rollout_length": 7, "gae_lambda": 1.0}
    settings = default_settings(
        "a2c", env_id, seed=5, normalise_advantages=normalise_advantages, **changes
    )
    trainer = A2C(settings)
    policy = copy.deepcopy(trainer.policy)
    optimiser = torch.optim.RMSprop(policy.parameters(), lr=3e-3, alpha=0.99, eps=1e-5)
    for _ in range(3):
        rollout = trainer._collector.collect(7)
        trainer._update(rollout, {"gamma": 0.9, "gae_lambda": 1.0}, HYPERPARAMETERS)

        observations = torch.from_numpy(rollout.observations)
        actions = torch.from_numpy(rollout.actions)
        values = policy.critic(observations).squeeze(-1)
        assert not rollout.truncated.any()
        returns = torch.zeros(7, 3)
        following = values[-1].detach()
        for now in reversed(range(7)):  # n-step returns, the textbook's form of lambda = 1
            following = following * torch.from_numpy(~rollout.terminated[now])
            following = returns[now] = torch.from_numpy(rollout.rewards[now]) + 0.9 * following
        advantages = returns - values[:-1].detach()
        if normalise_advantages:
            advantages = (advantages - advantages.mean()) / advantages.std()
        distribution = _distribution(policy, observations[:-1].flatten(0, 1))
        log_probs = distribution.log_prob(actions.flatten(0, 1)).view(7, 3)
        policy_loss = -(advantages * log_probs).mean()
        value_loss = ((values[:-1] - returns) ** 2).mean()
        _step(
            policy, optimiser, policy_loss + 0.4 * value_loss - 0.03 * distribution.entropy().mean()
        )
        _assert_same_gradients(trainer.policy, policy)


def test_a_time_limit_in_a2cs_rollout_counts_the_value_of_the_final_observation() -> None:
    """V = 10 x observation and gamma 1: an error of r + V(next) − V(now) = r + 10 everywhere."""
    settings = default_settings("a2c", "Truncated-v0", hidden_sizes=(), rollout_length=6)
    trainer = A2C(settings)
    with torch.no_grad():
        trainer.policy.critic[0].weight.fill_(10.0)
    rollout = trainer._collector.collect(6)
    metrics = trainer._update(rollout, {"gamma": 1.0, "gae_lambda": 0.0}, HYPERPARAMETERS)
    rewards = np.array([1, 2, 3, 1, 2, 3])
    assert metrics["value_loss"] == pytest.approx(np.mean((rewards + 10.0) ** 2))
