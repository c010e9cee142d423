"""Sends a run to an experiment tracker such as Weights & Biases."""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from hyperoracle_trainers.phase import Phase
from hyperoracle_trainers.phase_scalars import ScalarSeries, summary_scalars
from hyperoracle_trainers.settings import TrainerSettings


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

    The names of the numbers are those of :func:`~hyperoracle_trainers.phase_scalars.scalars_of`,
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
