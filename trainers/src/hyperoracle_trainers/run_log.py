"""The log of a run: JSON lines for programs, CSV for spreadsheets, the schedule for replays."""

from __future__ import annotations

import csv
import dataclasses
import json
import platform
import shlex
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from hyperoracle_trainers.phase import Phase
from hyperoracle_trainers.settings import TrainerSettings

_PACKAGES = ("hyperoracle-trainers", "torch", "numpy", "gymnasium", "mujoco")


class RunLog:
    """Writes what happens in a run to three files of one folder.

    - ``run.jsonl``: one ``start`` (settings, command, versions), one ``phase`` for each phase, one
      ``end`` (the summary). A run that was cut off has no ``end``.
    - ``phases.csv``: a line per phase, with the mean return of the episodes that ended in it.
    - ``schedule.csv``: a line per decision, which
      :meth:`~hyperoracle_trainers.hyperparameter_source.RecordedSource.from_csv` replays exactly.

    Use it as a context manager, so that the files are complete whatever happens.

    Args:
        folder: made if it is missing; files of an earlier run in it are replaced.
        settings: of the run.
    """

    def __init__(self, folder: Path, settings: TrainerSettings) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._names = settings.schedulable()
        with ExitStack() as stack:
            self._lines = stack.enter_context(_opened(folder / "run.jsonl"))
            self._phases_file = stack.enter_context(_opened(folder / "phases.csv"))
            self._schedule = csv.writer(stack.enter_context(_opened(folder / "schedule.csv")))
            self._files = stack.pop_all()
        self._phases: csv.DictWriter[str] | None = None
        self._schedule.writerow(["update_step", "env_step", *self._names])
        self._write_line("start", _description(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def record(self, phase: Phase) -> None:
        """Write one phase to all three files."""
        line = {field.name: getattr(phase, field.name) for field in dataclasses.fields(phase)}
        del line["decisions"]  # they are the lines of the schedule
        self._write_line("phase", line)
        row = _row(phase)
        if self._phases is None:
            self._phases = csv.DictWriter(self._phases_file, row)
            self._phases.writeheader()
        self._phases.writerow(row)
        for decision in phase.decisions:
            values = [str(decision.values[name]) for name in self._names]
            self._schedule.writerow([decision.update_step, decision.env_step, *values])

    def end(self, summary: Mapping[str, Any]) -> None:
        """Write the run's summary."""
        self._write_line("end", summary)

    def close(self) -> None:
        """Complete the files."""
        self._files.close()

    def _write_line(self, event: str, content: Mapping[str, Any]) -> None:
        self._lines.write(json.dumps({"event": event, **content}) + "\n")


def _opened(path: Path) -> TextIO:
    # By the line, so that a run can be watched and leaves all it did if it is killed.
    return path.open("w", buffering=1, newline="", encoding="utf-8")


def _description(settings: TrainerSettings) -> dict[str, Any]:
    return {
        "algorithm": type(settings).__name__.removesuffix("Settings").lower(),
        "settings": dataclasses.asdict(settings),
        "command": shlex.join(sys.argv),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _row(phase: Phase) -> dict[str, Any]:
    returns = phase.episode_returns
    return {
        "index": phase.index,
        "env_step": phase.env_step,
        "update_step": phase.update_step,
        "episodes": len(returns),
        "mean_episode_return": sum(returns) / len(returns) if returns else "",
        "phase_return": phase.phase_return,
        **phase.hyperparameters,
        **phase.metrics,
        "collect_seconds": phase.collect_seconds,
        "update_seconds": phase.update_seconds,
        "source_seconds": phase.source_seconds,
    }
