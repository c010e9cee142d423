"""How strategies compare with others than the default, where both remember the most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hyperoracle_trainers.experiments.comparison import gain_over, improvement_over, is_any_size
from hyperoracle_trainers.experiments.definition import DEFAULT, Experiment, Scope, scopes_of
from hyperoracle_trainers.experiments.scores import TaskScores
from hyperoracle_trainers.experiments.statistics import Estimate


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
