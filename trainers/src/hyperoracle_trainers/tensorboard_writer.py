"""Writes a run for TensorBoard."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# These classes are made at import, from a description that type checkers do not read.
from tensorboard.compat.proto.event_pb2 import (
    Event,  # pyright: ignore[reportAttributeAccessIssue]
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboard.compat.proto.summary_pb2 import (
    Summary,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import hparams

from hyperoracle_trainers.phase import Phase
from hyperoracle_trainers.phase_scalars import ScalarSeries, summary_scalars
from hyperoracle_trainers.settings import TrainerSettings

_MEASURES = ("returns/episode", "summary/final_return", "summary/evaluation_return")


class TensorBoardWriter:
    """Writes about a thousand points per run, over env steps, into one event file.

    The names of the curves are those of :func:`~hyperoracle_trainers.phase_scalars.scalars_of`.
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
