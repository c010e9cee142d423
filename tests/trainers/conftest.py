"""Tiny environments whose every number can be computed by hand."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete


class Identity(gymnasium.Env[Any, Any]):
    """A contextual bandit: one of three contexts, reward 1 for the action of the same number."""

    observation_space = Box(0.0, 1.0, (3,), np.float32)
    action_space = Discrete(3)

    def _context(self) -> np.ndarray:
        self._wanted = int(self.np_random.integers(3))
        return np.eye(3, dtype=np.float32)[self._wanted]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return self._context(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward = float(action == self._wanted)
        return self._context(), reward, True, False, {}


class ContinuousIdentity(gymnasium.Env[Any, Any]):
    """Reward −(action − context)², the context uniform in ±0.5, episodes of one env step."""

    observation_space = Box(-1.0, 1.0, (1,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def _context(self) -> np.ndarray:
        self._wanted = self.np_random.uniform(-0.5, 0.5)
        return np.array([self._wanted], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return self._context(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action), "actions are clipped to the bounds"
        reward = -((float(action[0]) - self._wanted) ** 2)
        return self._context(), reward, True, False, {}


class Count(gymnasium.Env[Any, Any]):
    """Observes and rewards 1, 2, 3, … (observation 0 at first), whatever is done.

    Args:
        terminate_at: the task ends with this observation; None never ends it.
        first_action: the number of the first of its two actions.
    """

    observation_space = Box(0.0, np.inf, (1,), np.float64)

    def __init__(self, terminate_at: int | None = None, first_action: int = 0) -> None:
        self._terminate_at = terminate_at
        self.action_space = Discrete(2, start=first_action)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._count = 0
        return np.array([0.0]), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action), "actions are counted from the space's start"
        self._count += 1
        ended = self._count == self._terminate_at
        return np.array([float(self._count)]), float(self._count), ended, False, {}


class Numbered(Count):
    """Count with a number, not a vector, as its observation."""

    observation_space = Discrete(5)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: int) -> Any:
        observation, *rest = super().step(action)
        return int(observation[0]), *rest


class Unsupported(Identity):
    """Observations that no tanh network takes."""

    observation_space = Dict({"a": Discrete(2)})


class Picture(Identity):
    """The context is the bright third of a small picture."""

    observation_space = Box(0, 255, (36, 40, 3), np.uint8)

    def _context(self) -> np.ndarray:
        self._wanted = int(self.np_random.integers(3))
        picture = np.zeros((36, 40, 3), np.uint8)
        picture[12 * self._wanted : 12 * (self._wanted + 1)] = 255
        return picture


@pytest.fixture(scope="session", autouse=True)
def _environments() -> None:
    """Register the environments under the names that the tests use."""
    gymnasium.register("Identity-v0", Identity)
    gymnasium.register("ContinuousIdentity-v0", ContinuousIdentity)
    gymnasium.register("Terminating-v0", Count, kwargs={"terminate_at": 3})
    gymnasium.register("Truncated-v0", Count, max_episode_steps=3)
    gymnasium.register("BothAtOnce-v0", Count, max_episode_steps=3, kwargs={"terminate_at": 3})
    gymnasium.register("FromFive-v0", Count, kwargs={"first_action": 5})
    cart_pole = "gymnasium.envs.classic_control:CartPoleEnv"
    gymnasium.register("BriefCartPole-v0", cart_pole, max_episode_steps=5)
    gymnasium.register("Numbered-v0", Numbered, max_episode_steps=4)
    gymnasium.register("Unsupported-v0", Unsupported)
    gymnasium.register("Picture-v0", Picture)
