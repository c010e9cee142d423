"""Raw areas of the default on every task: what a definition without strategies is about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperoracle_trainers.experiments.definition import DEFAULT, Experiment
from hyperoracle_trainers.experiments.scores import Array, TaskScores
from hyperoracle_trainers.experiments.statistics import Estimate, bootstrap, mean


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
