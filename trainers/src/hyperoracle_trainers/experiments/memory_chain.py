"""Makes the runs of one study after each other, so that a kill at any moment costs one run.

The memory after ``k`` generations of runs is a folder ``k``. The next generation works on a copy;
its results are put beside the store in that copy, and renaming the copy to ``k + 1`` is the one
moment at which both the memory and the results begin to exist.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import gymnasium
import numpy as np

from hyperoracle_client import Job, Oracle
from hyperoracle_trainers.algorithms.oracle_source import OracleSource
from hyperoracle_trainers.algorithms.phase import EPISODE_ENV_STEPS, Phase
from hyperoracle_trainers.environments.failures import EnvironmentFailed, TrainingDivergedError
from hyperoracle_trainers.experiments.definition import RANDOM_POLICY, Experiment, Task
from hyperoracle_trainers.experiments.packed import Record, ResultsError
from hyperoracle_trainers.experiments.plan import Cell, Chain
from hyperoracle_trainers.experiments.results import is_made, provenance, result_file, write_record
from hyperoracle_trainers.hyperparameters.settings import AnySettings
from hyperoracle_trainers.runs.run import make_trainer
from hyperoracle_trainers.runs.run import run as train

RunRecord = dict[str, Any]
"""What is kept of a run: ``status``, ``phases`` (columns), ``oracle_job``, wall and CPU seconds."""

MEMORIES = "memories"
"""Folder, beside the results, of the memories of chains that are not complete."""

# The most there is: a busy machine must not turn an oracle's answer into a default.
_PATIENCE_SECONDS = 60.0
_RANDOM_POLICY_ENV_STEPS = 50_000
_WORK = "work"


def make_chain(
    experiment: Experiment,
    chain: Chain,
    folder: Path,
    *,
    command: str,
    may_go_on: Callable[[float], bool],
    made: Callable[[Cell], None],
) -> None:
    """Make the runs of a chain that are missing.

    Args:
        experiment: the definition.
        chain: which.
        folder: of the results.
        command: that made them, for the record.
        may_go_on: asked before each generation, with the seconds that the last one took (0 at
            first).
        made: told of each run as soon as its result is there.

    Raises:
        ResultsError: results of another definition, or results without the memory that they left.
        OracleError: the oracle refuses or fails.
    """
    memories = folder / MEMORIES / chain.name
    with _only_one(folder / MEMORIES, chain.name):
        for cell in _publish(memories, chain, folder):
            made(cell)
        first = _first_missing(chain, folder)
        seconds = 0.0
        for index in range(first, len(chain.generations)):
            if not may_go_on(seconds):
                return
            records = _make_generation(experiment, chain, index, memories, command)
            seconds = max(record["wall_seconds"] for record in records)
            for cell in _publish(memories, chain, folder):
                made(cell)
        shutil.rmtree(memories, ignore_errors=True)


def _first_missing(chain: Chain, folder: Path) -> int:
    """Return the number of the first generation without results."""
    complete = [all(is_made(folder, cell) for cell in each) for each in chain.generations]
    first = complete.index(False) if False in complete else len(complete)
    kept = folder / MEMORIES / chain.name / str(first)
    if chain.asks_oracle and 0 < first < len(complete) and not kept.is_dir():
        raise ResultsError(
            f"{chain.name}: expected the memory that its {first} made generations left, got none; "
            "go on where they were made, or begin in another --results folder"
        )
    return first


def _make_generation(
    experiment: Experiment, chain: Chain, index: int, memories: Path, command: str
) -> list[Record]:
    """Make the runs of a generation, and let their results and the memory exist at once."""
    cells = chain.generations[index]
    before, work = memories / str(index), memories / _WORK
    shutil.rmtree(work, ignore_errors=True)
    if index and chain.asks_oracle:
        shutil.copytree(before, work)
    else:
        work.mkdir(parents=True)

    def make(cell: Cell) -> Record:
        return {
            "experiment": experiment.name,
            "purpose": experiment.tables.purpose,
            **vars(cell),
            **make_run(experiment, chain, cell, oracle),
            "command": command,
            **provenance(),
        }

    with _memory_in(work) if chain.asks_oracle else nullcontext(None) as oracle:
        if len(cells) == 1:
            records = [make(cells[0])]
        else:
            with ThreadPoolExecutor(len(cells)) as at_once:
                records = list(at_once.map(make, cells))
    for cell, record in zip(cells, records, strict=True):
        write_record(result_file(work, cell), record)
    work.rename(memories / str(index + 1))
    return records


def _publish(memories: Path, chain: Chain, folder: Path) -> list[Cell]:
    """Move the results that lie beside the newest memory to the others; return their cells."""
    kept = sorted((int(each.name) for each in memories.glob("[0-9]*")), reverse=True)
    published = []
    if kept:
        for cell in chain.cells:
            waiting = result_file(memories / str(kept[0]), cell)
            if waiting.exists():
                waiting.replace(result_file(folder, cell))
                published.append(cell)
    for old in kept[1:]:
        shutil.rmtree(memories / str(old))
    return published


@contextmanager
def _memory_in(folder: Path) -> Iterator[Oracle]:
    with Oracle(
        f"embedded:{folder / 'oracle.db'}",
        on_error="raise",
        propose_deadline_seconds=_PATIENCE_SECONDS,
        start_deadline_seconds=_PATIENCE_SECONDS,
    ) as oracle:
        yield oracle


@contextmanager
def _only_one(folder: Path, name: str) -> Iterator[None]:
    """Wait until no other process makes the chain; the kernel ends a dead one's turn."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    with (folder / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_run(experiment: Experiment, chain: Chain, cell: Cell, oracle: Oracle | None) -> RunRecord:
    """Make one run.

    Args:
        experiment: the definition.
        chain: the cell's.
        cell: which run.
        oracle: of the chain's memory; None for a run that asks none.

    Raises:
        OracleError: the oracle refuses or fails; the run then counts for nothing.
    """
    task = next(task for task in experiment.tasks if task.name == cell.task)
    settings = replace(task.settings, seed=cell.seed)
    wall, cpu = perf_counter(), thread_time()
    if cell.strategy == RANDOM_POLICY:
        outcome = _random_policy(settings)
    else:
        outcome = _trained(experiment, task, settings, chain, cell, oracle)
    return {
        **outcome,
        "wall_seconds": round(perf_counter() - wall, 3),
        "cpu_seconds": round(thread_time() - cpu, 3),
    }


