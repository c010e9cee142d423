"""Several copies of one Gymnasium environment, stepped in turn, that restart by themselves."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.utils.seeding import np_random

from hyperoracle_trainers.environments.atari import PREPROCESSING, AtariEnvironments
from hyperoracle_trainers.environments.classic_control import ClassicControl, physics_of
from hyperoracle_trainers.environments.episode_recording import EpisodeRecording
from hyperoracle_trainers.environments.failures import answered, raised, shortened
from hyperoracle_trainers.hyperparameters.environment_names import game_of, specification_of
from hyperoracle_trainers.hyperparameters.settings import SettingsError, TrainerSettings
from hyperoracle_trainers.policies.networks import SMALLEST_IMAGE
from hyperoracle_trainers.saved_state import State

Environment = gymnasium.Env[Any, Any]

logger = logging.getLogger("hyperoracle_trainers")


class Environments(Protocol):
    """A batch of environments as a collector steps it; see :class:`VectorEnvironment`."""

    @property
    def action_space(self) -> Box | Discrete:
        """Space of one environment's actions."""
        ...

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        ...

    @property
    def observations(self) -> npt.NDArray[Any]:
        """What each environment shows now [environments, *observation_shape]."""
        ...

    @property
    def rewards(self) -> npt.NDArray[Any]:
        """Raw, of the last step [environments]."""
        ...

    @property
    def terminated(self) -> npt.NDArray[np.bool_]:
        """Whether the last step ended the task itself [environments]."""
        ...

    @property
    def truncated(self) -> npt.NDArray[np.bool_]:
        """Whether the last step ended at a time limit [environments]."""
        ...

    @property
    def final_observations(self) -> Mapping[int, npt.NDArray[Any]]:
        """Last observation of each episode that ended in the last step, by environment."""
        ...

    def __len__(self) -> int: ...

    def step(self, actions: npt.NDArray[Any]) -> None:
        """Take one env step in every environment."""
        ...

    def state(self) -> State:
        """Return what :meth:`restore` needs."""
        ...

    def restore(self, state: State) -> list[int]:
        """Go on where ``state`` was taken, as far as that is possible.

        Returns:
            The environments for which it is not: their episodes begin anew.
        """
        ...

    def close(self) -> None:
        """Close every environment."""
        ...


