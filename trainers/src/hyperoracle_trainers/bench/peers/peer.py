"""Stable-Baselines3 with the hyperparameters of our settings: the peer of benchmarks.

What is equal: environments, rollouts, epochs, minibatches, the optimiser and its constants, all
coefficients, advantage normalisation, the networks and their initialisation, normalisation of
observations and rewards by running statistics within ±10.

What is not:

- Learning rate: Stable-Baselines3 evaluates its schedule after a rollout, so that the last update
  of a falling rate would have rate 0; the schedule is shifted by one rollout here, which makes the
  rates of all updates equal.
- Rewards: Stable-Baselines3 scales each reward by the statistics at its env step, we scale all
  rewards of a rollout by the statistics at its end.
- Atari: the peer wraps one emulator per environment in Python, ours is the emulators' own vector
  environment.
- Random numbers, hence initial weights, actions and the environment's beginnings.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from torch.optim import RMSprop

from hyperoracle_trainers.environments.atari import PREPROCESSING
from hyperoracle_trainers.hyperparameters.environment_names import game_of
from hyperoracle_trainers.hyperparameters.settings import A2CSettings, PPOSettings, SettingsError

PEER = "stable-baselines3"


def peer_is_installed() -> bool:
    """Return whether Stable-Baselines3 can be imported."""
    return find_spec("stable_baselines3") is not None


def peer_model(settings: PPOSettings | A2CSettings) -> Any:
    """Return Stable-Baselines3's model for our settings.

    Args:
        settings: of a run; ``torch_threads`` is left to the caller.

    Raises:
        SettingsError: the peer has nothing that corresponds to a setting.
        ImportError: Stable-Baselines3 is not installed.
    """
    if settings.envs_per_update is not None:
        raise SettingsError(
            f"envs_per_update: expected None beside the peer, which learns from all, got "
            f"{settings.envs_per_update}; leave it out"
        )
    import stable_baselines3  # pyright: ignore[reportMissingImports]  # optional

    shared = {
        "policy": "MlpPolicy" if game_of(settings.env_id) is None else "CnnPolicy",
        "env": _environments(settings),
        "learning_rate": _learning_rate(settings),
        "n_steps": settings.rollout_length,
        "gamma": settings.gamma,
        "gae_lambda": settings.gae_lambda,
        "ent_coef": settings.entropy_coefficient,
        "vf_coef": settings.value_loss_coefficient,
        "max_grad_norm": settings.max_grad_norm,
        "normalize_advantage": settings.normalise_advantages,
        "seed": settings.seed,
        "device": settings.device,
    }
    networks = _networks(settings)
    if isinstance(settings, A2CSettings):
        rmsprop = {"alpha": settings.rmsprop_alpha, "eps": settings.rmsprop_epsilon}
        optimiser = {"optimizer_class": RMSprop, "optimizer_kwargs": rmsprop}
        return stable_baselines3.A2C(**shared, policy_kwargs=networks | optimiser)
    if settings.decay_clip_range:
        raise SettingsError(
            "decay_clip_range: expected False beside the peer, got True; leave it out"
        )
    return stable_baselines3.PPO(
        **shared,
        batch_size=settings.rollout_length
        * settings.number_of_envs
        // settings.number_of_minibatches,
        n_epochs=settings.epochs,
        clip_range=settings.clip_range,
        clip_range_vf=settings.value_clip_range,
        policy_kwargs=networks | {"optimizer_kwargs": {"eps": settings.adam_epsilon}},
    )


def _networks(settings: PPOSettings | A2CSettings) -> dict[str, Any]:
    if game_of(settings.env_id) is not None:
        return {"share_features_extractor": settings.shared_trunk}
    if settings.shared_trunk or settings.clip_rewards:
        raise SettingsError(
            "shared_trunk, clip_rewards: expected False beside the peer, which has them for Atari "
            "only, got True; leave them out"
        )
    return {"net_arch": list(settings.hidden_sizes)}


def _environments(settings: PPOSettings | A2CSettings) -> Any:
    from stable_baselines3.common.env_util import (  # pyright: ignore[reportMissingImports]
        make_atari_env,
        make_vec_env,
    )
    from stable_baselines3.common.vec_env import (  # pyright: ignore[reportMissingImports]
        VecFrameStack,
        VecNormalize,
    )

    copies: dict[str, Any] = {"n_envs": settings.number_of_envs, "seed": settings.seed}
    if game_of(settings.env_id) is not None:
        scheme = PREPROCESSING[settings.preprocessing]
        games = make_atari_env(
            settings.env_id,
            **copies,
            env_kwargs={
                "frameskip": 1,  # the wrapper skips frames
                "repeat_action_probability": scheme.sticky_actions,
                "full_action_space": scheme.full_action_space,
                "max_num_frames_per_episode": scheme.frame_limit,
            },
            wrapper_kwargs={
                "noop_max": scheme.greatest_noops,
                "frame_skip": scheme.frame_skip,
                "terminal_on_life_loss": scheme.life_loss_terminates,
                "clip_reward": settings.clip_rewards,
            },
        )
        return VecFrameStack(games, 4)
    environments = make_vec_env(settings.env_id, **copies)
    if not (settings.normalise_observations or settings.normalise_rewards):
        return environments
    return VecNormalize(
        environments,
        gamma=settings.gamma,
        norm_obs=settings.normalise_observations,
        norm_reward=settings.normalise_rewards,
    )


def _learning_rate(settings: PPOSettings | A2CSettings) -> Any:
    if not settings.decay_learning_rate:
        return settings.learning_rate
    rollout = settings.rollout_length * settings.number_of_envs / settings.total_env_steps
    return lambda remaining: settings.learning_rate * (remaining + rollout)
