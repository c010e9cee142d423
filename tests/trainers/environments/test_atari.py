from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from hyperoracle_trainers.algorithms.rollouts import Collector
from hyperoracle_trainers.environments.atari import PREPROCESSING, AtariEnvironments
from hyperoracle_trainers.environments.normalisation import NoNormalisation, RewardSigns
from hyperoracle_trainers.environments.vector import environments_of
from hyperoracle_trainers.hyperparameters.environment_names import game_of
from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.hyperparameters.settings import SettingsError
from hyperoracle_trainers.policies.networks import ActorCritic, actor_of
from hyperoracle_trainers.runs.evaluation import evaluate
from hyperoracle_trainers.runs.run import make_trainer

SHORT_GAMES = dataclasses.replace(PREPROCESSING["classic"], frame_limit=60)


def _played(environments: AtariEnvironments, steps: int, seed: int = 0) -> list[Any]:
    """Random play: a copy of all attributes after every step."""
    generator = np.random.default_rng(seed)
    history = []
    for _ in range(steps):
        environments.step(generator.integers(environments.action_space.n, size=len(environments)))
        history.append(
            (
                environments.observations.copy(),
                np.array(environments.rewards, dtype=float),
                environments.terminated.copy(),
                environments.truncated.copy(),
                dict(environments.final_observations),
            )
        )
    environments.close()
    return history


def test_equal_seeds_play_equal_games_on_any_number_of_threads() -> None:
    first, threaded, other = (
        _played(AtariEnvironments("pong", 2, seed, PREPROCESSING["machado"], threads), 50)
        for seed, threads in ((1, 1), (1, 2), (2, 1))
    )
    same = [np.array_equal(a[0], b[0]) for a, b in zip(first, threaded, strict=True)]
    assert all(same)
    assert not all(np.array_equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


def test_environments_of_one_batch_play_games_of_their_own() -> None:
    last = _played(AtariEnvironments("breakout", 2, 0, PREPROCESSING["classic"], 1), 40)[-1]
    assert not np.array_equal(last[0][0], last[0][1])


def test_a_lost_life_terminates_the_task_but_not_the_game() -> None:
    history = _played(AtariEnvironments("breakout", 1, 3, PREPROCESSING["classic"], 1), 300)
    ends = [(bool(step[2][0]), 0 in step[4]) for step in history if step[2][0]]
    lives_until_the_first_game_is_over = [over for _, over in ends].index(True) + 1
    assert lives_until_the_first_game_is_over == 5  # Breakout has five lives
    assert all(over for ended, over in ends if not ended)  # every game ends with a life


def test_by_machado_only_the_games_end_terminates_and_all_actions_are_there() -> None:
    environments = AtariEnvironments("breakout", 1, 3, PREPROCESSING["machado"], 1)
    assert environments.action_space.n == 18
    history = _played(environments, 300)
    ends = [0 in step[4] for step in history if step[2][0]]
    assert ends
    assert all(ends)


def test_a_game_is_cut_at_the_frame_limit_and_shows_its_last_frames() -> None:
    history = _played(AtariEnvironments("pong", 1, 0, SHORT_GAMES, 1), 40)
    cut = [index for index, step in enumerate(history) if step[3][0]]
    assert cut
    for index in cut:
        observation, _, terminated, _, finals = history[index]
        assert not terminated[0]
        assert finals[0].shape == (84, 84, 4)
        assert not np.array_equal(finals[0], observation[0]), "a new game has begun"
        # The stack moves on by one frame a step: three of the four were seen before.
        np.testing.assert_array_equal(finals[0][..., :3], history[index - 1][0][0][..., 1:])


def test_rewards_are_the_games_own_points_and_the_learner_gets_their_signs() -> None:
    history = _played(AtariEnvironments("ms_pacman", 1, 0, PREPROCESSING["classic"], 1), 150)
    rewards = np.array([step[1] for step in history])
    assert rewards.max() >= 10.0  # a pellet
    signs = RewardSigns().normalise(rewards, np.zeros_like(rewards, dtype=bool))
    assert set(np.unique(signs)) == {0.0, 1.0}
    assert signs.dtype == np.float32


def test_returns_are_of_whole_games() -> None:
    settings = default_settings("ppo", "ALE/Breakout-v5", number_of_envs=2)
    environments = environments_of(settings, 2, seed=3)
    policy = ActorCritic(
        environments.observation_shape, environments.action_space, (), 0, shared_trunk=True
    )
    collector = Collector(
        environments,
        actor_of(policy),
        NoNormalisation(np.uint8),
        RewardSigns(),
        0.99,
        np.random.default_rng(0),
    )
    lives = games = 0
    while games < 1:
        rollout = collector.collect(64)
        lives += int(rollout.terminated.sum())
        games += len(rollout.episode_returns)
        assert min(rollout.episode_lengths, default=100) > 60  # of one life some 20
        assert rollout.observations.dtype == np.uint8
        assert all(each == int(each) for each in rollout.episode_returns)
    assert lives >= 5


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "a2c"])
def test_training_on_images_repeats_itself(algorithm: str) -> None:
    shape: dict[str, Any] = {"number_of_envs": 2, "rollout_length": 8}
    settings = default_settings(algorithm, "ALE/Pong-v5", total_env_steps=20, **shape)
    parameters = []
    for _ in range(2):
        trainer = make_trainer(settings)
        before = [each.detach().clone() for each in trainer.policy.parameters()]
        phases = list(trainer.train())
        assert phases[-1].env_step == 32
        after = [each.detach().clone() for each in trainer.policy.parameters()]
        assert any(not a.equal(b) for a, b in zip(before, after, strict=True))
        parameters.append(after)
    assert all(a.equal(b) for a, b in zip(*parameters, strict=True))


