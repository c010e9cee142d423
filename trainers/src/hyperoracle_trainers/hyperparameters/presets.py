"""Default settings for each algorithm and family of environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

from hyperoracle_trainers.hyperparameters.environment_names import game_of, specification_of
from hyperoracle_trainers.hyperparameters.settings import (
    A2CSettings,
    ACKTRSettings,
    AnySettings,
    PPOSettings,
    SettingsError,
)

_PPO: dict[str, dict[str, Any]] = {
    "classic_control": {
        "number_of_envs": 8,
        "rollout_length": 128,
        "epochs": 10,
        "number_of_minibatches": 4,
        "learning_rate": 2.5e-3,
        "decay_learning_rate": True,
    },
    "box2d": {
        "number_of_envs": 8,
        "rollout_length": 256,
        "epochs": 10,
        "number_of_minibatches": 32,
        "decay_learning_rate": True,
        "normalise_observations": True,
        "normalise_rewards": True,
    },
    "mujoco": {
        "decay_learning_rate": True,
        "normalise_observations": True,
        "normalise_rewards": True,
    },
    "atari": {
        "number_of_envs": 8,
        "rollout_length": 128,
        "epochs": 4,
        "number_of_minibatches": 4,
        "learning_rate": 2.5e-4,
        "decay_learning_rate": True,
        "clip_range": 0.1,
        "decay_clip_range": True,
        "entropy_coefficient": 0.01,
        "shared_trunk": True,
        "clip_rewards": True,
    },
}

_A2C: dict[str, dict[str, Any]] = {
    "classic_control": {
        "number_of_envs": 8,
        "rollout_length": 8,
        "learning_rate": 3e-3,
        "decay_learning_rate": True,
        "gamma": 0.98,
        "gae_lambda": 0.95,
        "normalise_advantages": True,
    },
    "box2d": {
        "number_of_envs": 16,
        "decay_learning_rate": True,
        "normalise_observations": True,
        "normalise_rewards": True,
    },
    "mujoco": {
        "number_of_envs": 4,
        "rollout_length": 8,
        "learning_rate": 1.5e-3,
        "gae_lambda": 0.9,
        "decay_learning_rate": True,
        "normalise_observations": True,
        "normalise_rewards": True,
    },
    "atari": {
        "number_of_envs": 16,
        "rollout_length": 5,
        "decay_learning_rate": True,
        "entropy_coefficient": 0.01,
        "shared_trunk": True,
        "clip_rewards": True,
    },
}

_ACKTR: dict[str, dict[str, Any]] = {
    "classic_control": {
        "number_of_envs": 8,
        "rollout_length": 16,
        "gae_lambda": 0.98,
        "kl_clip": 0.003,
        "damping": 0.01,
        "inversion_period": 1,
        "statistics_decay": 0.95,
        "momentum": 0.0,
        "decay_learning_rate": True,
        "normalise_rewards": True,
        "normalise_advantages": False,  # once it is solved they are noise
    },
    "box2d": {
        "number_of_envs": 16,
        "rollout_length": 32,
        "kl_clip": 0.01,
        "inversion_period": 2,
        "statistics_decay": 0.95,
        "momentum": 0.0,
        "decay_learning_rate": True,
        "normalise_observations": True,
        "normalise_rewards": True,
    },
    "mujoco": {
        "number_of_envs": 4,
        "rollout_length": 64,
        "kl_clip": 0.02,
        "inversion_period": 2,
        "statistics_decay": 0.95,
        "momentum": 0.0,
        "decay_learning_rate": True,
        "normalise_observations": True,
        "normalise_rewards": True,
    },
    "atari": {
        "number_of_envs": 32,
        "rollout_length": 20,
        "damping": 0.01,
        "decay_learning_rate": True,
        "entropy_coefficient": 0.01,
        "shared_trunk": True,
        "clip_rewards": True,
    },
}

_PRESETS: dict[str, tuple[type[AnySettings], dict[str, dict[str, Any]]]] = {
    "ppo": (PPOSettings, _PPO),
    "a2c": (A2CSettings, _A2C),
    "acktr": (ACKTRSettings, _ACKTR),
}


def family_settings(algorithm: str) -> Mapping[str, Mapping[str, Any]]:
    """Return, by family of environments, the settings that differ from the algorithm's own."""
    return _PRESETS[algorithm][1]


def family_of(env_id: str) -> str:
    """Return ``"classic_control"``, ``"box2d"``, ``"mujoco"``, ``"atari"`` or ``"other"``."""
    if game_of(env_id) is not None:
        return "atari"
    entry_point = str(specification_of(env_id).entry_point)
    return next((family for family in _PPO if f".{family}" in entry_point), "other")


@overload
def default_settings(algorithm: Literal["ppo"], env_id: str, **overrides: Any) -> PPOSettings: ...
@overload
def default_settings(algorithm: Literal["a2c"], env_id: str, **overrides: Any) -> A2CSettings: ...
@overload
def default_settings(
    algorithm: Literal["acktr"], env_id: str, **overrides: Any
) -> ACKTRSettings: ...
@overload
def default_settings(algorithm: str, env_id: str, **overrides: Any) -> AnySettings: ...
def default_settings(algorithm: str, env_id: str, **overrides: Any) -> AnySettings:
    """Return sensible settings for an algorithm on an environment.

    Args:
        algorithm: ``"ppo"``, ``"a2c"`` or ``"acktr"``.
        env_id: a registered Gymnasium environment; its family decides the settings.
        **overrides: settings that replace the preset's.

    Raises:
        SettingsError: an unknown algorithm, environment or setting, or a meaningless value.
    """
    if algorithm not in _PRESETS:
        known = ", ".join(map(repr, _PRESETS))
        raise SettingsError(f"algorithm: expected one of {known}, got {algorithm!r}; choose one")
    settings_class, presets = _PRESETS[algorithm]
    unknown = set(overrides) - set(settings_class.__dataclass_fields__)
    if unknown:
        raise SettingsError(
            f"{', '.join(sorted(unknown))}: expected settings of {settings_class.__name__}; "
            "see its documentation for their names"
        )
    # An unknown environment has no family: say so first.
    asked = {name: overrides[name] for name in ("preprocessing",) if name in overrides}
    env_id = settings_class(env_id=env_id, **asked).env_id
    preset = presets.get(family_of(env_id), {})
    return settings_class(env_id=env_id, **{**preset, **overrides})
