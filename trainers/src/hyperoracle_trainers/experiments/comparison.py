"""How strategies compare with the default, and with others: by task and over several tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperoracle_trainers.experiments.definition import DEFAULT, Experiment, Scope, scopes_of
from hyperoracle_trainers.experiments.packed import Record
from hyperoracle_trainers.experiments.scores import Array, Group, TaskScores, task_scores
from hyperoracle_trainers.experiments.statistics import (
    Estimate,
    bootstrap,
    improvement,
    interquartile_mean,
    mean_of_bounded,
)

_SEED = 0  # of the resampling, so that a report can be written again

_LEAST_GAIN = -1.0
"""A run no better than the random policy loses all that the default has. A greater loss is taken
for possible once it is seen."""

_GREATEST_GAIN = 1.0


@dataclass(frozen=True)
class Comparison:
    """One strategy at one memory size, on one task or over several.

    Attributes:
        scope: the tasks.
        strategy: name.
        earlier_runs: the memory size; None is any, of a strategy without memory that is measured at
            one of them.
        memories: independent studies behind the numbers, over several tasks the fewest of any.
        diverged: runs that diverged.
        score: interquartile mean of the normalised scores, stratified by task.
        gain: mean difference of scores to the default's with the same memory number and seeds;
            None of the default itself.
        improvement: probability of improvement over the default; over several tasks the mean of
            theirs; None of the default itself.
        gain_so_far: mean difference of all the study's runs up to this size, exploration included,
            to the default's runs: the price of learning; None of strategies without memory.
    """

    scope: Scope
    strategy: str
    earlier_runs: int | None
    memories: int
    diverged: int
    score: Estimate
    gain: Estimate | None
    improvement: Estimate | None
    gain_so_far: Estimate | None


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
    """Return the comparisons by scope, strategy and memory size.

    Over several tasks there is one only where each of them has runs.
    """
    return [
        _compared(experiment, scope, [scores[task] for task in scope.tasks], strategy, size)
        for scope in scopes_of(experiment)
        if all(task in scores for task in scope.tasks)
        for strategy in experiment.strategies
        for size in experiment.tables.memory_sizes
        if all((strategy, size) in scores[task].groups for task in scope.tasks)
    ]


def is_any_size(experiment: Experiment, strategy: str) -> bool:
    """Whether a strategy's one memory size stands for every one, as earlier runs mean nothing."""
    is_measured_once = len(experiment.memory_sizes_of(strategy)) == 1
    return strategy != DEFAULT and is_measured_once and not experiment.has_memory(strategy)


def gain_over(pairs: Sequence[tuple[Group, Group]]) -> tuple[Estimate, int] | None:
    """Return the mean difference of first to second, over tasks the mean of theirs.

    Args:
        pairs: one of each task; differences are of equal memory numbers.

    Returns:
        And how many memories are behind it, of the task with the fewest; None if that is none.
    """
    differences = [
        paired_differences(_by_memory(first), _by_memory(second)) for first, second in pairs
    ]
    return mean_difference(differences)


def improvement_over(pairs: Sequence[tuple[Group, Group]]) -> Estimate:
    """Return the probability that first exceeds second, over tasks the mean of theirs."""
    return improvement([(first.scores, second.scores) for first, second in pairs])


def paired_differences(ours: dict[int, float], theirs: dict[int, float]) -> Array:
    """Return ours minus theirs of each memory that both have."""
    return np.array([score - theirs[memory] for memory, score in ours.items() if memory in theirs])


def mean_difference(differences: Sequence[Array]) -> tuple[Estimate, int] | None:
    """Return the mean over tasks of mean differences, and the fewest memories; None without any."""
    memories = min(map(len, differences))
    if memories == 0:
        return None
    chance = np.random.default_rng(_SEED)
    return mean_of_bounded(differences, _LEAST_GAIN, _GREATEST_GAIN, chance), memories


def _compared(
    experiment: Experiment, scope: Scope, tasks: Sequence[TaskScores], strategy: str, size: int
) -> Comparison:
    groups = [its.groups[strategy, size] for its in tasks]
    references = [its.groups.get((DEFAULT, size)) for its in tasks]
    pairs = [
        (group, reference)
        for group, reference in zip(groups, references, strict=True)
        if reference is not None
    ]
    is_compared = strategy != DEFAULT and len(pairs) == len(groups)
    gain = gain_over(pairs) if is_compared else None
    learning = so_far(tasks, strategy, size) if experiment.has_memory(strategy) else None
    generator = np.random.default_rng(_SEED)
    return Comparison(
        scope=scope,
        strategy=strategy,
        earlier_runs=None if is_any_size(experiment, strategy) else size,
        memories=gain[1] if gain else min(len(group.memories) for group in groups),
        diverged=sum(group.diverged for group in groups),
        score=bootstrap(interquartile_mean, [group.scores for group in groups], generator),
        gain=gain[0] if gain else None,
        improvement=improvement_over(pairs) if gain else None,
        gain_so_far=learning[0] if learning else None,
    )


