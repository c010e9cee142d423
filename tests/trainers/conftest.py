"""Tiny environments whose every number can be computed by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from support.signals import as_in_a_terminal


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


class Misbehaving(gymnasium.Env[Any, Any]):
    """Rewards 1 without end, but does something wrong from a step of its own on.

    Args:
        wrong: what: the name of an answer, or ``"raise"``.
        at: the step, counted over all episodes; 0 is the first reset.
        ends_after: env steps of an episode; None never ends one.
    """

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Discrete(2)

    def __init__(self, wrong: str, at: int = 5, ends_after: int | None = None) -> None:
        self._wrong, self._at, self._ends_after = wrong, at, ends_after
        self._count = 0

    def _is_wrong(self, what: str) -> bool:
        if self._wrong == "raise" and self._count >= self._at:
            raise ZeroDivisionError("the pole is gone")
        return self._wrong == what and self._count >= self._at

    def _observation(self) -> Any:
        if self._is_wrong("shape"):
            return np.zeros(1)
        bad = next((each for each in ("nan", "inf", "1e+39") if self._is_wrong(each)), "0")
        return np.array([0.0, float(bad)])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._observation() if self._is_wrong("plain reset") else (self._observation(), {})

    def step(self, action: int) -> Any:
        self._count += 1
        reward: Any = 1.0
        for wrong, value in (("nan reward", np.nan), ("no reward", None), ("word", "much")):
            reward = value if self._is_wrong(wrong) else reward
        cut = self._ends_after is not None and self._count % self._ends_after == 0
        answer = self._observation(), reward, False, cut, {}
        return answer[:4] if self._is_wrong("four") else answer


class Whole(gymnasium.Env[Any, Any]):
    """Whole numbers in and out; it asserts that its actions are of its space.

    Args:
        action_space: of it.
        observation_space: of it; observations are drawn from it.
    """

    def __init__(self, action_space: Any = None, observation_space: Any = None) -> None:
        self.action_space = action_space or Box(-2, 3, (2,), np.int32)
        self.observation_space = observation_space or Box(0, 9, (3,), np.int64)
        self.taken: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.taken.append(action)
        return self.observation_space.sample(), 1.0, len(self.taken) % 4 == 0, False, {}


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
    gymnasium.register("Misbehaving-v0", Misbehaving)
    gymnasium.register("Whole-v0", Whole)
    gymnasium.register("Endless-v0", Count)


@pytest.fixture(autouse=True)
def _signals_of_a_terminal() -> Iterator[None]:
    """Whoever runs the tests may have started them to ignore Ctrl-C; a run would ignore it too."""
    with as_in_a_terminal():
        yield
