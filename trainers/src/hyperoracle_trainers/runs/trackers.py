"""Sends a run to where its owner looks at runs: TensorBoard, or a tracker such as Weights & Biases.

Both draw named numbers over env steps, one point for one or more phases.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from tensorboard.compat.proto.event_pb2 import (
    Event,  # pyright: ignore[reportAttributeAccessIssue]
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboard.compat.proto.summary_pb2 import (
    Summary,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import hparams

from hyperoracle_trainers.algorithms.phase import Phase
from hyperoracle_trainers.hyperparameters.settings import TrainerSettings

_POINTS_PER_RUN = 1000  # more than a screen has columns, and what TensorBoard keeps of a curve


@dataclass(frozen=True)
class ScalarPoint:
    """Numbers at one moment of a run.

    Attributes:
        env_step: the x axis.
        scalars: by name, see :func:`scalars_of`.
    """

    env_step: int
    scalars: Mapping[str, float]


def scalars_of(phases: Sequence[Phase]) -> dict[str, float]:
    """Return the scalars of consecutive phases.

    Args:
        phases: at least one.

    Returns:
        - ``returns/episode`` and ``returns/episode_length``: means over the episodes that ended,
          absent if none did; ``returns/phase``: mean discounted return of a phase;
        - ``hyperparameters/NAME``: what the last update used;
        - ``losses/NAME``: each of the phases' metrics, mean over the phases;
        - ``time/collect_seconds``, ``time/update_seconds``, ``time/source_seconds``: wall time,
          summed over the phases.
    """
    scalars = {"returns/phase": fmean(phase.phase_return for phase in phases)}
    returns = [each for phase in phases for each in phase.episode_returns]
    if returns:
        lengths = [each for phase in phases for each in phase.episode_lengths]
        scalars["returns/episode"] = fmean(returns)
        scalars["returns/episode_length"] = fmean(lengths)
    for name, value in phases[-1].hyperparameters.items():
        scalars[f"hyperparameters/{name}"] = value
    for name in phases[-1].metrics:
        scalars[f"losses/{name}"] = fmean(phase.metrics[name] for phase in phases)
    for name in ("collect_seconds", "update_seconds", "source_seconds"):
        scalars[f"time/{name}"] = sum(getattr(phase, name) for phase in phases)
    return scalars


def summary_scalars(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a run's summary as ``summary/NAME``."""
    return {
        f"summary/{name}": float(value)
        for name, value in summary.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


class ScalarSeries:
    """Turns a run's phases into about a thousand points.

    PPO's phases are thousands of env steps long and give a point each. A2C's are so short that
    writing down each would take longer than training; several of them give a point together.

    Args:
        total_env_steps: of the run.
        env_step: env steps taken before the first phase, by an earlier process.
    """

    def __init__(self, total_env_steps: int, env_step: int = 0) -> None:
        self._env_steps_per_point = total_env_steps / _POINTS_PER_RUN
        self._waiting: list[Phase] = []
        self._drawn_until = env_step

    def add(self, phase: Phase) -> Iterable[ScalarPoint]:
        """Take a phase in and return the point that it completes, or nothing."""
        self._waiting.append(phase)
        if phase.env_step - self._drawn_until < self._env_steps_per_point:
            return ()
        return self.rest()

    def rest(self) -> Iterable[ScalarPoint]:
        """Return the point of the phases that none was made of yet, or nothing."""
        if not self._waiting:
            return ()
        phases, self._waiting = self._waiting, []
        env_steps = phases[-1].env_step - self._drawn_until
        self._drawn_until = phases[-1].env_step
        scalars = scalars_of(phases)
        seconds = sum(scalars[f"time/{part}_seconds"] for part in ("collect", "update", "source"))
        scalars["time/env_steps_per_second"] = env_steps / seconds
        return (ScalarPoint(self._drawn_until, scalars),)


_MEASURES = ("returns/episode", "summary/final_return", "summary/evaluation_return")


class TensorBoardWriter:
    """Writes about a thousand points per run, over env steps, into one event file.

    The names of the curves are those of `scalars_of`.
    The settings are on the page of hyperparameters, beside the returns. Show all runs with
    ``tensorboard --logdir runs``.

    The events are written by this thread and not, as by torch's ``SummaryWriter``, by one of their
    own: a full disk is then an error of the call that meets it.

    Args:
        folder: made if it is missing; the run's name in TensorBoard is that of the folder.
        settings: of the run.
        env_step: env steps taken before the first phase, in a run that goes on. Points after it
            that an earlier process wrote are trained again, and no longer shown.
    """

    def __init__(self, folder: Path, settings: TrainerSettings, env_step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Only files of such names are looked at.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("wb")
        self._records = RecordWriter(self._file)
        self._series = ScalarSeries(settings.total_env_steps, env_step)
        self._env_step = env_step
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if env_step:
            # TensorBoard then forgets the points of this step and later ones.
            begun = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=env_step + 1, session_log=begun))
        experiment, begin, self._success = hparams(  # type: ignore[no-untyped-call] # torch ships it so
            {name: _as_hparam(value) for name, value in dataclasses.asdict(settings).items()},
            dict.fromkeys(_MEASURES, 0.0),
        )
        self._write_summary(experiment)
        self._write_summary(begin)
        self._file.flush()

    def record(self, phase: Phase) -> None:
        """Take one phase in and write the point that it completes."""
        self._env_step = phase.env_step
        for point in self._series.add(phase):
            self._write_scalars(point.scalars)

    def end(self, summary: Mapping[str, Any]) -> None:
        """Write what is left and the summary's numbers as ``summary/NAME``."""
        for point in self._series.rest():
            self._write_scalars(point.scalars)
        self._write_scalars(summary_scalars(summary))
        if summary.get("status", "completed") == "completed":
            self._write_summary(self._success)

    def close(self) -> None:
        """Complete the event file."""
        self._file.close()

    def _write_scalars(self, scalars: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write_summary(Summary(value=values))
        self._file.flush()

    def _write_summary(self, summary: Any) -> None:
        self._write(Event(wall_time=time.time(), step=self._env_step, summary=summary))

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())


