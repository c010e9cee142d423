from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from trainers.short_runs import train

from hyperoracle_trainers.environments.vector import VectorEnvironment, make_environments
from hyperoracle_trainers.hyperparameters.settings import SettingsError


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Truncated-v0", "Terminating-v0"])
def test_steps_as_gymnasiums_vector_environment_that_resets_in_the_same_step(env_id: str) -> None:
    seed, count = 3, 3
    ours = make_environments(env_id, count, seed)
    theirs = SyncVectorEnv(
        [lambda: gymnasium.make(env_id)] * count, autoreset_mode=AutoresetMode.SAME_STEP
    )
    seeds = np.random.SeedSequence(seed).generate_state(count).tolist()
    observations, _ = theirs.reset(seed=seeds)
    np.testing.assert_array_equal(ours.observations, observations)
    generator = np.random.default_rng(0)
    ended = 0
    for _ in range(200):
        actions = generator.integers(2, size=count)
        ours.step(actions)
        observations, rewards, terminated, truncated, infos = theirs.step(actions)
        np.testing.assert_array_equal(ours.observations, observations)
        np.testing.assert_array_equal(ours.rewards, rewards)
        np.testing.assert_array_equal(ours.terminated, terminated)
        np.testing.assert_array_equal(ours.truncated, truncated)
        assert sorted(ours.final_observations) == np.flatnonzero(terminated | truncated).tolist()
        for index, final in ours.final_observations.items():
            np.testing.assert_array_equal(final, infos["final_obs"][index])
            ended += 1
    assert ended > 3


def test_actions_beyond_the_bounds_are_clipped_to_them() -> None:
    far, at_bound = (make_environments("MountainCarContinuous-v0", 1, seed=1) for _ in range(2))
    far.step(np.array([[7.0]], np.float32))
    at_bound.step(np.array([[1.0]], np.float32))
    np.testing.assert_array_equal(far.observations, at_bound.observations)


def test_discrete_actions_are_counted_from_the_spaces_own_start() -> None:
    environments = make_environments("FromFive-v0", 2, seed=0)
    environments.step(np.array([0, 1]))  # the environment asserts that it gets 5 and 6
    assert environments.rewards.tolist() == [1.0, 1.0]


def test_numbers_are_observed_as_unit_vectors() -> None:
    environments = make_environments("Numbered-v0", 1, seed=0)
    environments.step(np.array([0]))
    assert environments.observations.tolist() == [[0, 1, 0, 0, 0]]


def test_environments_of_one_batch_begin_differently() -> None:
    observations = make_environments("CartPole-v1", 2, seed=0).observations
    assert not np.array_equal(observations[0], observations[1])


def test_unsupported_observations_are_refused_in_one_line() -> None:
    with pytest.raises(SettingsError, match=r"^env_id: expected Box, .*Dict.*register that$"):
        make_environments("Unsupported-v0", 1, seed=0)


@pytest.mark.parametrize(
    "space",
    [
        MultiDiscrete([2, 3]),
        MultiBinary(4),
        Dict({"a": Discrete(2)}),
        Tuple((Discrete(2), Discrete(3))),
        Box(-1, 1, (2, 2), np.float32),
        Box(np.array([0] * 50), np.arange(50) + 1, dtype=np.int64),  # its text has many lines
    ],
    ids=lambda space: type(space).__name__,
)
def test_actions_are_taken_or_refused_in_one_line_that_names_the_space(space: Any) -> None:
    gymnasium.register("Asked-v0", gymnasium.spec("Whole-v0").entry_point,
                       kwargs={"action_space": space})  # fmt: skip
    told = ""
    try:
        make_environments("Asked-v0", 1, seed=0).step(np.full((1, 50), 7.4, np.float32))
    except SettingsError as error:
        told = str(error)
    finally:
        gymnasium.registry.pop("Asked-v0")
    if not (isinstance(space, Box) and len(space.shape) == 1):
        assert told.startswith("env_id: expected Discrete or one-dimensional Box actions")
        assert type(space).__name__ in told
        assert len(told) < 300
        assert "\n" not in told


def test_whole_actions_are_the_nearest_within_the_bounds() -> None:
    environments = make_environments("Whole-v0", 1, seed=0)
    environments.step(np.array([[0.6, -7.0]], np.float32))
    environments.step(np.array([[2.4, 2.6]], np.float32))
    assert isinstance(environments, VectorEnvironment)
    taken = environments._environments[0].unwrapped.taken
    assert [each.tolist() for each in taken] == [[1, -2], [2, 3]]
    assert taken[0].dtype == np.int32


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "acktr"])
def test_whole_numbers_are_trained_on(algorithm: str) -> None:
    phases, _ = train(algorithm, env_id="Whole-v0")
    assert phases[-1].episode_returns


@pytest.mark.parametrize(
    ("space", "size"),
    [
        (MultiDiscrete([2, 3]), 5),
        (MultiBinary(4), 4),
        (Box(0, 255, (3,), np.uint8), 3),
        (Box(0, 255, (5, 5, 3), np.uint8), 75),
        (Box(-5, 5, (), np.int64), 1),
    ],
)
def test_observations_of_whole_numbers_are_vectors(space: Any, size: int) -> None:
    gymnasium.register("Asked-v0", gymnasium.spec("Whole-v0").entry_point,
                       kwargs={"observation_space": space})  # fmt: skip
    try:
        environments = make_environments("Asked-v0", 2, seed=0)
        environments.step(np.zeros((2, 2), np.float32))
    finally:
        gymnasium.registry.pop("Asked-v0")
    assert environments.observations.shape == (2, size)


@pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute")
@pytest.mark.parametrize(
    ("env_id", "size"), [("BipedalWalker-v3", 24), ("HalfCheetah-v5", 17), ("Pendulum-v1", 3)]
)
def test_every_family_steps_with_continuous_actions(env_id: str, size: int) -> None:
    environments = make_environments(env_id, 2, seed=0)
    assert environments.observation_shape == (size,)
    first = environments.observations.copy()
    environments.step(np.full((2, *environments.action_space.shape), 0.3, np.float32))
    assert np.isfinite(environments.observations).all()
    assert not np.array_equal(environments.observations, first)
    environments.close()


def test_images_of_any_environment_reach_the_policy_as_they_are() -> None:
    environments = make_environments("Picture-v0", 2, seed=0)
    assert environments.observation_shape == (36, 40, 3)
    assert environments.observations.dtype == np.uint8
    assert environments.observations.max() == 255
    environments.step(np.zeros(2, np.int64))
    assert environments.final_observations[0].shape == (36, 40, 3)
    assert environments.final_observations[0].dtype == np.uint8


def test_mujocos_warnings_go_to_the_log(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", logger="hyperoracle_trainers"):
        make_environments("HalfCheetah-v5", 1, seed=0).close()
    assert "settotalmass" in caplog.text, "Gymnasium's model has changed: nothing to silence"
    assert not capfd.readouterr().err