class VectorEnvironment:
    """A batch of environments with the semantics of Gymnasium's ``AutoresetMode.SAME_STEP``.

    An environment that ends restarts within the same step: the step answers with the first
    observation of the next episode, and the last one of the ended episode is kept aside in
    ``final_observations`` for bootstrapping. It does what ``SyncVectorEnv`` does and leaves out
    the dictionaries and copies, which cost more than a step of a small environment.

    Args:
        environments: copies of one environment; observations that are neither vectors nor images
            are flattened to vectors.
        seed: environment ``i`` is seeded with the ``i``-th child of this seed.

    Attributes:
        observation_shape: (size,) of one observation, (height, width, channels) of an image.
        action_space: of one environment.
        observations: float64 [environments, size] or uint8 [environments, height, width,
            channels], raw, overwritten by every step.
        rewards: float64 [environments], raw, of the last step.
        terminated: bool [environments], whether the last step ended the task itself.
        truncated: bool [environments], whether the last step ended at a time limit.
        final_observations: last observation of each episode that ended in the last step, by
            environment.

    Raises:
        SettingsError: the observation or action space is not supported.
        EnvironmentFailed: the first reset failed.
    """

    def __init__(self, environments: Sequence[Environment], seed: int) -> None:
        self._environments = [_with_vectors_or_images(each) for each in environments]
        first = self._environments[0]
        assert first.observation_space.shape is not None
        self.observation_shape = first.observation_space.shape
        self.action_space = space = _supported_action_space(first)
        self._first_action = int(space.start) if isinstance(space, Discrete) else 0
        self._bounds = (space.low, space.high) if isinstance(space, Box) else None
        whole = isinstance(space, Box) and np.issubdtype(space.dtype, np.integer)
        self._whole = space.dtype if whole else None
        count = len(environments)
        dtype = np.uint8 if _is_image(first.observation_space) else np.float64
        self.observations = np.zeros((count, *self.observation_shape), dtype)
        self.rewards = np.zeros(count)
        self.terminated = np.zeros(count, dtype=bool)
        self.truncated = np.zeros(count, dtype=bool)
        self.final_observations: dict[int, npt.NDArray[Any]] = {}
        children = np.random.SeedSequence(seed).generate_state(count)
        for index, (environment, child) in enumerate(
            zip(self._environments, children.tolist(), strict=True)
        ):
            self.observations[index] = self._reset(index, environment, child)
        self._recording = EpisodeRecording(
            [dict(np_random(child)[0].bit_generator.state) for child in children.tolist()]
        )

    def __len__(self) -> int:
        return len(self._environments)

    def step(self, actions: npt.NDArray[Any]) -> None:
        """Take one env step in every environment; the attributes then hold its outcome.

        Args:
            actions: float32 [environments, action_size], clipped here to the action space's
                bounds, and rounded where it is one of whole numbers; or int64 [environments],
                counted from 0.

        Raises:
            EnvironmentFailed: an environment raised, or its answer is none of Gymnasium's.
        """
        self.final_observations.clear()
        self._recording.act(actions)
        for index, action in enumerate(self._for_environments(actions)):
            environment = self._environments[index]
            try:
                answer = environment.step(action)
            except MemoryError:
                raise
            except Exception as error:  # its own code raises what it likes
                raise raised(index, f"step({action})", error) from error
            try:
                observation, reward, terminated, truncated, _ = answer
                self.rewards[index] = float(reward)  # NumPy takes None for NaN
                self.terminated[index] = terminated
                self.truncated[index] = truncated
                self._check_shape(observation)
            except (TypeError, ValueError):
                raise answered(index, "step", self._answer_of_step, answer) from None
            if terminated or truncated:
                self.final_observations[index] = np.array(
                    observation, dtype=self.observations.dtype
                )
                self._recording.begin(index, _generator_state(environment))
                observation = self._reset(index, environment)
            self.observations[index] = observation

    def _reset(self, index: int, environment: Environment, seed: int | None = None) -> Any:
        """Return the first observation of a new episode."""
        try:
            answer = environment.reset(seed=seed)
        except MemoryError:
            raise
        except Exception as error:  # its own code raises what it likes
            raise raised(index, "reset()", error) from error
        try:
            observation, _ = answer
            self._check_shape(observation)
        except (TypeError, ValueError):
            raise answered(index, "reset", self._answer_of_reset, answer) from None
        return observation

    def _check_shape(self, observation: Any) -> None:
        if np.shape(observation) != self.observation_shape:  # which NumPy might stretch to fit
            raise ValueError

    @property
    def _answer_of_reset(self) -> str:
        return f"(observation of shape {self.observation_shape}, info)"

    @property
    def _answer_of_step(self) -> str:
        return (
            f"(observation of shape {self.observation_shape}, reward, terminated, truncated, info)"
        )

    def _for_environments(self, actions: npt.NDArray[Any]) -> Iterable[Any]:
        if self._bounds is None:
            return [self._first_action + action for action in actions.tolist()]
        low, high = self._bounds
        # Two ufuncs: np.clip takes three times as long on a handful of numbers.
        clipped: npt.NDArray[Any] = np.minimum(np.maximum(actions, low), high)
        return clipped if self._whole is None else np.rint(clipped).astype(self._whole)

    def state(self) -> State:
        """Return how each environment came to where it is, and where that is."""
        return {
            "recording": self._recording.state(),
            "generators": [_generator_state(each) for each in self._environments],
            "observations": self.observations,
        }

    def restore(self, state: State) -> list[int]:
        """Repeat the episodes that have not ended, up to where ``state`` was taken.

        Returns:
            The environments that did not end up there: something else than their random generator
            and the actions decides what they do. Their episodes begin anew.
        """
        self._recording.restore(state["recording"])
        anew = []
        for index, environment in enumerate(self._environments):
            observation = self._repeat_episode(index)
            if not (
                np.array_equal(observation, state["observations"][index])
                and _generator_state(environment) == state["generators"][index]
            ):
                anew.append(index)
                self._recording.begin(index, _generator_state(environment))
                observation = self._reset(index, environment)
            self.observations[index] = observation
        return anew

    def _repeat_episode(self, index: int) -> Any:
        """Return the observation that the recorded episode leads to."""
        environment = self._environments[index]
        generator, actions = self._recording.episode(index)
        environment.unwrapped.np_random.bit_generator.state = generator
        observation = self._reset(index, environment)
        for action in self._for_environments(actions):
            try:
                observation, _, terminated, truncated, _ = environment.step(action)
            except Exception as error:  # its own code raises what it likes
                raise raised(index, f"step({action})", error) from error
            if terminated or truncated:  # not the recorded episode
                break
        return observation

    def close(self) -> None:
        """Close every environment."""
        for environment in self._environments:
            environment.close()