def _trained(
    experiment: Experiment,
    task: Task,
    settings: AnySettings,
    chain: Chain,
    cell: Cell,
    oracle: Oracle | None,
) -> RunRecord:
    trainer = make_trainer(settings)
    source: OracleSource | None = None
    if oracle is not None:
        source = OracleSource.start(
            oracle,
            trainer,
            study=chain.name,
            space=task.space,
            strategy=experiment.strategy_definition(cell.strategy),
            hold=experiment.tables.strategies[cell.strategy].hold,
            seed=chain.study_seed,
            role=cell.role,
        )
    phases: list[Phase] = []
    status = "completed"
    try:
        train(trainer, source, observers=[phases.append])
    except TrainingDivergedError:
        status = "diverged"  # which is a result, and not a good one
    job = None
    if source is not None:
        assert isinstance(source.job, Job)
        job = {"id": source.job.id, "role": source.job.role, "stats": asdict(source.job.stats)}
    return {"status": status, "phases": _columns(phases, task.space), "oracle_job": job}


def _random_policy(settings: AnySettings) -> RunRecord:
    """Act at random, and count all episodes as one phase."""
    environment = gymnasium.make(settings.env_id)
    limit = _RANDOM_POLICY_ENV_STEPS + EPISODE_ENV_STEPS
    environment.action_space.seed(settings.seed)
    environment.reset(seed=settings.seed)
    returns: list[float] = []
    env_step, episode_return = 0, 0.0
    while env_step < _RANDOM_POLICY_ENV_STEPS or not returns:
        _, reward, terminated, truncated, _ = environment.step(environment.action_space.sample())
        env_step += 1
        episode_return += float(reward)
        if terminated or truncated:
            returns.append(episode_return)
            episode_return = 0.0
            environment.reset()
        elif env_step >= limit and not returns:
            raise EnvironmentFailed(
                0,
                f"expected an episode to end, got none under a random policy in {env_step:,} env "
                "steps of its, by whose return scores are measured",
            )
    environment.close()
    phases = {
        "env_step": [env_step],
        "episodes": [len(returns)],
        "mean_return": [float(np.mean(returns))],
    }
    return {"status": "completed", "phases": phases, "oracle_job": None}


def _columns(phases: Iterable[Phase], hyperparameters: Iterable[str]) -> dict[str, list[Any]]:
    phases = list(phases)
    returns = [phase.episode_returns for phase in phases]
    return {
        "env_step": [phase.env_step for phase in phases],
        "episodes": [len(each) for each in returns],
        "mean_return": [float(np.mean(each)) if each else None for each in returns],
        **{name: [phase.hyperparameters[name] for phase in phases] for name in hyperparameters},
    }
