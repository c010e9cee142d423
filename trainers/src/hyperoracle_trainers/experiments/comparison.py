"""How strategies compare with the default, task by task and over all tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperoracle_trainers.experiments.definition import DEFAULT, Experiment
from hyperoracle_trainers.experiments.results import Record
from hyperoracle_trainers.experiments.scores import Array, Group, TaskScores, task_scores
from hyperoracle_trainers.experiments.statistics import (
    Estimate,
    bootstrap,
    interquartile_mean,
    mean,
    probability_of_improvement,
)

_SEED = 0  # of the resampling, so that a report can be written again


@dataclass(frozen=True)
class Comparison:
    """One strategy at one memory size, on one task or over all.

    Attributes:
        task: name; None is over all tasks.
        strategy: name.
        earlier_runs: the memory size; None is any, of a strategy without memory that is measured at
            one of them.
        memories: independent studies behind the numbers, over all tasks the fewest of any.
        diverged: runs that diverged.
        score: interquartile mean of the normalised scores, stratified by task.
        gain: mean difference of scores to the default's with the same memory number and seeds;
            None of the default itself.
        improvement: probability of improvement over the default; over all tasks the mean of
            theirs; None of the default itself.
    """

    task: str | None
    strategy: str
    earlier_runs: int | None
    memories: int
    diverged: int
    score: Estimate
    gain: Estimate | None
    improvement: Estimate | None


def scores_by_task(experiment: Experiment, records: Sequence[Record]) -> dict[str, TaskScores]:
    """Return the scores of every task of which the default and the random policy are measured."""
    found = {}
    for task in experiment.tasks:
        its = [record for record in records if record["task"] == task.name]
        scores = task_scores(its, task.settings.total_env_steps)
        if scores is not None:
            found[task.name] = scores
    return found


def compare(experiment: Experiment, scores: dict[str, TaskScores]) -> list[Comparison]:
    """Return the comparisons by task, strategy and memory size, those over all tasks last.

    Over all tasks there is one only where every task of the experiment has runs.
    """
    keys = [
        (strategy, size)
        for strategy in experiment.strategies
        for size in experiment.tables.memory_sizes
    ]
    found = [
        _compared(experiment, name, {name: its}, key)
        for name, its in scores.items()
        for key in keys
        if key in its.groups
    ]
    if len(experiment.tasks) > 1 and len(scores) == len(experiment.tasks):
        found += [
            _compared(experiment, None, scores, key)
            for key in keys
            if all(key in its.groups for its in scores.values())
        ]
    return found


def _compared(
    experiment: Experiment, task: str | None, scores: dict[str, TaskScores], key: tuple[str, int]
) -> Comparison:
    generator = np.random.default_rng(_SEED)
    groups = [its.groups[key] for its in scores.values()]
    strategy, size = key
    references = [its.groups.get((DEFAULT, size)) for its in scores.values()]
    pairs = [
        (group, reference)
        for group, reference in zip(groups, references, strict=True)
        if reference is not None
    ]
    differences = [_paired_differences(group, reference) for group, reference in pairs]
    is_compared = strategy != DEFAULT and len(pairs) == len(groups) and all(map(len, differences))
    gain = improvement = None
    if is_compared:
        gain = bootstrap(_mean_of_means, differences, generator)
        samples = [each.scores for pair in pairs for each in pair]
        improvement = bootstrap(_mean_improvement, samples, generator)
    return Comparison(
        task=task,
        strategy=strategy,
        earlier_runs=None if _is_any_size(experiment, strategy) else size,
        memories=min(len(each) for each in differences)
        if is_compared
        else min(len(group.memories) for group in groups),
        diverged=sum(group.diverged for group in groups),
        score=bootstrap(interquartile_mean, [group.scores for group in groups], generator),
        gain=gain,
        improvement=improvement,
    )


def _is_any_size(experiment: Experiment, strategy: str) -> bool:
    is_measured_once = len(experiment.memory_sizes_of(strategy)) == 1
    return strategy != DEFAULT and is_measured_once and not experiment.has_memory(strategy)


def _paired_differences(group: Group, reference: Group) -> Array:
    theirs = dict(zip(reference.memories, reference.scores, strict=True))
    ours = zip(group.memories, group.scores, strict=True)
    return np.array([score - theirs[memory] for memory, score in ours if memory in theirs])


def _mean_of_means(*samples: Array) -> Array:
    return np.asarray(np.mean([mean(sample) for sample in samples], axis=0))


def _mean_improvement(*samples: Array) -> Array:
    pairs = zip(samples[::2], samples[1::2], strict=True)
    return np.asarray(np.mean([probability_of_improvement(*pair) for pair in pairs], axis=0))
