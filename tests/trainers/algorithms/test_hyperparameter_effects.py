"""Each schedulable hyperparameter changes an update in the way that its definition says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from trainers.short_runs import ALGORITHMS, SMALL, Scripted, small_trainer, train, weights_of

from hyperoracle_trainers.algorithms.phase import Phase


def _one_update(
    algorithm: str, values: Mapping[str, float], **changes: Any
) -> tuple[Phase, torch.Tensor]:
    phases, weights = train(algorithm, Scripted([values]), phases=1, **changes)
    return phases[0], weights


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_learning_rate_zero_leaves_the_parameters(algorithm: str) -> None:
    phase, weights = _one_update(algorithm, {"learning_rate": 0.0})
    assert torch.equal(weights, weights_of(small_trainer(algorithm)))
    assert phase.metrics["grad_norm"] > 0


def test_a2cs_step_is_proportional_to_the_learning_rate() -> None:
    start = weights_of(small_trainer("a2c"))
    small, large = (_one_update("a2c", {"learning_rate": rate})[1] - start for rate in (1e-3, 3e-3))
    torch.testing.assert_close(large, 3 * small, atol=1e-6, rtol=1e-3)  # float32 differences


def test_a_wide_clip_range_clips_nothing_and_a_narrow_one_much() -> None:
    rate = {"learning_rate": 0.01}
    wide, _ = _one_update("ppo", rate | {"clip_range": 1e6})
    narrow, _ = _one_update("ppo", rate | {"clip_range": 1e-4})
    assert wide.metrics["clip_fraction"] == 0.0
    assert narrow.metrics["clip_fraction"] > 0.5
    assert narrow.metrics["approx_kl"] < wide.metrics["approx_kl"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_without_its_coefficient_the_value_loss_does_not_train_the_critic(algorithm: str) -> None:
    def moved(coefficient: float) -> tuple[bool, bool]:
        trainer, fresh = small_trainer(algorithm, phases=1), small_trainer(algorithm)
        list(trainer.train(Scripted([{"value_loss_coefficient": coefficient}])))
        pairs = [
            (
                trunk,
                getattr(trainer.policy, trunk)[0].weight,
                getattr(fresh.policy, trunk)[0].weight,
            )
            for trunk in ("actor", "critic")
        ]
        actor, critic = (not torch.equal(after, before) for _, after, before in pairs)
        return actor, critic

    assert moved(0.0) == (True, False)
    assert moved(0.5) == (True, True)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_entropy_coefficient_widens_the_policy(algorithm: str) -> None:
    def log_std(coefficient: float) -> float:
        trainer = small_trainer(algorithm, "Pendulum-v1", phases=3)
        list(trainer.train(Scripted([{"entropy_coefficient": coefficient}])))
        return float(trainer.policy.distribution.log_std.detach())

    assert log_std(10.0) > max(0.0, log_std(0.0))


def test_a_long_gradient_is_shortened_to_the_max_grad_norm() -> None:
    # RMSprop's first step is lr g / (sqrt(0.01) |g| + eps): where eps dwarfs g it is linear in g.
    start = weights_of(small_trainer("a2c"))

    def length(norm: float) -> float:
        values = {"max_grad_norm": norm}
        _, weights = _one_update("a2c", values, rmsprop_epsilon=1e3, learning_rate=1e3)
        return float((weights - start).norm())

    assert length(0.1) == pytest.approx(0.1, rel=0.01)
    assert length(0.2) == pytest.approx(0.2, rel=0.01)
    phase, _ = _one_update("a2c", {})
    assert length(1e6) == pytest.approx(phase.metrics["grad_norm"], rel=0.01)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", ["gamma", "gae_lambda"])
def test_discounts_change_the_advantages_of_the_next_phase(algorithm: str, name: str) -> None:
    """The first phases are alike; in the second the lowered value lowers the value targets."""
    frozen = {"learning_rate": 0.0}  # so that the phases differ in nothing else
    plain, _ = train(algorithm, Scripted([frozen]), phases=2)
    lowered, _ = train(algorithm, Scripted([frozen | {name: 0.0}]), phases=2)
    assert lowered[0].metrics == plain[0].metrics
    # CartPole rewards 1 a step and the fresh critic says about 0: with gamma or lambda 0 a target
    # is about 1, otherwise the sum of many.
    assert plain[1].metrics["value_loss"] > 2 * lowered[1].metrics["value_loss"]
    assert lowered[0].hyperparameters[name] == plain[0].hyperparameters[name]
    assert lowered[1].hyperparameters[name] == 0.0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_phase_return_is_discounted_by_the_base_gamma(algorithm: str) -> None:
    frozen = {"learning_rate": 0.0}
    plain, _ = train(algorithm, Scripted([frozen]), phases=3)
    lowered, _ = train(algorithm, Scripted([frozen | {"gamma": 0.0}]), phases=3)
    assert [each.phase_return for each in lowered] == [each.phase_return for each in plain]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_rollout_length_decides_the_env_steps_of_the_next_phase(algorithm: str) -> None:
    base = SMALL[algorithm]["rollout_length"]
    phases, _ = train(algorithm, Scripted([{"rollout_length": 4.0}, {}]), phases=3)
    env_steps = np.diff([0, *(phase.env_step for phase in phases)])
    assert env_steps[:3].tolist() == [2 * base, 2 * 4, 2 * base]


@pytest.mark.parametrize(
    ("values", "updates"),
    [
        ({"epochs": 3.0}, 3 * 4),
        ({"number_of_minibatches": 2.0}, 2 * 2),
        ({"epochs": 1.0, "number_of_minibatches": 5.0}, 5),  # parts of 6 or 7 of 32
        ({"number_of_minibatches": 1000.0}, 2 * 32),  # one env step each
    ],
)
def test_epochs_and_minibatches_decide_the_updates_of_the_next_phase(
    values: dict[str, float], updates: int
) -> None:
    phases, _ = train("ppo", Scripted([values]), phases=2)
    assert phases[0].update_step == 2 * 4
    assert phases[1].update_step - phases[0].update_step == updates


def test_every_env_step_is_used_once_per_epoch() -> None:
    trainer = small_trainer("ppo")
    rollout = trainer._collector.collect(16)
    batch = trainer._batch(rollout, 0.99, 0.95)  # type: ignore[attr-defined] # PPO's own
    held = {"epochs": 2, "number_of_minibatches": 5}
    parts = list(trainer._minibatches(batch, held))  # type: ignore[attr-defined] # PPO's own
    assert [len(part.advantages) for part in parts] == [7, 7, 6, 6, 6] * 2
    expected = batch.observations.sum(1).sort().values
    for epoch in (parts[:5], parts[5:]):
        seen = torch.cat([part.observations for part in epoch]).sum(1).sort().values
        assert torch.equal(seen, expected)
    assert not torch.equal(parts[0].observations, parts[5].observations)


def test_the_learner_sees_the_log_probabilities_of_the_policy_that_acted() -> None:
    """PPO's ratio is 1 before the first update: no divergence, nothing clipped."""
    phase, _ = _one_update("ppo", {"learning_rate": 0.0}, env_id="Pendulum-v1")
    assert phase.metrics["approx_kl"] == pytest.approx(0.0, abs=1e-6)  # float32
    assert phase.metrics["clip_fraction"] == 0.0


def test_a_clipped_value_keeps_the_critic_near_its_old_opinion() -> None:
    _, free = _one_update("ppo", {"learning_rate": 0.05})
    _, held = _one_update("ppo", {"learning_rate": 0.05}, value_clip_range=1e-3)
    assert not torch.equal(free, held)
