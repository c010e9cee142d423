"""How good is a policy? Whole episodes in an environment of its own, and a video of the first."""

from __future__ import annotations

import importlib.util
import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from statistics import fmean
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from PIL import Image

from hyperoracle_trainers.algorithms.phase import EPISODE_ENV_STEPS
from hyperoracle_trainers.environments.atari import PREPROCESSING
from hyperoracle_trainers.environments.failures import EnvironmentFailed, are_numbers, no_number
from hyperoracle_trainers.environments.normalisation import ObservationNormaliser
from hyperoracle_trainers.environments.vector import (
    Environments,
    VectorEnvironment,
    environments_of,
)
from hyperoracle_trainers.hyperparameters.arguments import ArgumentError, check_folder
from hyperoracle_trainers.hyperparameters.environment_names import game_of
from hyperoracle_trainers.hyperparameters.settings import TrainerSettings
from hyperoracle_trainers.policies.networks import ActorCritic, actor_of
from hyperoracle_trainers.policies.process import torch_threads

logger = logging.getLogger("hyperoracle_trainers")

_WATCHED_EVERY = 500  # env steps


def evaluate(
    policy: ActorCritic,
    observation_normaliser: ObservationNormaliser,
    settings: TrainerSettings,
    *,
    episodes: int = 10,
    seed: int = 0,
    env_step_limit: int | None = None,
    watch: Callable[[int, int], object] | None = None,
) -> list[float]:
    """Return the raw undiscounted returns of ``episodes`` episodes, one after another.

    There are fewer of them if the limit was reached first: an episode that has not ended has no
    return. Neither the policy nor the normaliser, nor any random generator of training, is changed.

    Args:
        policy: acts by its most likely action; on Atari it draws its actions, because a policy
            without chance can wait for ever for a ball that it does not serve.
        observation_normaliser: applied as it is.
        settings: of the run; they say which environment, and how it is prepared.
        episodes: how many.
        seed: decides the episodes' beginnings and the draws.
        env_step_limit: env steps, of all episodes together, after which it ends anyway; None
            takes 30,000 an episode.
        watch: called now and then, and at the end, with the episodes that have ended and the env
            steps so far.

    Raises:
        EnvironmentFailed: the environment raised, or gave what is no number.
    """
    limit = default_limit(episodes) if env_step_limit is None else env_step_limit
    environment = environments_of(settings, 1, seed)
    player = Player(policy, observation_normaliser, settings, environment, seed)
    returns: list[float] = []
    episode_return, env_steps = 0.0, 0
    with torch_threads(settings.torch_threads), closing(environment):
        while len(returns) < episodes and env_steps < limit:
            episode_return += player.step()
            env_steps += 1
            if environment.final_observations:
                returns.append(episode_return)
                episode_return = 0.0
            if watch is not None and env_steps % _WATCHED_EVERY == 0:
                watch(len(returns), env_steps)
    if watch is not None and episodes:
        watch(len(returns), env_steps)
    if len(returns) < episodes:
        logger.warning("%s: %s", settings.env_id, unfinished(len(returns), episodes, env_steps))
    return returns


def default_limit(episodes: int) -> int:
    """Return the env steps after which an evaluation of so many episodes ends anyway."""
    return EPISODE_ENV_STEPS * episodes


def unfinished(ended: int, episodes: int, env_steps: int) -> str:
    """Return the sentence on an evaluation that came to its limit."""
    return (
        f"{ended} of {episodes} episodes of the evaluation ended within {env_steps:,} env steps; "
        "there is no mean of those that did, which are no fair sample"
    )


def mean_of(returns: Sequence[float], episodes: int) -> float | None:
    """Return the mean of an evaluation's returns; None unless all its episodes ended.

    Those that ended within a limit are the short ones, good or bad, and not a fair sample.
    """
    return fmean(returns) if returns and len(returns) == episodes else None


class Player:
    """Lets a policy act as it does in an evaluation.

    Args:
        policy: see :func:`evaluate`; so is all else.
        observation_normaliser: applied as it is.
        settings: of the run.
        environment: a batch of one.
        seed: decides the draws.
    """

    def __init__(
        self,
        policy: ActorCritic,
        observation_normaliser: ObservationNormaliser,
        settings: TrainerSettings,
        environment: Environments,
        seed: int,
    ) -> None:
        self._actor = actor_of(policy)
        self._observation_normaliser = observation_normaliser
        self._environment = environment
        self._env_steps = 0
        self._generator = np.random.default_rng(seed) if game_of(settings.env_id) else None

    def step(self) -> float:
        """Take one env step and return its raw reward.

        Raises:
            EnvironmentFailed: the environment raised, or gave what is no number.
        """
        environment, distribution = self._environment, self._actor.distribution
        observations = self._observation_normaliser.normalise(environment.observations)
        outputs = self._actor.outputs(observations)
        if self._generator is None:
            actions = distribution.most_likely(outputs)
        else:
            actions = distribution.sample(outputs, distribution.noise(self._generator, (1,)))
        try:
            environment.step(actions)
        except EnvironmentFailed as failure:
            raise failure.at(self._when()) from failure
        for what, given in (
            ("reward", environment.rewards),
            ("observation", environment.observations),
        ):
            if not are_numbers(given):
                raise no_number(0, what, given).at(self._when())
        self._env_steps += 1
        return float(environment.rewards[0])

    def _when(self) -> str:
        return f"step {self._env_steps + 1} of the evaluation"


Frame = npt.NDArray[np.uint8]

_MOST_PER_SECOND = 50.0  # what players of GIF keep up with
_USUAL_PER_SECOND = 30.0
_ATARI_PER_SECOND = 60.0


class VideoError(Exception):
    """A video cannot be made; the message is one line: expected, got, remedy."""


