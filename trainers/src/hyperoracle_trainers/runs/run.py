"""Runs a trainer to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np

from hyperoracle_trainers.algorithms.acktr import ACKTR
from hyperoracle_trainers.algorithms.actor_critic import A2C
from hyperoracle_trainers.algorithms.phase import Phase
from hyperoracle_trainers.algorithms.ppo import PPO
from hyperoracle_trainers.algorithms.trainer import Trainer
from hyperoracle_trainers.hyperparameters.settings import A2CSettings, AnySettings, PPOSettings
from hyperoracle_trainers.hyperparameters.sources import HyperparameterSource
from hyperoracle_trainers.runs.evaluation import evaluate, mean_of
from hyperoracle_trainers.runs.writers import RunWriter, RunWriters

_LAST_EPISODES = 20


@dataclass(frozen=True)
class RunSummary:
    """What a run came to.

    Attributes:
        env_steps: env steps taken.
        update_steps: optimiser updates made.
        episodes: environment episodes that ended.
        final_return: mean raw return of the last 20 training episodes; None if none ended.
        mean_return: mean raw return of all training episodes; None if none ended.
        evaluation_returns: raw returns of the deterministic policy after training, of the episodes
            that ended.
        evaluation_episodes: episodes that were wanted.
        wall_seconds: wall time of training, evaluation not included.
    """

    env_steps: int
    update_steps: int
    episodes: int
    final_return: float | None
    mean_return: float | None
    evaluation_returns: Sequence[float]
    evaluation_episodes: int
    wall_seconds: float

    @property
    def evaluation_return(self) -> float | None:
        """Mean of the evaluation returns; None without evaluation, or if an episode did not end."""
        return mean_of(self.evaluation_returns, self.evaluation_episodes)


def make_trainer(settings: AnySettings) -> PPO | A2C | ACKTR:
    """Return the trainer that the settings are of."""
    if isinstance(settings, PPOSettings):
        return PPO(settings)
    return A2C(settings) if isinstance(settings, A2CSettings) else ACKTR(settings)


@contextmanager
def phases_of(
    trainer: Trainer[Any], source: HyperparameterSource | None
) -> Iterator[Iterator[Phase]]:
    """Train, and let the source know the end, whatever it is: an error outside fails the run too.

    Args:
        trainer: a fresh or a restored one.
        source: see :meth:`~hyperoracle_trainers.algorithms.trainer.Trainer.train`.
    """
    phases = trainer.train(source)
    try:
        yield phases
    except Exception as error:
        phases.throw(error)  # which it raises again, unless it is where it came from
        raise
    finally:
        phases.close()


def run(
    trainer: Trainer[Any],
    source: HyperparameterSource | None = None,
    *,
    observers: Iterable[Callable[[Phase], object]] = (),
    writers: Iterable[RunWriter] = (),
    evaluation_episodes: int = 0,
) -> RunSummary:
    """Train to the end and say what came out.

    Args:
        trainer: a fresh one.
        source: proposes hyperparameters; None keeps the base values.
        observers: called with each phase as soon as it is over, such as
            :meth:`~hyperoracle_trainers.runs.log.RunLog.record` or a progress bar; what one raises
            ends the run.
        writers: told of each phase and of the summary, and closed at the end, whatever it is; one
            that fails is dropped with a warning
            (`RunWriters`).
        evaluation_episodes: episodes of the deterministic policy after training.
    """
    observers = list(observers)
    started = perf_counter()
    env_steps = update_steps = 0
    returns: list[float] = []
    with RunWriters(writers) as told:
        with phases_of(trainer, source) as phases:
            for phase in phases:
                env_steps, update_steps = phase.env_step, phase.update_step
                returns += phase.episode_returns
                for observer in observers:
                    observer(phase)
                told.record(phase)
        wall_seconds = perf_counter() - started
        settings = trainer.settings
        evaluation_returns = evaluate(
            trainer.policy,
            trainer.observation_normaliser,
            settings,
            episodes=evaluation_episodes,
            seed=settings.seed + 1,
        )
        summary = RunSummary(
            env_steps=env_steps,
            update_steps=update_steps,
            episodes=len(returns),
            final_return=float(np.mean(returns[-_LAST_EPISODES:])) if returns else None,
            mean_return=float(np.mean(returns)) if returns else None,
            evaluation_returns=evaluation_returns,
            evaluation_episodes=evaluation_episodes,
            wall_seconds=wall_seconds,
        )
        told.end(asdict(summary) | {"evaluation_return": summary.evaluation_return})
    return summary