def environments_of(settings: TrainerSettings, count: int, seed: int) -> Environments:
    """Make ``count`` copies of the environment of a run, prepared as the run wants it.

    Raises:
        SettingsError: its observation or action space is not supported.
        gymnasium.error.Error: it cannot be made.
    """
    game = game_of(settings.env_id)
    if game is None:
        return make_environments(settings.env_id, count, seed)
    preprocessing = PREPROCESSING[settings.preprocessing]
    return AtariEnvironments(game, count, seed, preprocessing, settings.torch_threads)


def make_environments(env_id: str, count: int, seed: int) -> Environments:
    """Make ``count`` copies of a registered environment with vectors as observations.

    The classic control problems have a batch of their own, which does the same in less time.

    Raises:
        SettingsError: its observation or action space is not supported.
        gymnasium.error.Error: it cannot be made, for whatever reason.
    """
    try:
        specification = specification_of(env_id)
        if (physics := physics_of(specification)) is not None:
            return ClassicControl(specification, physics, count, seed)
        if ".mujoco" in str(specification.entry_point):
            _let_mujoco_log()
        # The checker repeats on every first step what the registry's tests have settled.
        copies = [gymnasium.make(env_id, disable_env_checker=True) for _ in range(count)]
    except (gymnasium.error.Error, MemoryError):
        raise
    except Exception as error:  # an environment's own code raises what it likes
        raise gymnasium.error.Error(f"{type(error).__name__}: {error}") from error
    return VectorEnvironment(copies, seed)


def _generator_state(environment: Environment) -> State:
    return dict(environment.unwrapped.np_random.bit_generator.state)


@functools.cache
def _let_mujoco_log() -> None:
    """Let MuJoCo's warnings go to the log, not to the terminal and a file in the current folder.

    Gymnasium's models make it warn, once per environment, of an attribute that will be removed.
    """
    import mujoco

    mujoco.set_mju_user_warning(  # pyright: ignore[reportAttributeAccessIssue] # not in its stubs
        lambda message: logger.log(
            logging.DEBUG if "deprecated" in message else logging.WARNING, "MuJoCo: %s", message
        )
    )


def _with_vectors_or_images(environment: Environment) -> Environment:
    space = environment.observation_space
    if _is_image(space) or (isinstance(space, Box) and len(space.shape or ()) == 1):
        return environment
    if isinstance(space, Box | Discrete | MultiBinary | MultiDiscrete):
        return gymnasium.wrappers.FlattenObservation(environment)
    raise SettingsError(
        "env_id: expected Box, Discrete, MultiDiscrete or MultiBinary observations, got "
        f"{shortened(str(space))}; wrap the environment with FlattenObservation and register that"
    )


def _is_image(space: gymnasium.Space[Any]) -> bool:
    """Whether observations are bytes [height, width, channels] that the Nature CNN can take."""
    if not isinstance(space, Box) or space.dtype != np.uint8 or len(space.shape or ()) != 3:
        return False
    height, width, _ = space.shape or (0, 0, 0)
    return min(height, width) >= SMALLEST_IMAGE


def _supported_action_space(environment: Environment) -> Box | Discrete:
    space = environment.action_space
    if isinstance(space, Discrete):
        return space
    if isinstance(space, Box) and space.shape is not None and len(space.shape) == 1:
        return space
    raise SettingsError(
        "env_id: expected Discrete or one-dimensional Box actions, got "
        f"{shortened(str(space))}; wrap the environment and register that"
    )
