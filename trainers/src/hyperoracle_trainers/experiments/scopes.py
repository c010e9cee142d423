"""Over which tasks something is said: each on its own, those of a kind, all."""

from __future__ import annotations

from dataclasses import dataclass

from hyperoracle_trainers.experiments.definition import Experiment

_KINDS = ("off", "tuned")


@dataclass(frozen=True)
class Scope:
    """Tasks that a number is about.

    Attributes:
        name: the task's, or what the tasks have in common.
        tasks: names.
        may_help: whether help is to be expected: of no task the default is said to be tuned.
    """

    name: str
    tasks: tuple[str, ...]
    may_help: bool


def scopes_of(experiment: Experiment) -> list[Scope]:
    """Return every task on its own, tasks of a kind where there are several, and last all."""
    tables = experiment.tables.tasks
    found: list[tuple[str, tuple[str, ...]]] = [
        (task.name, (task.name,)) for task in experiment.tasks
    ]
    for kind in _KINDS:
        names = tuple(name for name, table in tables.items() if table.default_is == kind)
        if 1 < len(names) < len(tables):
            found.append((f"{kind} tasks", names))
    if len(tables) > 1:
        found.append(("all tasks", tuple(tables)))
    return [
        Scope(name, tasks, all(tables[task].default_is != "tuned" for task in tasks))
        for name, tasks in found
    ]
