"""From results to scores: learning curves on one grid, their areas, and the normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyperoracle_trainers.experiments.definition import DEFAULT, RANDOM_POLICY, Experiment
from hyperoracle_trainers.experiments.packed import Record
from hyperoracle_trainers.experiments.statistics import Estimate, bootstrap, mean

Array = npt.NDArray[np.float64]

GRID_POINTS = 50
"""Of a learning curve."""


@dataclass(frozen=True)
class Group:
    """What one strategy did at one memory size on one task.

    Attributes:
        memories: the numbers of the independent studies, growing.
        scores: float64 [memories], the mean normalised score of each study's runs.
        curves: float64 [memories, GRID_POINTS], raw mean returns, the mean of each study's runs.
        diverged: runs that diverged.
    """

    memories: tuple[int, ...]
    scores: Array
    curves: Array
    diverged: int


@dataclass(frozen=True)
class TaskScores:
    """Everything that was measured on a task.

    Attributes:
        random_area: the random policy's mean return, a score of 0.
        default_area: the default's mean area over all its runs, a score of 1.
        groups: by strategy and memory size; without runs there is no group.
        runs: by strategy and memory number, earlier runs and score of every run, those that are not
            looked at included.
    """

    random_area: float
    default_area: float
    groups: dict[tuple[str, int], Group]
    runs: dict[str, dict[int, list[tuple[int, float]]]]


def curve_of(record: Record, total_env_steps: int) -> Array:
    """Return a run's learning curve on an even grid of env steps.

    A point holds the mean return of the last phase, up to there, in which an episode ended; before
    the first one, that one's. Where training diverged the run's least return stands for the rest.

    Returns:
        float64 [GRID_POINTS], not a number where no episode ended at all.
    """
    phases = record["phases"]
    ended = [
        (step, each)
        for step, each in zip(phases["env_step"], phases["mean_return"], strict=True)
        if each is not None
    ]
    if not ended:
        return np.full(GRID_POINTS, np.nan)
    steps, returns = (np.array(column, dtype=np.float64) for column in zip(*ended, strict=True))
    grid = np.linspace(0.0, total_env_steps, GRID_POINTS + 1)[1:]
    curve = returns[np.maximum(np.searchsorted(steps, grid, side="right") - 1, 0)]
    if record["status"] == "diverged":
        curve[grid > phases["env_step"][-1]] = returns.min()
    return np.asarray(curve)


def task_scores(records: Sequence[Record], total_env_steps: int) -> TaskScores | None:
    """Return the scores of a task's runs.

    A score is (area − random policy's) / (default's area − random policy's), the area under the
    curve as the mean of the curve's points.

    Args:
        records: of one task.
        total_env_steps: of each run.

    Returns:
        None as long as the random policy or the default has no run.
    """
    by_strategy: dict[str, list[Record]] = {}
    for record in records:
        by_strategy.setdefault(record["strategy"], []).append(record)
    if DEFAULT not in by_strategy or RANDOM_POLICY not in by_strategy:
        return None
    random_area = float(by_strategy.pop(RANDOM_POLICY)[0]["phases"]["mean_return"][0])
    curves = {
        strategy: [_whole_curve(record, total_env_steps, random_area) for record in its]
        for strategy, its in by_strategy.items()
    }
    default_area = float(np.mean(curves[DEFAULT]))

    def score(curve: Array) -> float:
        return float((curve.mean() - random_area) / (default_area - random_area))

    groups: dict[tuple[str, int], Group] = {}
    runs: dict[str, dict[int, list[tuple[int, float]]]] = {}
    for strategy, its in by_strategy.items():
        both = list(zip(its, curves[strategy], strict=True))
        of_memory = runs.setdefault(strategy, {})
        for record, curve in both:
            its_runs = of_memory.setdefault(record["memory"], [])
            its_runs.append((record["earlier_runs"], score(curve)))
        for size in sorted({record["earlier_runs"] for record in its if record["is_measured"]}):
            of_size = [each for each in both if each[0]["earlier_runs"] == size]
            memories = tuple(sorted({record["memory"] for record, _ in of_size}))
            means = np.stack(
                [
                    np.mean([curve for record, curve in of_size if record["memory"] == number], 0)
                    for number in memories
                ]
            )
            diverged = sum(record["status"] == "diverged" for record, _ in of_size)
            scores = np.array([score(curve) for curve in means])
            groups[strategy, size] = Group(memories, scores, means, diverged)
    return TaskScores(random_area, default_area, groups, runs)


@dataclass(frozen=True)
class Area:
    """The default's area under the learning curve on one task, in units of return.

    Attributes:
        task: name.
        env_id: of the task: only areas of one environment can be compared.
        area: mean over memory numbers, each the mean of its runs.
        memories: how many.
        random_area: the random policy's.
        diverged: runs that diverged.
    """

    task: str
    env_id: str
    area: Estimate
    memories: int
    random_area: float
    diverged: int


def areas_of(experiment: Experiment, scores: dict[str, TaskScores]) -> list[Area]:
    """Return the areas of the tasks that have runs, in the definition's order."""
    found = []
    for task in experiment.tasks:
        if task.name not in scores:
            continue
        its = scores[task.name]
        score = np.array(
            [np.mean([each for _, each in runs]) for runs in its.runs[DEFAULT].values()],
            dtype=np.float64,
        )
        areas: Array = its.random_area + score * (its.default_area - its.random_area)
        groups = [group for (strategy, _), group in its.groups.items() if strategy == DEFAULT]
        found.append(
            Area(
                task=task.name,
                env_id=task.settings.env_id,
                area=bootstrap(mean, [areas], np.random.default_rng(0)),
                memories=len(areas),
                random_area=its.random_area,
                diverged=sum(group.diverged for group in groups),
            )
        )
    return found


def _whole_curve(record: Record, total_env_steps: int, random_area: float) -> Array:
    curve = curve_of(record, total_env_steps)
    return np.where(np.isnan(curve), random_area, curve)  # a run in which no episode ended
