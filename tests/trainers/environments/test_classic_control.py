from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import WrapperSpec
from gymnasium.spaces import Discrete

from hyperoracle_trainers.environments.classic_control import ClassicControl, physics_of
from hyperoracle_trainers.environments.vector import VectorEnvironment, make_environments
from hyperoracle_trainers.saved_state import read_state, write_state

# What to do so that episodes end as random actions never end them, given an observation.
SKILLED: dict[str, Callable[[np.ndarray], Any]] = {
    "CartPole-v1": lambda seen: seen[2] + seen[3] > 0,  # stands for all 500 steps
    "Acrobot-v1": lambda seen: 1 + np.sign(seen[5]),  # swings up
    "MountainCar-v0": lambda seen: 1 + np.sign(seen[1]),  # gets out of the valley
    "Pendulum-v1": lambda seen: 9.0 * seen[2],  # goes round, at full speed
}
ENV_IDS = list(SKILLED)
ENDINGS = {  # (terminated, truncated) of the episodes that end
    "CartPole-v1": {(True, False), (False, True)},
    "Acrobot-v1": {(True, False), (False, True)},
    "MountainCar-v0": {(True, False), (False, True)},
    "Pendulum-v1": {(False, True)},
}

_ANGLES = np.linspace(-10.0, 10.0, 20_001)
same_sines = pytest.mark.skipif(
    any(
        ours(angle) != theirs(angle)
        for angle in _ANGLES
        for ours, theirs in ((math.sin, np.sin), (math.cos, np.cos))
    ),
    reason="this machine's NumPy has sines of its own, one unit in the last place away",
)


def actions_for(
    env_id: str, batch: ClassicControl | VectorEnvironment, generator: np.random.Generator
) -> np.ndarray:
    """The first copy acts with skill, the others at random, now and then beyond the bounds."""
    skilled = SKILLED[env_id](batch.observations[0])
    if isinstance(batch.action_space, Discrete):
        actions = generator.integers(batch.action_space.n, size=len(batch))
        actions[0] = int(skilled)
        return actions
    drawn = generator.uniform(-3, 3, (len(batch), 1)).astype(np.float32)
    drawn[0] = skilled
    return drawn


