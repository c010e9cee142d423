"""Gymnasium's classic control problems without what surrounds a step there.

A step of one of these is a microsecond of arithmetic. Gymnasium's takes 16 to 60, for NumPy's
scalars, wrappers and checks: half of a training job or more. This does the same arithmetic, so
that an episode is the same one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete
from gymnasium.utils.seeding import np_random

from hyperoracle_trainers.classic_physics import (
    Acrobot,
    CartPole,
    Floats,
    MountainCar,
    Pendulum,
    Physics,
)
from hyperoracle_trainers.saved_state import State

_GYMNASIUMS = "gymnasium.envs.classic_control"

_PHYSICS: MappingProxyType[Any, Physics] = MappingProxyType(
    {
        f"{_GYMNASIUMS}.cartpole:CartPoleEnv": CartPole(),
        f"{_GYMNASIUMS}.acrobot:AcrobotEnv": Acrobot(),
        f"{_GYMNASIUMS}.pendulum:PendulumEnv": Pendulum(),
        f"{_GYMNASIUMS}.mountain_car:MountainCarEnv": MountainCar(),
    }
)


def physics_of(specification: EnvSpec) -> Physics | None:
    """Return the physics of a registered environment; None if it is none of those known here.

    One that is registered with arguments or wrappers of its own is not.
    """
    if specification.kwargs or specification.additional_wrappers:
        return None
    return _PHYSICS.get(specification.entry_point)


class ClassicControl:
    """Copies of one classic control problem, with the attributes and the outcome of
    :class:`~hyperoracle_trainers.envs.VectorEnvironment`.

    Copies are stepped in turn and in plain floats: for the few that a job has, NumPy's calls on
    arrays cost more than the arithmetic.

    Args:
        specification: of a registered environment for which there is :func:`physics_of`.
        physics: that.
        count: how many copies.
        seed: copy ``i`` is seeded with the ``i``-th child of this seed.
    """  # noqa: D205 # the class's name is too long for one line

    def __init__(self, specification: EnvSpec, physics: Physics, count: int, seed: int) -> None:
        example = gymnasium.make(specification.id, disable_env_checker=True)
        space, shape = example.action_space, example.observation_space.shape
        example.close()
        assert isinstance(space, Box | Discrete)
        assert shape is not None
        self.action_space, self.observation_shape = space, shape
        self._physics = physics
        self._limit = specification.max_episode_steps or math.inf
        children = np.random.SeedSequence(seed).generate_state(count).tolist()
        self._generators = [np_random(child)[0] for child in children]
        begun = [physics.begin(each) for each in self._generators]
        self._states: list[Floats] = [state for state, _ in begun]
        self._elapsed = [0] * count
        self.observations = np.zeros((count, *shape))
        self.observations[:] = _rounded([observation for _, observation in begun])
        self.rewards = np.zeros(count)
        self.terminated = np.zeros(count, dtype=bool)
        self.truncated = np.zeros(count, dtype=bool)
        self.final_observations: dict[int, npt.NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return len(self._states)

    def step(self, actions: npt.NDArray[Any]) -> None:
        """Take one env step in every copy; the attributes then hold its outcome.

        Args:
            actions: float32 [copies, 1], clipped here to the action space's bounds; or int64
                [copies], counted from 0.
        """
        physics, states, elapsed = self._physics, self._states, self._elapsed
        self.final_observations.clear()
        # Lists, because writing single numbers into arrays costs several times as much.
        rows: list[Floats] = []
        rewards: list[float] = []
        terminated: list[bool] = []
        truncated: list[bool] = []
        for index, action in enumerate(self._one_by_one(actions)):
            state, reward, ended = physics.step(states[index], action)
            row = physics.observation(state)
            elapsed[index] += 1
            cut = elapsed[index] >= self._limit
            if ended or cut:
                self.final_observations[index] = _rounded(row).astype(np.float64)
                state, row = physics.begin(self._generators[index])
                elapsed[index] = 0
            states[index] = state
            rows.append(row)
            rewards.append(reward)
            terminated.append(ended)
            truncated.append(cut)
        self.observations[:] = _rounded(rows)
        self.rewards[:] = rewards
        self.terminated[:] = terminated
        self.truncated[:] = truncated

    def _one_by_one(self, actions: npt.NDArray[Any]) -> Sequence[Any] | npt.NDArray[Any]:
        space = self.action_space
        if isinstance(space, Discrete):
            return list(actions.tolist())
        # Single precision, as Gymnasium's arithmetic on them is.
        torques: npt.NDArray[np.float32] = np.minimum(np.maximum(actions, space.low), space.high)
        return torques[:, 0]

    def state(self) -> State:
        """Return where each copy is, and its random generator."""
        return {
            "states": np.array(self._states),
            "elapsed": list(self._elapsed),
            "generators": [dict(each.bit_generator.state) for each in self._generators],
            "observations": self.observations,
        }

    def restore(self, state: State) -> list[int]:
        """Go on where ``state`` was taken.

        Returns:
            No environments: that is always possible.
        """
        self._states = [tuple(each) for each in state["states"].tolist()]
        self._elapsed = list(state["elapsed"])
        for generator, its in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = its
        self.observations[:] = state["observations"]
        return []

    def close(self) -> None:
        """Do nothing: nothing is open."""


def _rounded(observations: list[Floats] | Floats) -> npt.NDArray[np.float32]:
    """Return observations in single precision, as Gymnasium gives them."""
    return np.array(observations, dtype=np.float32)
