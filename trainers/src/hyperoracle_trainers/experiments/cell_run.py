"""Makes one run of an experiment and says what came out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from time import perf_counter, thread_time
from typing import Any

import gymnasium
import numpy as np

from hyperoracle_client import Job, Oracle
from hyperoracle_trainers.algorithms.oracle_source import OracleSource
from hyperoracle_trainers.algorithms.phase import EPISODE_ENV_STEPS, Phase
from hyperoracle_trainers.environments.failures import EnvironmentFailed, TrainingDivergedError
from hyperoracle_trainers.experiments.definition import RANDOM_POLICY, Experiment, Task
from hyperoracle_trainers.experiments.plan import Cell, Chain
from hyperoracle_trainers.hyperparameters.settings import AnySettings
from hyperoracle_trainers.runs.run import make_trainer
from hyperoracle_trainers.runs.run import run as train

RunRecord = dict[str, Any]
"""What is kept of a run: ``status``, ``phases`` (columns), ``oracle_job``, wall and CPU seconds."""

_RANDOM_POLICY_ENV_STEPS = 50_000


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