def assert_same_outcome(
    ours: ClassicControl | VectorEnvironment, theirs: ClassicControl | VectorEnvironment
) -> None:
    for name in ("observations", "rewards", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype
    assert ours.final_observations.keys() == theirs.final_observations.keys()
    for index, final in theirs.final_observations.items():
        np.testing.assert_array_equal(ours.final_observations[index], final)
        assert ours.final_observations[index].dtype == final.dtype


def gymnasiums(env_id: str, count: int, seed: int) -> VectorEnvironment:
    return VectorEnvironment([gymnasium.make(env_id) for _ in range(count)], seed)


def ours_of(env_id: str, count: int, seed: int) -> ClassicControl:
    environments = make_environments(env_id, count, seed)
    assert isinstance(environments, ClassicControl)
    return environments


@same_sines
@pytest.mark.parametrize("env_id", ENV_IDS)
def test_every_bit_is_gymnasiums_over_many_episodes(env_id: str) -> None:
    ours, theirs = ours_of(env_id, 3, seed=5), gymnasiums(env_id, 3, seed=5)
    assert (len(ours), ours.observation_shape) == (len(theirs), theirs.observation_shape)
    assert ours.action_space == theirs.action_space
    np.testing.assert_array_equal(ours.observations, theirs.observations)
    generator = np.random.default_rng(0)
    endings = set()
    for _ in range(2500):
        actions = actions_for(env_id, theirs, generator)
        ours.step(actions)
        theirs.step(actions)
        assert_same_outcome(ours, theirs)
        # Observations are rounded and hide a state's last bits.
        states = [np.array(each.unwrapped.state) for each in theirs._environments]  # type: ignore[attr-defined]
        np.testing.assert_array_equal(ours.state()["states"], states)
        endings |= {
            (bool(ours.terminated[index]), bool(ours.truncated[index]))
            for index in ours.final_observations
        }
    assert endings == ENDINGS[env_id]


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_a_step_from_any_state_is_gymnasiums_to_twelve_places(env_id: str) -> None:
    environment: Any = gymnasium.make(env_id).unwrapped
    environment.reset(seed=0)
    physics = physics_of(gymnasium.spec(env_id))
    assert physics is not None
    # A little beyond every limit that there is of speeds, angles and places.
    reach = {
        "CartPole-v1": (3.0, 3.0, 0.25, 3.0),
        "Acrobot-v1": (3.1, 3.1, 13.0, 29.0),
        "MountainCar-v0": (1.2, 0.08),
        "Pendulum-v1": (20.0, 8.5),
    }[env_id]
    generator = np.random.default_rng(1)
    ended = set()
    for _ in range(1000):
        state = generator.uniform(-np.array(reach), reach)
        action = environment.action_space.sample()
        environment.state = state
        environment.steps_beyond_terminated = None
        theirs, their_reward, their_end, _, _ = environment.step(action)
        given = action[0] if isinstance(action, np.ndarray) else int(action)
        ours, our_reward, our_end = physics.step(tuple(state.tolist()), given)
        np.testing.assert_allclose(ours, environment.state, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(physics.observation(ours), theirs, rtol=1e-6, atol=1e-6)
        assert our_reward == pytest.approx(their_reward, rel=1e-12, abs=1e-12)
        assert our_end == their_end
        ended.add(our_end)
    assert ended == ({False} if env_id == "Pendulum-v1" else {False, True})


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_a_run_goes_on_bit_by_bit_where_its_state_was_written(env_id: str, tmp_path: Path) -> None:
    lost, resumed = ours_of(env_id, 3, seed=5), ours_of(env_id, 3, seed=6)
    generator = np.random.default_rng(0)
    for _ in range(130):
        lost.step(actions_for(env_id, lost, generator))
    write_state(tmp_path / "state", lost.state())
    assert resumed.restore(read_state(tmp_path / "state")) == []
    np.testing.assert_array_equal(resumed.observations, lost.observations)
    ended = 0
    for _ in range(600):
        actions = actions_for(env_id, lost, generator)
        lost.step(actions)
        resumed.step(actions)
        assert_same_outcome(resumed, lost)
        ended += len(lost.final_observations)
    assert ended > 2, "time limits and resets, too, go on"


def test_a_batch_that_is_restored_shares_nothing_with_the_one_it_came_from() -> None:
    first, second = ours_of("CartPole-v1", 2, seed=0), ours_of("CartPole-v1", 2, seed=1)
    second.restore(first.state())
    before = first.observations.copy()
    for _ in range(100):  # through some episodes
        second.step(np.array([0, 1]))
    np.testing.assert_array_equal(first.observations, before)
    third = ours_of("CartPole-v1", 2, seed=0)
    for _ in range(100):
        first.step(np.array([0, 1]))
        third.step(np.array([0, 1]))
    assert_same_outcome(first, third)


@pytest.fixture
def registered() -> Iterator[Callable[..., str]]:
    """Registers environments under names that are forgotten after the test."""
    names: list[str] = []

    def register(entry_point: str, **changes: Any) -> str:
        names.append(f"Classic{len(names)}-v0")
        gymnasium.register(names[-1], f"gymnasium.envs.classic_control.{entry_point}", **changes)
        return names[-1]

    yield register
    for name in names:
        del gymnasium.registry[name]


@same_sines
@pytest.mark.parametrize("limit", [7, None])
def test_a_time_limit_is_that_of_the_registration(
    limit: int | None, registered: Callable[..., str]
) -> None:
    env_id = registered("pendulum:PendulumEnv", max_episode_steps=limit)
    ours, theirs = ours_of(env_id, 1, seed=0), gymnasiums(env_id, 1, seed=0)
    lengths = 0
    for _ in range(300):
        ours.step(np.array([[0.5]], np.float32))
        theirs.step(np.array([[0.5]], np.float32))
        assert_same_outcome(ours, theirs)
        lengths += len(ours.final_observations)
    assert lengths == (300 // 7 if limit else 0)


def test_one_that_is_registered_otherwise_is_gymnasiums_own(
    registered: Callable[..., str],
) -> None:
    heavy = registered("pendulum:PendulumEnv", kwargs={"g": 30.0}, max_episode_steps=200)
    wrapped = registered(
        "pendulum:PendulumEnv",
        additional_wrappers=(WrapperSpec("Clip", "gymnasium.wrappers:ClipAction", kwargs={}),),
    )
    for env_id in (heavy, wrapped, "MountainCarContinuous-v0"):
        assert isinstance(make_environments(env_id, 1, seed=0), VectorEnvironment)
