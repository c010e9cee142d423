"""Atari games by the Arcade Learning Environment's own vector environment.

Preprocessing is part of the task: a return means nothing without it. Two schemes have names.

Images are [height, width, channels], as Gymnasium has them; so convolutions find them in the memory
layout in which they are fastest.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Discrete

from hyperoracle_trainers.saved_state import State


@dataclass(frozen=True, kw_only=True)
class AtariPreprocessing:
    """How a game becomes a task. All schemes show 4 grey frames of 84 x 84, the latest last.

    Attributes:
        frame_skip: frames that an action is repeated for; the last two are joined by their maximum.
        sticky_actions: probability that a frame repeats the action of the frame before.
        full_action_space: whether all 18 actions can be chosen, or those the game has a use for.
        life_loss_terminates: whether a lost life ends the task for the learner. The game goes on
            until its last life is lost, and so does the episode whose return is reported.
        greatest_noops: an episode begins with a random number, up to this, of frames without
            action.
        frame_limit: frames after which an episode is cut.
    """

    frame_skip: int
    sticky_actions: float
    full_action_space: bool
    life_loss_terminates: bool
    greatest_noops: int
    frame_limit: int


PREPROCESSING = MappingProxyType(
    {
        "classic": AtariPreprocessing(
            frame_skip=4,
            sticky_actions=0.0,
            full_action_space=False,
            life_loss_terminates=True,
            greatest_noops=30,
            frame_limit=108_000,
        ),
        "machado": AtariPreprocessing(
            frame_skip=5,
            sticky_actions=0.25,
            full_action_space=True,
            life_loss_terminates=False,
            greatest_noops=0,
            frame_limit=18_000,
        ),
    }
)
"""The schemes by name.

Source:
    ``classic``: Mnih et al., "Human-level control through deep reinforcement learning" (Nature
    2015). ``machado``: Machado et al., "Revisiting the Arcade Learning Environment" (JAIR 2018).
"""


class AtariEnvironments:
    """Copies of one game, with the attributes of
    `VectorEnvironment`.

    Observations are uint8 [environments, 84, 84, 4], the 4 latest frames. Rewards are the game's
    own points. Where a lost life terminates the task for the learner, ``terminated`` says so, but
    ``final_observations`` has only episodes: whole games.

    Args:
        game: the emulator's name of the game, such as ``"ms_pacman"``.
        count: how many copies.
        seed: environment ``i`` is seeded with the ``i``-th child of this seed.
        preprocessing: how the game becomes a task.
        threads: threads that the emulators may use; their number changes no result.
    """  # noqa: D205 # the class's name is too long for one line

    def __init__(
        self, game: str, count: int, seed: int, preprocessing: AtariPreprocessing, threads: int
    ) -> None:
        # Imported here: ale-py is an extra.
        from ale_py import ALEInterface, LoggerMode
        from ale_py.vector_env import AtariVectorEnv

        ALEInterface.setLoggerMode(LoggerMode.Error)  # it would print a greeting
        games: Any = AtariVectorEnv(
            game,
            count,
            num_threads=threads,
            autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,
            frameskip=preprocessing.frame_skip,
            repeat_action_probability=preprocessing.sticky_actions,
            full_action_space=preprocessing.full_action_space,
            life_loss_info=preprocessing.life_loss_terminates,
            noop_max=preprocessing.greatest_noops,
            max_num_frames_per_episode=preprocessing.frame_limit,
            reward_clipping=False,
        )
        self._games = games
        self._seed = seed
        self._steps = 0
        self.action_space = Discrete(games.single_action_space.n)
        frames, height, width = games.single_observation_space.shape
        self.observation_shape = (height, width, frames)
        self.observations: npt.NDArray[Any]
        self._frames: npt.NDArray[Any]
        self._begin(np.random.SeedSequence(seed), count)
        self.rewards: npt.NDArray[Any] = np.zeros(count)
        self.terminated = np.zeros(count, dtype=bool)
        self.truncated = np.zeros(count, dtype=bool)
        self.final_observations: dict[int, npt.NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.rewards)

    def step(self, actions: npt.NDArray[Any]) -> None:
        """Take one env step in every environment; the attributes then hold its outcome.

        Args:
            actions: int64 [environments], counted from 0.
        """
        self._steps += 1
        images, self.rewards, self.terminated, self.truncated, facts = self._games.step(actions)
        self.observations = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        frames = facts["episode_frame_number"]
        self.final_observations.clear()
        # A game's frames are counted from its start, so that a smaller number tells a new game.
        for index in np.flatnonzero(frames <= self._frames).tolist():
            self.final_observations[index] = facts["final_obs"][index].transpose(1, 2, 0)
        self._frames = frames

    def _begin(self, seed: np.random.SeedSequence, count: int) -> None:
        # The emulator wants seeds of 31 bits.
        seeds = (seed.generate_state(count) >> 1).astype(np.int32)
        images, facts = self._games.reset(seed=seeds)
        self.observations = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        self._frames = facts["episode_frame_number"]

    def state(self) -> State:
        """Return how many steps were made: the emulators' own state cannot be read."""
        return {"steps": self._steps}

    def restore(self, state: State) -> list[int]:
        """Begin all games anew, otherwise than a run does at its start.

        Returns:
            All environments.
        """
        self._steps = state["steps"]
        self._begin(np.random.SeedSequence((self._seed, self._steps)), len(self))
        return list(range(len(self)))

    def close(self) -> None:
        """Close every environment."""
        self._games.close()
