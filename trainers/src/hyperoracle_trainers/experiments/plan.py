"""Which runs an experiment is made of, and the seeds that they use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperoracle_trainers.experiments.definition import DEFAULT, RANDOM_POLICY, Experiment, Task

_SEEDS_PER_PURPOSE = 2**30
_FIRST_SEED = {"tuning": 0, "reporting": _SEEDS_PER_PURPOSE}


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        task: name.
        strategy: name.
        memory: number of the independent study, from 0 on.
        job: number of the run in that study, from 0 on.
        earlier_runs: runs of the study that had ended when this one began.
        is_measured: whether ``earlier_runs`` is among the strategy's memory sizes; the random
            policy always is.
        role: of the oracle's job.
        seed: of the trainer; of one task, memory and job the same for every strategy.
        fingerprint: of all that the definition says about this run.
    """

    task: str
    strategy: str
    memory: int
    job: int
    earlier_runs: int
    is_measured: bool
    role: str
    seed: int
    fingerprint: str

    @property
    def name(self) -> str:
        """Name of the run's file, without its ending."""
        return f"{self.task}--{self.strategy}--memory{self.memory:03}--job{self.job:03}"


@dataclass(frozen=True)
class Chain:
    """The runs of one study, which follow each other.

    Attributes:
        name: unlike any other chain's of the experiment.
        generations: runs that are made at once, in order.
        study_seed: of the study's randomness.
    """

    name: str
    generations: tuple[tuple[Cell, ...], ...]
    study_seed: int

    @property
    def cells(self) -> Iterator[Cell]:
        """All runs in order."""
        return (cell for generation in self.generations for cell in generation)

    @property
    def asks_oracle(self) -> bool:
        """Whether a memory is carried from run to run."""
        return self.generations[0][0].strategy not in (DEFAULT, RANDOM_POLICY)


def chains_of(experiment: Experiment) -> list[Chain]:
    """Return all chains, the first memory of everything before the second of anything.

    So an experiment that is stopped early has compared all strategies with equally many memories,
    as long as they were to have more.
    """
    chains = [_random_policy_chain(experiment, task) for task in experiment.tasks]
    chains += [
        _chain(experiment, task, strategy, memory)
        for memory in range(experiment.tables.memories)
        for task in experiment.tasks
        for strategy in experiment.strategies
        if memory < experiment.memories_of(task.name, strategy)
    ]
    return chains


def seed_of(purpose: str, *what: str | int) -> int:
    """Return a seed for something, by name.

    Args:
        purpose: ``"tuning"`` gives seeds below 2³⁰, ``"reporting"`` seeds from 2³⁰ to 2³¹ − 1: what
            was chosen with the one is never judged with the same.
        *what: names and numbers.
    """
    digest = hashlib.sha256(json.dumps(what).encode()).digest()
    sequence = np.random.SeedSequence(int.from_bytes(digest, "big"))
    return _FIRST_SEED[purpose] + int(sequence.generate_state(1)[0]) % _SEEDS_PER_PURPOSE


def _chain(experiment: Experiment, task: Task, strategy: str, memory: int) -> Chain:
    tables = experiment.tables
    at_once = tables.concurrent_jobs
    sizes = experiment.memory_sizes_of(strategy)
    # Runs without a memory do not depend on earlier ones: only those that are compared are made.
    starts = range(0, sizes[-1] + 1, at_once) if experiment.has_memory(strategy) else sizes
    generations = tuple(
        tuple(
            _cell(experiment, task, strategy, memory, job=first + place, earlier_runs=first)
            for place in range(at_once)
        )
        for first in starts
    )
    return Chain(
        f"{task.name}--{strategy}--memory{memory:03}",
        generations,
        seed_of(tables.purpose, "study", task.name, strategy, memory),
    )


def _random_policy_chain(experiment: Experiment, task: Task) -> Chain:
    cell = _cell(experiment, task, RANDOM_POLICY, memory=0, job=0, earlier_runs=0)
    return Chain(f"{task.name}--{RANDOM_POLICY}", ((cell,),), cell.seed)


def _cell(
    experiment: Experiment, task: Task, strategy: str, memory: int, job: int, earlier_runs: int
) -> Cell:
    tables = experiment.tables
    sizes = experiment.memory_sizes_of(strategy)
    is_measured = earlier_runs in sizes or strategy == RANDOM_POLICY
    role = experiment.role_of(earlier_runs, is_measured=is_measured)
    seed = seed_of(tables.purpose, "trainer", task.name, memory, job)
    said: dict[str, Any] = {
        "algorithm": task.algorithm,
        "settings": {**vars(task.settings), "seed": seed},
    }
    if strategy not in (DEFAULT, RANDOM_POLICY):
        said |= {
            "space": task.described_space,
            "strategy": experiment.strategy_definition(strategy),
            "hold": tables.strategies[strategy].hold,
            "role": role,
            "concurrent_jobs": tables.concurrent_jobs,
        }
    canonical = json.dumps(said, sort_keys=True)
    fingerprint = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    return Cell(
        task.name, strategy, memory, job, earlier_runs, is_measured, role, seed, fingerprint
    )