def _as_hparam(value: Any) -> bool | float | str | None:
    """Return a setting as TensorBoard takes it: it knows no tuples."""
    return value if isinstance(value, bool | int | float | str | None) else str(value)


class TrackedRun(Protocol):
    """A run of an experiment tracker, as ``wandb.init()`` returns it."""

    def log(self, data: dict[str, Any], /, *, step: int) -> Any:
        """Take numbers by name; steps never go back."""
        ...

    def finish(self) -> Any:
        """Complete the run."""
        ...


class TrackerWriter:
    """Sends about a thousand points per run, over env steps, to a tracker's run.

    The names of the numbers are those of `scalars_of`,
    and ``summary/NAME`` at the end.

    Args:
        run: a tracker's run; finished by this writer.
        settings: of the training run.
        env_step: env steps taken before the first phase, in a run that goes on.
    """

    def __init__(self, run: TrackedRun, settings: TrainerSettings, env_step: int = 0) -> None:
        self._run = run
        self._series = ScalarSeries(settings.total_env_steps, env_step)
        self._env_step = env_step

    def record(self, phase: Phase) -> None:
        """Take one phase in and send the point that it completes."""
        self._env_step = phase.env_step
        for point in self._series.add(phase):
            self._run.log(dict(point.scalars), step=point.env_step)

    def end(self, summary: Mapping[str, Any]) -> None:
        """Send what is left and the summary's numbers."""
        last = summary_scalars(summary)
        for point in self._series.rest():
            last = dict(point.scalars) | last
        self._run.log(last, step=self._env_step)

    def close(self) -> None:
        """Finish the tracker's run."""
        self._run.finish()


def start_weights_and_biases(
    folder: Path, settings: TrainerSettings, env_step: int = 0
) -> TrackerWriter:
    """Start a run of Weights & Biases with the user's own package and account.

    The variables of the environment that the package knows hold, such as ``WANDB_MODE``; without
    ``WANDB_PROJECT`` the project is ``hyperoracle``.

    Args:
        folder: of the run; it names the run and holds the package's own files.
        settings: of the run, which are the configuration shown.
        env_step: env steps taken before the first phase, in a run that goes on.

    Raises:
        ImportError: the package ``wandb`` is not installed.
        Exception: what the package raises if it cannot start a run.
    """
    wandb = importlib.import_module("wandb")  # the user's own: it is no dependency
    run: TrackedRun = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "hyperoracle"),
        name=folder.name,
        dir=str(folder),
        config=dataclasses.asdict(settings),
    )
    return TrackerWriter(run, settings, env_step)
