from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from hyperoracle_trainers.hyperparameters.presets import default_settings, family_of
from hyperoracle_trainers.hyperparameters.schedulable import HYPERPARAMETERS, TakesEffect
from hyperoracle_trainers.hyperparameters.settings import (
    A2CSettings,
    ACKTRSettings,
    PPOSettings,
    SettingsError,
    TrainerSettings,
)

ACKTR_ONLY = {
    "kl_clip",
    "step_size",
    "damping",
    "fisher_coefficient",
    "statistics_period",
    "inversion_period",
    "weight_decay",
}
NOT_PPOS = ACKTR_ONLY | {"rmsprop_alpha", "momentum"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env_id": "CartPoll-v1"}, r"env_id: expected a registered .* got 'CartPoll-v1'"),
        ({"env_id": "nowhere/X-v0"}, r"env_id: expected a registered"),
        ({"rollout_length": 100}, r"number_of_minibatches: expected a divisor of .* = 100, got 32"),
        ({"total_env_steps": 0}, r"total_env_steps: expected a whole number of at least 1, got 0"),
        ({"number_of_envs": 1.5}, r"number_of_envs: expected a whole number"),
        ({"preprocessing": "modern"}, r"preprocessing: expected 'classic' or 'machado', got"),
        (
            {"clip_rewards": True, "normalise_rewards": True},
            r"clip_rewards: expected normalise_rewards=false",
        ),
        ({"seed": -1}, r"seed: expected a whole number of at least 0, got -1"),
        ({"epochs": 0}, r"epochs: expected a whole number of at least 1"),
        ({"learning_rate": -1e-3}, r"learning_rate: expected a number between 0 and inf"),
        ({"learning_rate": float("nan")}, r"learning_rate: expected a number .* got nan"),
        ({"gamma": 1.01}, r"gamma: expected a number between 0 and 1, got 1.01"),
        ({"gae_lambda": -0.1}, r"gae_lambda: expected a number between 0 and 1"),
        ({"hidden_sizes": (64, 0)}, r"hidden_sizes: expected a whole number of at least 1"),
        ({"value_clip_range": 0.0}, r"value_clip_range: expected a positive number"),
        ({"adam_epsilon": 0.0}, r"adam_epsilon: expected a positive number"),
        ({"decisions": "always"}, r"decisions: expected 'phase' or 'minibatch', got 'always'"),
    ],
)
def test_a_meaningless_setting_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        PPOSettings(**{"env_id": "CartPole-v1"} | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"envs_per_update": 3}, r"envs_per_update: expected at most number_of_envs = 2, got 3"),
        ({"envs_per_update": 0}, r"envs_per_update: expected a whole number of at least 1, got 0"),
        (
            {"envs_per_update": 1, "rollout_length": 48},
            r"a divisor of rollout_length x envs_per_update = 48, got 32",
        ),
    ],
)
def test_the_environments_that_are_learnt_from_must_be_there(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        PPOSettings(**{"env_id": "CartPole-v1", "number_of_envs": 2} | change)


def test_an_update_learns_from_all_environments_unless_told_otherwise() -> None:
    settings = A2CSettings(env_id="CartPole-v1", number_of_envs=4)
    assert settings.base_values()["envs_per_update"] == 4.0
    more = dataclasses.replace(settings, number_of_envs=6)
    assert more.base_values()["envs_per_update"] == 6.0
    fewer = dataclasses.replace(settings, envs_per_update=3)
    assert fewer.base_values()["envs_per_update"] == 3.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rmsprop_alpha": 1.0}, r"rmsprop_alpha: expected a number between 0 and 0.999999"),
        ({"momentum": -0.1}, r"momentum: expected a number between 0 and 1, got -0.1"),
        ({"rmsprop_epsilon": -1.0}, r"rmsprop_epsilon: expected a positive number"),
    ],
)
def test_a2cs_own_settings_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        A2CSettings(env_id="CartPole-v1", **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"statistics_decay": 1.0}, r"statistics_decay: expected 0 <= decay < 1, got 1.0"),
        ({"damping": 0.0}, r"damping: expected a number between 1e-08 and inf, got 0.0"),
        ({"momentum": 1.5}, r"momentum: expected a number between 0 and 1, got 1.5"),
        ({"inversion_period": 0}, r"inversion_period: expected a whole number of at least 1"),
    ],
)
def test_acktrs_own_settings_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ACKTRSettings(env_id="CartPole-v1", **change)


