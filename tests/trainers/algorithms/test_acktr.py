"""What ACKTR shows its K-FAC, and what each of its hyperparameters does in a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from trainers.short_runs import Scripted, small_trainer, train, weights_of

from hyperoracle_trainers.algorithms.acktr import ACKTR
from hyperoracle_trainers.algorithms.kronecker_factors import Factors
from hyperoracle_trainers.hyperparameters.presets import default_settings


def _factors(trainer: ACKTR, layer: str) -> Factors:
    blocks = trainer._kfac._layers
    factors = blocks[trainer.policy.get_submodule(layer)]._factors
    assert factors is not None
    return factors


def _observing(
    env_id: str, observations: Tensor, fisher_coefficient: float, log_std: float = 0.0
) -> ACKTR:
    trainer = ACKTR(default_settings("acktr", env_id, seed=3))
    policy = trainer.policy
    with torch.no_grad():
        policy.actor[-1].bias.add_(torch.arange(policy.distribution.output_size) * 0.7)
        if hasattr(policy.distribution, "log_std"):
            policy.distribution.log_std.fill_(log_std)
    with trainer._kfac.recording() as recording:
        outputs, values = policy.actor(observations), policy.critic(observations).squeeze(1)
    trainer._kfac.observe(recording, trainer._log_likelihood(outputs, values, fisher_coefficient))
    return trainer


# Factors are means over 20,000 draws: standard errors are below 0.03 of their size.
_DRAWS = 20_000


def test_a_categorical_actors_last_factor_is_the_fisher_matrix_of_its_logits() -> None:
    trainer = _observing("CartPole-v1", torch.zeros(_DRAWS, 4), 1.0)
    p = torch.softmax(torch.tensor([0.0, 0.7]), 0)
    expected = torch.diag(p) - torch.outer(p, p)
    torch.testing.assert_close(_factors(trainer, "actor.4").outputs, expected, atol=0, rtol=0.05)


def test_a_gaussian_actors_last_factor_is_its_precision() -> None:
    trainer = _observing("Pendulum-v1", torch.zeros(_DRAWS, 3), 1.0, log_std=-0.5)
    assert _factors(trainer, "actor.4").outputs.item() == pytest.approx(np.e, rel=0.05)


@pytest.mark.parametrize("coefficient", [1.0, 0.1])
def test_the_critics_last_factor_is_the_fisher_coefficient_squared(coefficient: float) -> None:
    trainer = _observing("Pendulum-v1", torch.zeros(_DRAWS, 3), coefficient)
    fisher = _factors(trainer, "critic.4").outputs.item()
    assert fisher == pytest.approx(coefficient**2, rel=0.05)


def test_statistics_come_from_drawn_outcomes_not_from_those_of_the_rollout() -> None:
    """The gradients of drawn outcomes have mean 0; those of a rollout's rewards have not."""
    trainer = ACKTR(default_settings("acktr", "CartPole-v1", seed=3))
    outputs = torch.zeros(_DRAWS, 2, requires_grad=True)
    values = torch.full((_DRAWS,), 50.0, requires_grad=True)
    trainer._log_likelihood(outputs, values, 1.0).backward()
    assert outputs.grad is not None
    assert values.grad is not None
    # standard errors 0.5 / √20,000 = 0.0035 and 0.007
    torch.testing.assert_close(outputs.grad.mean(0), torch.zeros(2), atol=0.02, rtol=0)
    assert values.grad.mean().item() == pytest.approx(0.0, abs=0.03)
    assert values.grad.std().item() == pytest.approx(1.0, rel=0.03)


def _step(values: Mapping[str, float], phases: int = 1, **changes: Any) -> Tensor:
    start = weights_of(small_trainer("acktr", **changes))
    _, weights = train("acktr", Scripted([values]), phases=phases, **changes)
    return weights - start


def _predicted(values: Mapping[str, float], env_id: str = "CartPole-v1") -> float:
    phases, _ = train("acktr", Scripted([values]), phases=1, env_id=env_id)
    return phases[0].metrics["predicted_kl"]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_the_kl_clip_is_the_divergence_of_a_clipped_step(env_id: str) -> None:
    assert _predicted({"kl_clip": 1e-5}, env_id) == pytest.approx(1e-5, rel=1e-4)
    assert _predicted({"kl_clip": 1e9, "step_size": 1e-3}, env_id) < 1e-3
    small, large = (_step({"kl_clip": clip}, env_id=env_id) for clip in (1e-6, 4e-6))
    torch.testing.assert_close(large, 2 * small, atol=1e-5, rtol=1e-2)  # float32 differences


def test_an_unclipped_step_is_proportional_to_the_step_size() -> None:
    free = {"kl_clip": 1e9}
    small, large = (_step(free | {"step_size": size}) for size in (0.1, 0.3))
    torch.testing.assert_close(large, 3 * small, atol=1e-5, rtol=1e-2)
    clipped = {"kl_clip": 1e-6}
    torch.testing.assert_close(
        _step(clipped | {"step_size": 10.0}), _step(clipped | {"step_size": 20.0})
    )


def test_the_learning_rate_scales_what_is_left_of_the_step() -> None:
    small, large = (_step({"learning_rate": rate}) for rate in (0.5, 1.5))
    torch.testing.assert_close(large, 3 * small, atol=1e-5, rtol=1e-2)


def test_momentum_keeps_the_first_step_short() -> None:
    plain, heavy = (_step({"momentum": momentum}) for momentum in (0.0, 0.75))
    torch.testing.assert_close(heavy, plain / 4, atol=1e-5, rtol=1e-2)


def test_damping_shortens_an_unclipped_step() -> None:
    light, strong = (_step({"kl_clip": 1e9, "damping": damping}) for damping in (1e-3, 1e3))
    assert strong.norm() < 0.01 * light.norm()


def test_weight_decay_pulls_the_weights_towards_zero() -> None:
    start = weights_of(small_trainer("acktr"))
    free = {"kl_clip": 1e9, "step_size": 1e-3, "damping": 1.0, "momentum": 0.0}
    plain, decaying = (_step(free | {"weight_decay": decay}) for decay in (0.0, 10.0))
    assert (decaying - plain) @ start < 0


def test_the_fisher_coefficient_shortens_the_critics_steps_only() -> None:
    size = sum(each.numel() for each in small_trainer("acktr").policy.actor.parameters())
    small, large = (
        _step({"fisher_coefficient": each, "kl_clip": 1e9, "damping": 1e-6}) for each in (0.1, 10.0)
    )
    assert torch.equal(small[:size], large[:size])
    # The Fisher matrix grows as the coefficient's square; the damping dwarfs it in many directions.
    assert large[size:].norm() < 0.1 * small[size:].norm()


@pytest.mark.parametrize("period", ["statistics_period", "inversion_period"])
def test_a_longer_period_keeps_the_first_fisher_matrix(period: str) -> None:
    def after(length: float, phases: int) -> Tensor:
        values = {"statistics_period": 1.0, "inversion_period": 1.0} | {period: length}
        return _step(values, phases=phases, statistics_decay=0.5)

    assert torch.equal(after(1.0, 1), after(3.0, 1))
    assert not torch.equal(after(1.0, 2), after(3.0, 2))
