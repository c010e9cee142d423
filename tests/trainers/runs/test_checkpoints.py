"""A trainer that is restored from a file goes on as if nothing had happened, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from trainers.short_runs import ALGORITHMS, outcome, small_trainer, weights_of

from hyperoracle_trainers.environments.atari import PREPROCESSING, AtariEnvironments
from hyperoracle_trainers.environments.episode_recording import EpisodeRecording
from hyperoracle_trainers.environments.vector import Environments, make_environments
from hyperoracle_trainers.runs.checkpoints import (
    CheckpointError,
    CheckpointKeeper,
    checkpoints_in,
    load_checkpoint,
    restore_trainer,
    save_checkpoint,
)
from hyperoracle_trainers.saved_state import read_state, write_state

MANY = {"phases": 12, "number_of_envs": 3}
EVERYTHING = {"normalise_observations": True, "normalise_rewards": True, "rollout_length": 24}


def resumed_and_uninterrupted(
    path: Path, algorithm: str, *, stop_after: int, **changes: Any
) -> tuple[list[Any], list[Any], torch.Tensor, torch.Tensor, list[int]]:
    """The phases after ``stop_after`` and the final weights of both runs."""
    uninterrupted = small_trainer(algorithm, **changes)
    phases = []
    for phase in uninterrupted.train():
        phases.append(phase)
        if phase.index + 1 == stop_after:
            write_state(path, uninterrupted.state())
    resumed = small_trainer(algorithm, **changes)
    anew = resumed.restore(read_state(path))
    rest = list(resumed.train())
    return (
        outcome(phases[stop_after:]),
        outcome(rest),
        weights_of(uninterrupted),
        weights_of(resumed),
        anew,
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Hopper-v5", "Pendulum-v1"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(
    tmp_path: Path, algorithm: str, env_id: str
) -> None:
    changes = {**MANY, **EVERYTHING, "env_id": env_id, "decay_learning_rate": True}
    expected, got, weights, weights_again, anew = resumed_and_uninterrupted(
        tmp_path / "state", algorithm, stop_after=5, **changes
    )
    assert anew == []
    assert len(expected) == 7
    assert got == expected
    assert torch.equal(weights, weights_again)


@pytest.mark.parametrize("algorithm", ["ppo", "a2c"])
def test_every_attribute_of_a_descent_rule_comes_back(tmp_path: Path, algorithm: str) -> None:
    trainer = small_trainer(algorithm)
    for _ in trainer.train():
        pass
    write_state(tmp_path / "state", trainer.state())
    resumed = small_trainer(algorithm)
    resumed.restore(read_state(tmp_path / "state"))
    rule, restored = (vars(each._optimiser._rule) for each in (trainer, resumed))
    assert rule.keys() == restored.keys()
    for name, value in rule.items():
        np.testing.assert_array_equal(restored[name], value, err_msg=name)


EXACT = ["Acrobot-v1", "MountainCarContinuous-v0", "Walker2d-v5", "LunarLander-v3"]


@pytest.mark.filterwarnings("ignore")  # Box2D's own, when it is imported
@pytest.mark.parametrize("env_id", EXACT)
def test_environments_of_each_family_come_back_to_where_they_were(env_id: str) -> None:
    lost = make_environments(env_id, 2, seed=1)
    resumed = make_environments(env_id, 2, seed=1)
    generator = np.random.default_rng(0)
    for _ in range(150):
        lost.step(actions_for(lost, generator))
    assert resumed.restore(lost.state()) == []
    for _ in range(150):
        actions = actions_for(lost, generator)
        lost.step(actions)
        resumed.step(actions)
        np.testing.assert_array_equal(resumed.observations, lost.observations)
        np.testing.assert_array_equal(resumed.rewards, lost.rewards)
        np.testing.assert_array_equal(resumed.terminated, lost.terminated)


def actions_for(environments: Environments, generator: np.random.Generator) -> Any:
    space = environments.action_space
    if isinstance(space, Discrete):
        return generator.integers(space.n, size=len(environments))
    return generator.uniform(-1, 1, (len(environments), *space.shape)).astype(np.float32)


class Moody(gymnasium.Env[Any, Any]):
    """What it observes depends on how many copies of it there have been: nobody can repeat it."""

    observation_space = Box(0.0, np.inf, (1,), np.float64)
    action_space = Discrete(2)
    copies = 0

    def __init__(self) -> None:
        type(self).copies += 1
        self._mood = float(self.copies)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.array([self._mood]), {}

    def step(self, action: int) -> Any:
        return np.array([self._mood]), 1.0, False, False, {}


def test_an_environment_that_cannot_come_back_begins_its_episode_anew(tmp_path: Path) -> None:
    gymnasium.register("Moody-v0", Moody)
    changes = {"env_id": "Moody-v0", "number_of_envs": 2, "rollout_length": 4, "phases": 3}
    trainer = small_trainer("a2c", **changes)
    phases = trainer.train()
    next(phases)
    write_state(tmp_path / "state", trainer.state())
    resumed = small_trainer("a2c", **changes)
    assert resumed.restore(read_state(tmp_path / "state")) == [0, 1]
    collector = resumed._collector
    assert collector._lengths.tolist() == [0, 0]
    assert collector._returns.tolist() == [0.0, 0.0]
    assert collector._next_observations.tolist() == [[3.0], [4.0]], "of the new episodes"
    assert len(list(resumed.train())) == 2


def test_games_of_atari_begin_anew_and_otherwise_than_at_the_start() -> None:
    preprocessing = PREPROCESSING["classic"]
    started, resumed, again = (
        AtariEnvironments("breakout", 2, seed=1, preprocessing=preprocessing, threads=1)
        for _ in range(3)
    )
    assert resumed.restore({"steps": 77}) == again.restore({"steps": 77}) == [0, 1]
    np.testing.assert_array_equal(resumed.observations, again.observations)
    # By the random number of frames without action that a game begins with.
    assert resumed._frames.tolist() == again._frames.tolist() != started._frames.tolist()
    assert resumed.state() == {"steps": 77}
    for each in (started, resumed, again):
        each.close()


def test_the_recording_forgets_the_episodes_that_are_over() -> None:
    recording = EpisodeRecording([{"n": 0}, {"n": 1}])
    for step in range(10):
        recording.act(np.array([step, 10 * step]))
        if step == 6:
            recording.begin(0, {"n": 2})
    assert len(recording.state()["actions"]) == 10, "the other episode needs them"
    recording.begin(1, {"n": 3})
    assert len(recording.state()["actions"]) == 3
    generator, actions = recording.episode(0)
    assert (generator, actions.tolist()) == ({"n": 2}, [7, 8, 9])
    generator, actions = recording.episode(1)
    assert (generator, actions.tolist()) == ({"n": 3}, [])


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "file"
    save_checkpoint(path, small_trainer("a2c"))
    with pytest.raises(CheckpointError, match=r"checkpoint with gamma = 0\.5, got 0\.98"):
        restore_trainer(small_trainer("a2c", gamma=0.5), load_checkpoint(path))
    with pytest.raises(CheckpointError, match="expected a checkpoint of ppo, got one of a2c"):
        restore_trainer(small_trainer("ppo"), load_checkpoint(path))
    assert restore_trainer(small_trainer("a2c"), load_checkpoint(path)) == []


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    write_state(tmp_path / "file", {"format": 99})
    with pytest.raises(CheckpointError, match="expected a checkpoint of format 1, got format 99"):
        load_checkpoint(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match="expected a whole checkpoint, got a damaged file"):
        load_checkpoint(tmp_path / "file")
    with pytest.raises(CheckpointError, match="got a file that cannot be read"):
        load_checkpoint(tmp_path / "none")


def test_only_the_newest_checkpoint_of_a_run_is_kept(tmp_path: Path) -> None:
    trainer = small_trainer("a2c", phases=20)
    keeper = CheckpointKeeper(tmp_path, trainer.settings.total_env_steps, every=100)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "env-step-000000000096.checkpoint.new").write_bytes(b"half")
    saved = []
    for phase in trainer.train():
        if keeper.is_due(phase.env_step):
            keeper.save(trainer, {})
            saved.append(phase.env_step)
            (path,) = (tmp_path / "checkpoints").iterdir()
            assert checkpoints_in(tmp_path) == [path]
            assert load_checkpoint(tmp_path).trainer["place"]["env_step"] == phase.env_step
            assert str(phase.env_step) in path.name
    assert saved == [112, 208, 304, 320], "at the first phase past each 100, and at the end"