def video_file(text: str | None) -> Path | None:
    """Return where to record to, once it is sure that its format can be written there.

    Raises:
        ArgumentError: another format than GIF and MP4, MP4 without its encoder, or a folder that
            cannot be written.
    """
    if text is None:
        return None
    path = Path(text)
    if path.suffix not in (".gif", ".mp4"):
        raise ArgumentError(f"--video {text}: expected a name that ends with .gif or .mp4")
    if path.suffix == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise ArgumentError(
            f"--video {text}: expected the package imageio-ffmpeg, which encodes MP4, got none; "
            "pip install 'hyperoracle-trainers[video]', or record a .gif"
        )
    check_folder(f"--video {text}", path.parent)
    return path


def record_video(
    path: Path,
    policy: ActorCritic,
    observation_normaliser: ObservationNormaliser,
    settings: TrainerSettings,
    *,
    seed: int = 0,
) -> float:
    """Record the first episode of an evaluation with this seed.

    Frames are left out evenly where there are more than 50 per second. Of an Atari game it shows
    what the policy sees.

    Args:
        path: ends with ``.gif`` or ``.mp4``; written only when the episode is over.
        policy: see `evaluate`; so is all else.
        observation_normaliser: applied as it is.
        settings: of the run.
        seed: decides the episode's beginning and the draws.

    Returns:
        The episode's raw undiscounted return; of one that has not ended after 30,000 env steps,
        which is said, that of its shown beginning.

    Raises:
        VideoError: the environment cannot be made or rendered.
        EnvironmentFailed: the environment raised, or gave what is no number.
        OSError: the file cannot be written.
    """
    camera = _Camera.of(settings, seed)
    player = Player(policy, observation_normaliser, settings, camera.environment, seed)
    episode_return = 0.0

    def episode() -> Iterator[Frame]:
        """Yield one frame at a time: a thousand of them fill the memory."""
        nonlocal episode_return
        yield camera.frame()
        for _ in range(EPISODE_ENV_STEPS):
            episode_return += player.step()
            if camera.environment.final_observations:
                return  # it shows a new episode by now
            yield camera.frame()
        logger.warning(
            "%s: the episode has not ended; the video shows its first %s env steps.",
            path,
            f"{EPISODE_ENV_STEPS:,}",
        )

    every = math.ceil(camera.frames_per_second / _MOST_PER_SECOND)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.stem}.new{path.suffix}")
    write = _write_gif if path.suffix == ".gif" else _write_mp4
    with torch_threads(settings.torch_threads), closing(camera.environment):
        write(fresh, islice(episode(), 0, None, every), camera.frames_per_second / every)
    fresh.replace(path)
    return episode_return


def check_rendering(settings: TrainerSettings) -> None:
    """Do nothing if a run's environment can be rendered.

    Raises:
        VideoError: it cannot.
    """
    _Camera.of(settings, 0).environment.close()


@dataclass(frozen=True)
class _Camera:
    """An environment that can be looked at.

    Attributes:
        environment: a batch of one.
        frames_per_second: at which it looks natural.
        frame: takes a picture [height, width, 3] of what it shows now.
    """

    environment: Environments
    frames_per_second: float
    frame: Callable[[], Frame]

    @classmethod
    def of(cls, settings: TrainerSettings, seed: int) -> _Camera:
        """Return the camera for the environment of a run.

        Raises:
            VideoError: the environment cannot be made or rendered.
        """
        if game_of(settings.env_id) is not None:
            game = environments_of(settings, 1, seed)
            speed = _ATARI_PER_SECOND / PREPROCESSING[settings.preprocessing].frame_skip
            return cls(game, speed, lambda: _enlarged(game.observations[0]))
        env_id = settings.env_id
        with _quiet():
            try:
                seen = gymnasium.make(env_id, render_mode="rgb_array", disable_env_checker=True)
                environment = VectorEnvironment([seen], seed)
                _rendered(seen)
            except Exception as error:  # a graphics library that is missing raises what it likes
                reason = " ".join(str(error).split()) or type(error).__name__
            else:
                speed = float(seen.metadata.get("render_fps") or _USUAL_PER_SECOND)
                return cls(environment, speed, lambda: _rendered(seen))
        raise VideoError(
            f"--video: expected an environment that can be rendered, got {env_id} ({reason}); "
            "without a screen MuJoCo needs MUJOCO_GL=egl or MUJOCO_GL=osmesa and that library"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep graphics libraries from warning of what is told in one line anyway."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda _: None  # called by renderers that were only half made
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = before


def _rendered(environment: gymnasium.Env[Any, Any]) -> Frame:
    frame = environment.render()
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        raise TypeError(f"expected a picture as an array, got {type(frame).__name__}")
    return frame.astype(np.uint8, copy=False)


def _enlarged(observation: npt.NDArray[np.uint8]) -> Frame:
    """Return the latest of the grey frames [height, width, frames], four times as large."""
    grey = observation[..., -1].repeat(4, axis=0).repeat(4, axis=1)
    return np.stack([grey] * 3, axis=-1)


def _write_gif(path: Path, frames: Iterator[Frame], per_second: float) -> None:
    first, *_ = (Image.fromarray(frame) for frame in islice(frames, 1))
    hundredths = max(2, round(100.0 / per_second))  # what the format counts in
    rest = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=10 * hundredths, loop=0)


def _write_mp4(path: Path, frames: Iterator[Frame], per_second: float) -> None:
    import imageio_ffmpeg  # pyright: ignore[reportMissingImports] # an extra

    first = next(frames)
    height, width, _ = first.shape
    # The encoder wants even sizes; by default it would stretch pictures to multiples of 16.
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=round(per_second), macro_block_size=2
    )
    writer.send(None)
    try:
        for frame in chain([first], frames):
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()