@pytest.mark.parametrize(
    "settings_class", [TrainerSettings, PPOSettings, A2CSettings, ACKTRSettings]
)
def test_every_setting_is_documented(settings_class: type[TrainerSettings]) -> None:
    documented = {
        name
        for each in settings_class.__mro__[:-1]
        for name in re.findall(r"^        (\w+): ", each.__doc__ or "", re.MULTILINE)
    }
    assert {field.name for field in dataclasses.fields(settings_class)} == documented


def test_what_belongs_to_one_algorithm_only_that_one_schedules() -> None:
    ppo_only = {"clip_range", "epochs", "number_of_minibatches"}
    assert set(PPOSettings.schedulable()) == set(HYPERPARAMETERS) - NOT_PPOS
    assert set(A2CSettings.schedulable()) == set(HYPERPARAMETERS) - ppo_only - ACKTR_ONLY
    assert set(ACKTRSettings.schedulable()) == set(HYPERPARAMETERS) - ppo_only - {"rmsprop_alpha"}


def test_what_takes_effect_at_a_minibatch_is_what_the_loss_and_optimiser_use() -> None:
    at_minibatch = {
        name
        for name, each in HYPERPARAMETERS.items()
        if each.takes_effect is TakesEffect.AT_MINIBATCH
    }
    assert (
        at_minibatch
        == {
            "learning_rate",
            "clip_range",
            "value_loss_coefficient",
            "entropy_coefficient",
            "max_grad_norm",
        }
        | NOT_PPOS
    )


@pytest.mark.parametrize(
    ("env_id", "family"),
    [
        ("CartPole-v1", "classic_control"),
        ("BipedalWalker-v3", "box2d"),
        ("HalfCheetah-v5", "mujoco"),
        ("Identity-v0", "other"),
    ],
)
@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "acktr"])
def test_every_family_has_settings(algorithm: str, env_id: str, family: str) -> None:
    assert family_of(env_id) == family
    assert default_settings(algorithm, env_id).env_id == env_id


def test_ppo_on_mujoco_has_the_reference_settings() -> None:
    settings = default_settings("ppo", "Hopper-v5")
    assert settings == PPOSettings(
        env_id="Hopper-v5",
        number_of_envs=1,
        rollout_length=2048,
        learning_rate=3e-4,
        decay_learning_rate=True,
        epochs=10,
        number_of_minibatches=32,
        gamma=0.99,
        gae_lambda=0.95,
        entropy_coefficient=0.0,
        value_loss_coefficient=0.5,
        max_grad_norm=0.5,
        normalise_observations=True,
        normalise_rewards=True,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("dqn", "CartPole-v1", {}),
            r"algorithm: expected one of 'ppo', 'a2c', 'acktr', got 'dqn'",
        ),
        (("ppo", "Nothing-v9", {}), r"env_id: expected a registered"),
        (("a2c", "CartPole-v1", {"epochs": 3}), r"epochs: expected settings of A2CSettings; see"),
        (("a2c", "CartPole-v1", {"gama": 0.9}), r"gama: expected .*; did you mean gamma\?"),
    ],
)
def test_default_settings_refuse_in_one_line(
    arguments: tuple[str, str, dict[str, Any]], message: str
) -> None:
    algorithm, env_id, overrides = arguments
    with pytest.raises(SettingsError, match=message):
        default_settings(algorithm, env_id, **overrides)
