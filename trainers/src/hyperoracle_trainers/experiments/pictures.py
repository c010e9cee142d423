"""Pictures of an experiment: learning curves, gain by memory size, performance profiles."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hyperoracle_trainers.experiments.comparison import Comparison
from hyperoracle_trainers.experiments.definition import Experiment
from hyperoracle_trainers.experiments.scores import GRID_POINTS, Area, TaskScores
from hyperoracle_trainers.experiments.statistics import (
    bootstrap,
    interquartile_mean,
    performance_profile,
)

_PANEL = (4.2, 3.2)  # inches
_SHADE = 0.18


def draw_pictures(
    experiment: Experiment,
    scores: dict[str, TaskScores],
    comparisons: Sequence[Comparison],
    folder: Path,
) -> list[Path]:
    """Draw all pictures.

    Returns:
        Their files, ``learning_curves.png``, ``gain.png`` and ``profiles.png``.
    """
    return _saved(
        folder,
        {
            "learning_curves.png": _learning_curves(experiment, scores),
            "gain.png": _gains(experiment, scores, comparisons),
            "profiles.png": _profiles(experiment, scores),
        },
    )


def draw_areas(
    experiment: Experiment, scores: dict[str, TaskScores], areas: Sequence[Area], folder: Path
) -> list[Path]:
    """Draw what there is to see of the default alone.

    Returns:
        Files ``areas.png``, area against task for each environment, and ``learning_curves.png``.
    """
    environments = list(dict.fromkeys(each.env_id for each in areas))
    figure, panels = _panels(environments)
    for panel, env_id in zip(panels, environments, strict=True):
        its = [each for each in areas if each.env_id == env_id]
        values = np.array([each.area.value for each in its])
        low = values - np.array([each.area.low for each in its])
        high = np.array([each.area.high for each in its]) - values
        places = np.arange(len(its))
        panel.errorbar(places, values, yerr=np.stack([low, high]), fmt="o", capsize=3)
        panel.axhline(its[0].random_area, color="grey", lw=1)  # of the environment's random policy
        names = [each.task for each in its]
        panel.set_xticks(places, names, rotation=30, ha="right", fontsize="x-small")
        panel.set(title=env_id, ylabel="area")
    curves = _learning_curves(experiment, scores)
    return _saved(folder, {"areas.png": figure, "learning_curves.png": curves})


def _saved(folder: Path, figures: dict[str, Figure]) -> list[Path]:
    paths = []
    for name, figure in figures.items():
        path = folder / name
        figure.savefig(path, dpi=110, metadata={"Software": None})
        paths.append(path)
    return paths


def _learning_curves(experiment: Experiment, scores: dict[str, TaskScores]) -> Figure:
    """Draw interquartile means of raw returns at the greatest memory size with runs."""
    figure, panels = _panels(scores)
    for panel, (name, its) in zip(panels, scores.items(), strict=True):
        total = next(task for task in experiment.tasks if task.name == name).settings
        steps = np.linspace(0, total.total_env_steps, GRID_POINTS + 1)[1:]
        for color, strategy in _colors(experiment):
            sizes = [size for found, size in its.groups if found == strategy]
            if not sizes:
                continue
            group = its.groups[strategy, max(sizes)]
            curve = bootstrap(interquartile_mean, [group.curves], np.random.default_rng(0), 500)
            has_memory = experiment.has_memory(strategy)
            label = f"{strategy}, {max(sizes)} earlier runs" if has_memory else strategy
            panel.plot(steps, curve.value, color=color, label=label)
            panel.fill_between(steps, curve.low, curve.high, color=color, alpha=_SHADE, lw=0)
        panel.set(title=name, xlabel="env steps", ylabel="mean return")
    _legend_below(figure, panels)
    return figure


def _gains(
    experiment: Experiment, scores: dict[str, TaskScores], comparisons: Sequence[Comparison]
) -> Figure:
    figure, panels = _panels(scores)
    for panel, name in zip(panels, scores, strict=True):
        panel.axhline(0.0, color="grey", lw=1)
        for color, strategy in _colors(experiment):
            its = [
                (each.earlier_runs, each.gain)
                for each in comparisons
                if (each.scope.name, each.strategy) == (name, strategy) and each.gain is not None
            ]
            if not its:
                continue
            if its[0][0] is None:  # the same at any memory size
                (gain,) = [gain for _, gain in its]
                panel.axhline(float(gain.value), ls="--", color=color, label=strategy)
                panel.axhspan(float(gain.low), float(gain.high), color=color, alpha=_SHADE, lw=0)
                continue
            sizes = [size for size, _ in its]
            panel.plot(sizes, [gain.value for _, gain in its], "o-", color=color, label=strategy)
            low, high = [gain.low for _, gain in its], [gain.high for _, gain in its]
            panel.fill_between(sizes, low, high, color=color, alpha=_SHADE, lw=0)
        panel.set(title=name, xlabel="earlier runs", ylabel="gain over the default")
    _legend_below(figure, panels)
    return figure


def _profiles(experiment: Experiment, scores: dict[str, TaskScores]) -> Figure:
    """Draw the share of memories with a score above each threshold, at the greatest size."""
    figure, panels = _panels(scores)
    for panel, (name, its) in zip(panels, scores.items(), strict=True):
        every = np.concatenate([group.scores for group in its.groups.values()])
        thresholds = np.linspace(min(0.0, every.min()), max(1.5, every.max()), 101)
        for color, strategy in _colors(experiment):
            sizes = [size for found, size in its.groups if found == strategy]
            if sizes:
                sample = its.groups[strategy, max(sizes)].scores
                shares = performance_profile(sample[None], thresholds)[0]
                panel.step(thresholds, shares, where="post", color=color, label=strategy)
        panel.set(title=name, xlabel="score", ylabel="share of memories above")
    _legend_below(figure, panels)
    return figure


def _legend_below(figure: Figure, panels: Sequence[Any]) -> None:
    """Draw one legend for all panels; within them it would hide curves."""
    handles: dict[str, Any] = {}
    for panel in panels:
        for handle, text in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(text, handle)
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)


def _panels(scores: Collection[str]) -> tuple[Figure, list[Any]]:
    columns = min(3, len(scores))
    rows = -(-len(scores) // columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in panels[len(scores) :]:
        unused.set_visible(False)
    return figure, panels[: len(scores)]


def _colors(experiment: Experiment) -> list[tuple[str, str]]:
    return [(f"C{place}", strategy) for place, strategy in enumerate(experiment.strategies)]
