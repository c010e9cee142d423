"""A video of one episode of a policy: what the first episode of an evaluation looks like."""

from __future__ import annotations

import importlib.util
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from PIL import Image

from hyperoracle_trainers.command_arguments import ArgumentError
from hyperoracle_trainers.envs import VectorEnvironment
from hyperoracle_trainers.networks import ActorCritic, RolloutActor
from hyperoracle_trainers.normalisation import ObservationNormaliser

Frame = npt.NDArray[np.uint8]

_MOST_PER_SECOND = 50.0  # what players of GIF keep up with
_USUAL_PER_SECOND = 30.0


class VideoError(Exception):
    """A video cannot be made; the message is one line: expected, got, remedy."""


def video_file(text: str | None) -> Path | None:
    """Return where to record to, once it is sure that its format can be written.

    Raises:
        ArgumentError: another format than GIF and MP4, or MP4 without its encoder.
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
    return path


def record_video(
    path: Path,
    policy: ActorCritic,
    observation_normaliser: ObservationNormaliser,
    env_id: str,
    *,
    seed: int = 0,
) -> float:
    """Record one episode of the policy's most likely actions.

    It is the first episode of :func:`~hyperoracle_trainers.evaluation.evaluate` with this seed.
    Frames are left out evenly where the environment has more than 50 per second.

    Args:
        path: ends with ``.gif`` or ``.mp4``; written only when the episode is over.
        policy: acts.
        observation_normaliser: applied as it is.
        env_id: the environment that the policy was trained on.
        seed: decides the episode's beginning.

    Returns:
        The episode's raw undiscounted return.

    Raises:
        VideoError: the environment cannot be made or rendered.
        OSError: the file cannot be written.
    """
    environment, environments, first = _opened(env_id, seed)
    episode = _Episode(environment, environments, policy, observation_normaliser)
    per_second = float(environment.metadata.get("render_fps") or _USUAL_PER_SECOND)
    every = math.ceil(per_second / _MOST_PER_SECOND)
    frames = islice(chain([first], episode.frames()), 0, None, every)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.stem}.new{path.suffix}")
    try:
        write = _write_gif if path.suffix == ".gif" else _write_mp4
        write(fresh, frames, per_second / every)
    finally:
        environments.close()
    fresh.replace(path)
    return episode.episode_return


def check_rendering(env_id: str) -> None:
    """Do nothing if the environment can be rendered.

    Raises:
        VideoError: it cannot.
    """
    _, environments, _ = _opened(env_id, 0)
    environments.close()


class _Episode:
    """Plays one episode, frame by frame, so that no more than one frame is in memory."""

    def __init__(
        self,
        environment: gymnasium.Env[Any, Any],
        environments: VectorEnvironment,
        policy: ActorCritic,
        observation_normaliser: ObservationNormaliser,
    ) -> None:
        self.episode_return = 0.0
        self._environment = environment
        self._environments = environments
        self._actor = RolloutActor(policy)
        self._observation_normaliser = observation_normaliser

    def frames(self) -> Iterator[Frame]:
        """Yield the frame after each env step but the last: by then a new episode has begun."""
        environments, actor = self._environments, self._actor
        while True:
            observations = self._observation_normaliser.normalise(environments.observations)
            environments.step(actor.distribution.most_likely(actor.outputs(observations)))
            self.episode_return += float(environments.rewards[0])
            if environments.final_observations:
                return
            yield _rendered(self._environment)


def _opened(env_id: str, seed: int) -> tuple[gymnasium.Env[Any, Any], VectorEnvironment, Frame]:
    """Return an environment that is rendered, the same as a batch of one, and its first frame."""
    with _quiet():
        try:
            environment = gymnasium.make(env_id, render_mode="rgb_array", disable_env_checker=True)
            environments = VectorEnvironment([environment], seed)
            return environment, environments, _rendered(environment)
        except Exception as error:  # a graphics library that is missing raises what it likes
            reason = " ".join(str(error).split()) or type(error).__name__
    raise VideoError(
        f"--video: expected an environment that can be rendered, got {env_id} ({reason}); without "
        "a screen MuJoCo needs MUJOCO_GL=egl or MUJOCO_GL=osmesa and that library"
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
    """Return the environment's picture [height, width, 3]."""
    frame = environment.render()
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        raise VideoError(f"expected a picture as an array, got {type(frame).__name__}")
    return frame.astype(np.uint8, copy=False)


def _write_gif(path: Path, frames: Iterator[Frame], per_second: float) -> None:
    first, *_ = (Image.fromarray(frame) for frame in islice(frames, 1))
    hundredths = max(2, round(100.0 / per_second))  # what the format counts in
    rest = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=10 * hundredths, loop=0)


def _write_mp4(path: Path, frames: Iterator[Frame], per_second: float) -> None:
    import imageio_ffmpeg

    first = next(frames)
    height, width, _ = first.shape
    writer = imageio_ffmpeg.write_frames(str(path), (width, height), fps=per_second)
    writer.send(None)
    try:
        for frame in chain([first], frames):
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()
