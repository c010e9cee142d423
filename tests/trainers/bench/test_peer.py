from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from trainers.short_runs import SMALL, train

from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.hyperparameters.settings import SettingsError
from hyperoracle_trainers.runs.run import make_trainer

pytest.importorskip("stable_baselines3")

from hyperoracle_trainers.bench.peers.peer import peer_model


def small_settings(algorithm: str, env_id: str = "CartPole-v1", **changes: Any) -> Any:
    return default_settings(algorithm, env_id, **SMALL[algorithm] | {"seed": 7} | changes)


@pytest.mark.parametrize("algorithm", ["ppo", "a2c"])
@pytest.mark.parametrize("decays", [True, False])
def test_every_update_has_the_learning_rate_that_ours_has(algorithm: str, decays: bool) -> None:
    phases, _ = train(algorithm, phases=4, decay_learning_rate=decays, learning_rate=0.01)
    ours = [phase.hyperparameters["learning_rate"] for phase in phases]
    total = phases[-1].env_step
    model = peer_model(
        small_settings(
            algorithm, total_env_steps=total, decay_learning_rate=decays, learning_rate=0.01
        )
    )
    rates: list[float] = []
    update = model.train

    def train_and_note() -> None:
        update()
        rates.append(model.policy.optimizer.param_groups[0]["lr"])

    model.train = train_and_note
    model.learn(total)
    assert rates == pytest.approx(ours)
    assert len(set(ours)) == (4 if decays else 1)


def test_ppo_has_our_hyperparameters() -> None:
    settings = small_settings(
        "ppo", gamma=0.9, gae_lambda=0.8, clip_range=0.3, value_clip_range=0.4,
        entropy_coefficient=0.01, value_loss_coefficient=0.7, max_grad_norm=0.6,
        adam_epsilon=1e-3, hidden_sizes=(8, 4), normalise_advantages=False,
    )  # fmt: skip
    model = peer_model(settings)
    assert (model.n_envs, model.n_steps, model.n_epochs) == (2, 16, 2)
    assert model.batch_size == 2 * 16 // 4
    assert (model.gamma, model.gae_lambda) == (0.9, 0.8)
    assert (model.clip_range(1.0), model.clip_range_vf(1.0)) == (0.3, 0.4)
    assert (model.ent_coef, model.vf_coef, model.max_grad_norm) == (0.01, 0.7, 0.6)
    assert model.policy.optimizer.param_groups[0]["eps"] == 1e-3
    assert model.normalize_advantage is False
    assert [each.out_features for each in model.policy.mlp_extractor.value_net[::2]] == [8, 4]


def test_a2c_has_our_optimiser() -> None:
    model = peer_model(small_settings("a2c", rmsprop_alpha=0.9, rmsprop_epsilon=1e-3))
    assert type(model.policy.optimizer).__name__ == "RMSprop"
    group = model.policy.optimizer.param_groups[0]
    assert (group["alpha"], group["eps"], group["weight_decay"]) == (0.9, 1e-3, 0)
    assert (model.n_envs, model.n_steps) == (2, 8)


@pytest.mark.parametrize(
    ("observations", "rewards"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_normalisation_is_on_where_ours_is(observations: bool, rewards: bool) -> None:
    settings = small_settings(
        "a2c", gamma=0.9, normalise_observations=observations, normalise_rewards=rewards
    )
    model = peer_model(settings)
    normaliser = model.get_vec_normalize_env()
    if not observations and not rewards:
        assert normaliser is None
        return
    assert (normaliser.norm_obs, normaliser.norm_reward) == (observations, rewards)
    assert normaliser.gamma == 0.9
    assert (normaliser.clip_obs, normaliser.clip_reward) == (10.0, 10.0)


def test_both_have_as_many_weights() -> None:
    _, weights = train("a2c", phases=1)
    peer = peer_model(small_settings("a2c")).policy
    assert sum(np.prod(each.shape) for each in peer.parameters()) == len(weights)


@pytest.mark.parametrize("preprocessing", ["classic", "machado"])
def test_atari_games_are_prepared_as_ours(preprocessing: str) -> None:
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    settings = small_settings("ppo", "ALE/Pong-v5", preprocessing=preprocessing)
    settings = dataclasses.replace(settings, decay_clip_range=False)
    model = peer_model(settings)
    trainer = make_trainer(settings)
    assert model.observation_space.shape == (4, 84, 84)
    assert model.action_space.n == trainer.policy.distribution.output_size
    game = model.env.venv.venv.envs[0]
    classic = preprocessing == "classic"
    assert game.unwrapped._frameskip == 1
    assert game.unwrapped.ale.getFloat("repeat_action_probability") == (0.0 if classic else 0.25)
    assert ("EpisodicLifeEnv" in str(game)) == classic
    assert ("NoopResetEnv" in str(game)) == classic
    assert "ClipRewardEnv" in str(game)
    assert model.policy.share_features_extractor is settings.shared_trunk is True
    peers, ours = (
        sum(each.numel() for each in one.parameters()) for one in (model.policy, trainer.policy)
    )
    assert peers == ours


@pytest.mark.parametrize("name", ["shared_trunk", "clip_rewards"])
def test_what_the_peer_has_for_atari_only_is_refused_elsewhere(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        peer_model(small_settings("a2c", **{name: True}))


def test_a_clip_range_that_falls_is_refused() -> None:
    with pytest.raises(SettingsError, match="decay_clip_range"):
        peer_model(small_settings("ppo", decay_clip_range=True))


def test_learning_from_some_environments_only_is_refused() -> None:
    with pytest.raises(SettingsError, match="envs_per_update"):
        peer_model(small_settings("a2c", envs_per_update=1))