def test_ppo_keeps_what_acting_gave_and_it_is_what_a_pass_gives() -> None:
    settings = default_settings(
        "ppo", "ALE/Pong-v5", number_of_envs=2, rollout_length=4, number_of_minibatches=1
    )
    trainer = make_trainer(settings)
    rollout = trainer._collector.collect(4).of_first(1)
    assert rollout.outputs is not None
    everything = torch.from_numpy(rollout.all_observations())
    actions = torch.from_numpy(rollout.actions).flatten(0, 1)
    with torch.no_grad():
        log_probs, values = trainer._judged(rollout, everything, actions)
        now = trainer._pass(everything, actions)
    # Batches of other sizes are added up in another order.
    np.testing.assert_allclose(log_probs, now.log_probs, atol=1e-5)
    np.testing.assert_allclose(values, now.values, atol=1e-5)


@pytest.mark.slow
def test_acktr_steps_to_the_edge_of_one_trust_region_for_all_layers() -> None:
    settings = default_settings(
        "acktr", "ALE/Pong-v5", number_of_envs=2, rollout_length=4, total_env_steps=8
    )
    trainer = make_trainer(settings)
    before = [each.detach().clone() for each in trainer.policy.parameters()]
    (phase,) = trainer.train()
    assert phase.metrics["predicted_kl"] == pytest.approx(settings.kl_clip, rel=1e-3)
    assert all(not a.equal(b) for a, b in zip(before, trainer.policy.parameters(), strict=True))


@pytest.mark.slow
def test_evaluation_plays_whole_games_and_repeats_itself() -> None:
    settings = default_settings("ppo", "ALE/Breakout-v5")
    trainer = make_trainer(settings)
    returns = [
        evaluate(trainer.policy, trainer.observation_normaliser, settings, episodes=1, seed=1)
        for _ in range(2)
    ]
    assert returns[0] == returns[1]
    assert 0.0 <= returns[0][0] <= 60.0  # nobody plays Breakout well by chance


def test_images_are_not_normalised_by_running_moments() -> None:
    settings = default_settings("ppo", "ALE/Pong-v5", normalise_observations=True)
    with pytest.raises(SettingsError, match="normalise_observations: expected false for images"):
        make_trainer(settings)


def test_only_atari_environments_have_a_game() -> None:
    default_settings("ppo", "ALE/MsPacman-v5")  # registers the games
    assert game_of("ALE/MsPacman-v5") == "ms_pacman"
    assert game_of("CartPole-v1") is None