def so_far(tasks: Sequence[TaskScores], strategy: str, size: int) -> tuple[Estimate, int] | None:
    """Return by how much all runs of studies up to a size differ from the default's.

    A study's value is the mean over its runs, those that are not looked at included. Studies that
    have not come so far yet are left out.
    """
    differences = []
    for its in tasks:
        default = {memory: _mean_score(runs) for memory, runs in its.runs[DEFAULT].items()}
        ours = {
            memory: _mean_score(its.runs[strategy][memory], size)
            for memory in its.groups[strategy, size].memories
        }
        differences.append(paired_differences(ours, default))
    return mean_difference(differences)


def _mean_score(runs: Sequence[tuple[int, float]], size: float = np.inf) -> float:
    return float(np.mean([score for earlier_runs, score in runs if earlier_runs <= size]))


def _by_memory(group: Group) -> dict[int, float]:
    return dict(zip(group.memories, map(float, group.scores), strict=True))


@dataclass(frozen=True)
class Contest:
    """One strategy against a reference, on one task or over several.

    Attributes:
        scope: the tasks.
        strategy: name.
        reference: name of the other strategy.
        earlier_runs: memory size of the strategy; None is any.
        memories: independent studies that both have, over several tasks the fewest of any.
        gain: mean difference of scores of the same memory number.
        improvement: probability that a study's score exceeds one of the reference, over several
            tasks the mean of theirs.
        worst_task: the task with the least gain.
        worst_gain: its mean.
    """

    scope: Scope
    strategy: str
    reference: str
    earlier_runs: int | None
    memories: int
    gain: Estimate
    improvement: Estimate
    worst_task: str
    worst_gain: float


def contests_of(experiment: Experiment, scores: dict[str, TaskScores]) -> list[Contest]:
    """Return the contests with the definition's references, by reference, scope and strategy."""
    found = [
        _contest(experiment, scope, [scores[task] for task in scope.tasks], strategy, reference)
        for reference in experiment.tables.references
        for scope in scopes_of(experiment)
        if all(task in scores for task in scope.tasks)
        for strategy in experiment.strategies
        if strategy not in (DEFAULT, reference)
    ]
    return [contest for contest in found if contest is not None]


def _contest(
    experiment: Experiment,
    scope: Scope,
    tasks: Sequence[TaskScores],
    strategy: str,
    reference: str,
) -> Contest | None:
    sizes = _sizes(experiment, tasks, strategy, reference)
    if sizes is None:
        return None
    pairs = [(its.groups[strategy, sizes[0]], its.groups[reference, sizes[1]]) for its in tasks]
    gain = gain_over(pairs)
    if gain is None:
        return None
    by_task = [gain_over([pair]) for pair in pairs]
    worst_gain, worst_task = min(
        (float(each[0].value), task)
        for each, task in zip(by_task, scope.tasks, strict=True)
        if each is not None
    )
    return Contest(
        scope=scope,
        strategy=strategy,
        reference=reference,
        earlier_runs=None if is_any_size(experiment, strategy) else sizes[0],
        memories=gain[1],
        gain=gain[0],
        improvement=improvement_over(pairs),
        worst_task=worst_task,
        worst_gain=worst_gain,
    )


def _sizes(
    experiment: Experiment, tasks: Sequence[TaskScores], strategy: str, reference: str
) -> tuple[int, int] | None:
    """Return the greatest memory size of both; one without memory is taken as it was measured."""
    ours, theirs = (
        [
            size
            for size in experiment.memory_sizes_of(name)
            if all((name, size) in its.groups for its in tasks)
        ]
        for name in (strategy, reference)
    )
    common = [size for size in ours if size in theirs]
    if experiment.has_memory(strategy) and experiment.has_memory(reference):
        return (common[-1], common[-1]) if common else None
    if not ours or not theirs:
        return None
    size = (ours if experiment.has_memory(strategy) else theirs)[-1]
    return size if size in ours else ours[-1], size if size in theirs else theirs[-1]
