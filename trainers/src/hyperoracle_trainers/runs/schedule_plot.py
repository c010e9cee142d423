"""Draws what jobs did over env steps, returns and hyperparameters; also when a run ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from hyperoracle_trainers.algorithms.phase import Phase
from hyperoracle_trainers.hyperparameters.settings import TrainerSettings
from hyperoracle_trainers.runs.log import RunHistory, read_history

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's
_REFERENCE_COLOUR = "#777777"
_LAST_EPISODES = 20


def plot_schedule(
    jobs: Sequence[RunHistory],
    hyperparameters: Sequence[str],
    *,
    title: str,
    references: Sequence[RunHistory] = (),
) -> Figure:
    """Return a figure: returns on top, below it one panel for each hyperparameter.

    Args:
        jobs: the runs to show, a colour each; at least one. The base values are the first one's.
        hyperparameters: names, in the order of the panels.
        title: of the figure.
        references: runs whose returns are shown in grey, such as those without an oracle.
    """
    panels = 1 + len(hyperparameters)
    figure = Figure(figsize=(10, 3.2 + 2.0 * len(hyperparameters)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    ratios = [1.6] + [1.0] * len(hyperparameters)
    grid = figure.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=ratios)
    axes: list[Axes] = list(grid[:, 0])
    figure.suptitle(title, fontsize=13)
    for axis, name in zip(axes[1:], hyperparameters, strict=True):
        _draw_base(axis, jobs[0], name)
    for index, history in enumerate(jobs):
        colour = _COLOURS[index % len(_COLOURS)]
        _draw_returns(axes[0], history, colour, style="-")
        for axis, name in zip(axes[1:], hyperparameters, strict=True):
            _draw_hyperparameter(axis, history, name, colour)
    for index, history in enumerate(references):
        _draw_returns(axes[0], history, _REFERENCE_COLOUR, style=("--", "-.", ":")[index % 3])
    _dress(axes, hyperparameters, [*jobs, *references])
    figure.align_ylabels(axes)
    return figure


def running_mean(values: Sequence[float], count: int = _LAST_EPISODES) -> npt.NDArray[np.float64]:
    """Return the mean of each value and up to ``count - 1`` before it, float64 [values]."""
    sums = np.cumsum(np.concatenate(([0.0], values)))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - count, 0)
    means: npt.NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def _draw_returns(axis: Axes, history: RunHistory, colour: str, *, style: str) -> None:
    x, y = history.episode_env_steps, history.episode_returns
    axis.plot(x, y, ".", color=colour, alpha=0.3, markersize=4, markeredgewidth=0)
    axis.plot(x, running_mean(y), style, color=colour, linewidth=1.8, label=history.name)


def _draw_hyperparameter(axis: Axes, history: RunHistory, name: str, colour: str) -> None:
    """Draw every decision as a dash, chance's with a ring, and each phase's mean as a step."""
    decisions = history.decisions
    if not decisions:
        return
    starts = [decision.env_step for decision in decisions]
    values = [decision.values[name] for decision in decisions]
    ends = [*starts[1:], history.end_env_step]
    axis.hlines(values, starts, ends, color=colour, alpha=0.35, linewidth=1.2)
    explored = [(d.env_step, d.values[name]) for d in decisions if d.explored]
    if explored:
        axis.plot(
            *zip(*explored, strict=True), "o", color=colour, alpha=0.3, markersize=3,
            fillstyle="none", markeredgewidth=0.6,
        )  # fmt: skip
    groups = [list(group) for _, group in groupby(decisions, key=lambda each: each.phase)]
    first = [group[0].env_step for group in groups]
    means = [float(np.mean([each.values[name] for each in group])) for group in groups]
    axis.plot(
        [*first, history.end_env_step], [*means, means[-1]],
        drawstyle="steps-post", color=colour, linewidth=1.6, label=history.name,
    )  # fmt: skip


def _draw_base(axis: Axes, history: RunHistory, name: str) -> None:
    start, end = history.base.at(0.0)[name], history.base.at(1.0)[name]
    axis.plot(
        [0, history.total_env_steps], [start, end], ":", color=_REFERENCE_COLOUR, linewidth=1.4
    )


def _dress(
    axes: Sequence[Axes], hyperparameters: Sequence[str], histories: Sequence[RunHistory]
) -> None:
    axes[0].set_ylabel("return of an episode")
    axes[0].set_title("Returns (dots: episodes; lines: mean of the last 20)", fontsize=10)
    axes[0].legend(loc="upper left", fontsize=9, framealpha=0.9)
    for axis, name in zip(axes[1:], hyperparameters, strict=True):
        readable = name.replace("_", " ")
        axis.set_ylabel(readable)
        axis.set_title(readable.capitalize(), fontsize=10)
        axis.margins(y=0.12)
        axis.ticklabel_format(axis="y", scilimits=(-2, 4))
    for axis in axes:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    if hyperparameters:
        axes[1].legend(handles=_signs(), loc="upper right", ncols=2, fontsize=8, framealpha=0.9)
    axes[-1].set_xlabel("env steps")
    axes[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[-1].set_xlim(0, max(history.end_env_step for history in histories))


def _signs() -> list[Line2D]:
    """Return what explains the signs in a hyperparameter's panel, whatever their colour."""
    grey = "#333333"
    return [
        Line2D([], [], color=grey, linewidth=1.6, label="mean of an update phase"),
        Line2D([], [], color=grey, linewidth=1.2, alpha=0.35, label="one decision"),
        Line2D([], [], color=grey, marker="o", linestyle="", fillstyle="none", markersize=4,
               markeredgewidth=0.6, label="chosen by chance"),
        Line2D([], [], color=_REFERENCE_COLOUR, linestyle=":", linewidth=1.4, label="base value"),
    ]  # fmt: skip


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
