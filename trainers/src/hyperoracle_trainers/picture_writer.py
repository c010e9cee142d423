"""Draws a run when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperoracle_trainers.phase import Phase
from hyperoracle_trainers.run_history import read_history
from hyperoracle_trainers.schedule_plot import plot_schedule
from hyperoracle_trainers.settings import TrainerSettings

PICTURE = "schedule.png"
"""Name of the file."""


class PictureWriter:
    """Draws returns and the hyperparameters that changed, from the run log of the same folder.

    Args:
        folder: of the run log; the picture goes there.
        settings: of the run.
    """

    def __init__(self, folder: Path, settings: TrainerSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._first: Mapping[str, float] = {}
        self._changed: dict[str, None] = {}  # a set that keeps its order

    def record(self, phase: Phase) -> None:
        """Note which hyperparameters changed."""
        self._first = self._first or phase.hyperparameters
        for name, value in phase.hyperparameters.items():
            if value != self._first[name]:
                self._changed[name] = None

    def end(self, summary: Mapping[str, Any]) -> None:
        """Draw the picture."""
        del summary
        if not self._first:
            return  # no phase, nothing to draw
        history = read_history(self._folder, f"seed {self._settings.seed}")
        names = [name for name in self._first if name in self._changed]
        algorithm = type(self._settings).__name__.removesuffix("Settings")
        title = f"{algorithm} on {self._settings.env_id}"
        plot_schedule([history], names, title=title).savefig(self._folder / PICTURE)

    def close(self) -> None:
        """Do nothing: the picture is complete."""
