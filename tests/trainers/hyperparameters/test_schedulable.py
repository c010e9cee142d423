"""Every hyperparameter that an algorithm can schedule does what its definition says, and when.

A run in which one proposal differs is compared with the slow reference's, which is told the
definition: which update, or which phase, uses the value, and how.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from trainers.reference_update import Reference

from hyperoracle_trainers.algorithms.rollouts import Rollout
from hyperoracle_trainers.hyperparameters.schedulable import HYPERPARAMETERS, TakesEffect
from hyperoracle_trainers.hyperparameters.settings import (
    A2CSettings,
    ACKTRSettings,
    AnySettings,
    PPOSettings,
)
from hyperoracle_trainers.hyperparameters.sources import FixedSource
from hyperoracle_trainers.runs.run import make_trainer

# Episodes of at most five env steps: rollouts hold terminations and cuts. Optimisers' epsilons
# are large, because a division by a tiny gradient turns rounding errors into whole steps. ACKTR's
# trust region is wide: a step that is clipped hides what lengthens its gradient.
COMMON: dict[str, Any] = {
    "env_id": "BriefCartPole-v0",
    "seed": 11,
    "number_of_envs": 4,
    "rollout_length": 8,
    "hidden_sizes": (6,),
    "total_env_steps": 10**6,
    "entropy_coefficient": 0.01,
}
SETTINGS: dict[str, tuple[type[AnySettings], dict[str, Any]]] = {
    "ppo": (
        PPOSettings,
        {
            "learning_rate": 0.03,
            "epochs": 2,
            "number_of_minibatches": 4,
            "adam_epsilon": 0.1,
            "decisions": "minibatch",
        },
    ),
    "a2c": (
        A2CSettings,
        {"learning_rate": 0.02, "gae_lambda": 0.9, "rmsprop_epsilon": 0.1, "momentum": 0.3},
    ),
    "acktr": (
        ACKTRSettings,
        {
            "kl_clip": 1e3,
            "step_size": 0.02,
            "damping": 0.1,
            "momentum": 0.3,
            "inversion_period": 1,
        },
    ),
}

CHANGED = {
    "learning_rate": 0.004,
    "clip_range": 0.001,
    "value_loss_coefficient": 2.0,
    "entropy_coefficient": 50.0,  # the fresh policy is near the widest
    "max_grad_norm": 0.05,
    "gamma": 0.5,
    "gae_lambda": 0.2,
    "rollout_length": 5,
    "envs_per_update": 3,
    "epochs": 3,
    "number_of_minibatches": 5,
    "rmsprop_alpha": 0.7,
    "kl_clip": 1e-7,
    "step_size": 0.002,
    "damping": 3.0,
    "fisher_coefficient": 3.0,
    "statistics_period": 3,
    "inversion_period": 3,
    "momentum": 0.8,
    "weight_decay": 0.5,
}
"""Of each hyperparameter a value that no algorithm has above."""

PAIRS = [
    (algorithm, name)
    for algorithm, (settings_class, _) in SETTINGS.items()
    for name in settings_class.schedulable()
]
PHASES = 3


def _settings(algorithm: str) -> AnySettings:
    settings_class, own = SETTINGS[algorithm]
    return settings_class(**COMMON, **own)


class _ProposesOnce(FixedSource):
    """Proposes values at one update step, and nothing before and after."""

    def __init__(self, proposed_at: int, values: Mapping[str, float]) -> None:
        self._proposed_at = proposed_at
        self._values = values

    def propose(
        self, *, env_step: int, update_step: int, signals: Mapping[str, float]
    ) -> Mapping[str, float]:
        return self._values if update_step == self._proposed_at else {}


Collected = list[tuple[Rollout, np.random.Generator]]


def _trained(
    settings: AnySettings, proposed_at: int, values: Mapping[str, float]
) -> tuple[Tensor, Reference, Collected]:
    """Train, and return the movement, a fresh reference and what the phases collected."""
    trainer = make_trainer(settings)
    reference = Reference(settings, trainer.policy)
    collected: Collected = []
    collect = trainer._collector.collect

    def recorded(rollout_length: int) -> Rollout:
        rollout = collect(rollout_length)
        collected.append((copy.deepcopy(rollout), copy.deepcopy(trainer._generator)))
        return rollout

    trainer._collector.collect = recorded  # type: ignore[method-assign] # to look on
    phases = trainer.train(_ProposesOnce(proposed_at, values))
    for _ in range(PHASES):
        next(phases)
    phases.close()
    weights = torch.cat([each.detach().flatten() for each in trainer.policy.parameters()])
    return weights.double(), reference, collected


def _foreseen(
    reference: Reference,
    collected: Collected,
    base: Mapping[str, float],
    held: Mapping[int, Mapping[str, float]],
    chosen: Mapping[int, Mapping[str, float]],
) -> Tensor:
    """Let the reference learn; ``held`` differs from the base by phase, ``chosen`` by update."""
    reference = copy.deepcopy(reference)

    def at(update: int) -> dict[str, float]:
        return {**base, **chosen.get(update, {})}

    for phase, (rollout, generator) in enumerate(collected):
        reference.learn(rollout, copy.deepcopy(generator), {**base, **held.get(phase, {})}, at)
    return reference.weights()


@pytest.mark.parametrize(("algorithm", "name"), PAIRS)
def test_a_proposal_changes_the_update_that_it_is_for_as_its_definition_says(
    algorithm: str, name: str
) -> None:
    settings = _settings(algorithm)
    base, change = settings.base_values(), {name: float(CHANGED[name])}
    assert base[name] != change[name]
    updates_per_phase = 8 if algorithm == "ppo" else 1
    proposed_at = 2 * updates_per_phase - 1  # for the last minibatch of the second phase
    weights, reference, collected = _trained(settings, proposed_at, change)

    at_minibatch = HYPERPARAMETERS[name].takes_effect is TakesEffect.AT_MINIBATCH
    assert collected[2][0].rewards.shape == (5 if name == "rollout_length" else 8, 4)
    expected, otherwise = (
        _foreseen(
            reference,
            collected,
            base,
            held={} if ignored or at_minibatch else {2: change},
            chosen={proposed_at: change} if at_minibatch and not ignored else {},
        )
        for ignored in (False, True)
    )
    start = reference.weights()
    error = float((weights - expected).norm() / (expected - start).norm())
    assert error < 1e-5  # float32 against float64: about 1e-6
    if name != "rollout_length":  # that one is in the rollouts that the reference is shown
        effect = float((otherwise - expected).norm() / (expected - start).norm())
        assert effect > 1e-3


def test_every_hyperparameter_of_every_algorithm_is_tested() -> None:
    """A new hyperparameter has no value to change to, until it is added above."""
    assert set(CHANGED) == set(HYPERPARAMETERS)
    assert {name for _, name in PAIRS} == set(HYPERPARAMETERS)


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_what_is_learnt_from_holds_episodes_that_end_and_episodes_that_are_cut(
    algorithm: str,
) -> None:
    _, _, collected = _trained(_settings(algorithm), 0, {})
    assert any(rollout.truncated[:, 3].any() for rollout, _ in collected)
    assert any(rollout.truncated[:, :3].any() for rollout, _ in collected)
