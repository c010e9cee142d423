"""Runs a trainer to its end and sums up what it came to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from hyperoracle_trainers.algorithms.acktr import ACKTR
from hyperoracle_trainers.algorithms.actor_critic import A2C
from hyperoracle_trainers.algorithms.phase import Phase
from hyperoracle_trainers.algorithms.ppo import PPO
from hyperoracle_trainers.algorithms.trainer import Trainer
from hyperoracle_trainers.hyperparameters.settings import A2CSettings, AnySettings, PPOSettings
from hyperoracle_trainers.hyperparameters.sources import HyperparameterSource
from hyperoracle_trainers.runs.evaluation import evaluate, mean_of
from hyperoracle_trainers.runs.writers import RunWriter, RunWriters
from hyperoracle_trainers.saved_state import State

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
        last_episode_env_step: env steps taken when the phase was over in which the last episode
            ended; None if none ended.
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
    last_episode_env_step: int | None
    evaluation_returns: Sequence[float]
    evaluation_episodes: int
    wall_seconds: float

    @property
    def evaluation_return(self) -> float | None:
        """Mean of the evaluation returns; None without evaluation, or if an episode did not end."""
        return mean_of(self.evaluation_returns, self.evaluation_episodes)

    @property
    def env_steps_per_second(self) -> float:
        """Env steps by wall time."""
        return self.env_steps / self.wall_seconds

    def figures(self) -> dict[str, Any]:
        """Return all of it by name, as JSON wants it."""
        return asdict(self) | {
            "evaluation_return": self.evaluation_return,
            "env_steps_per_second": self.env_steps_per_second,
        }


class Tally:
    """Sums up a run while it goes on, so that a run that is cut off has figures too.

    Attributes:
        env_steps: taken so far.
        update_steps: made so far.
        episodes: environment episodes that ended.
        last_episode_env_step: env steps taken when the phase was over in which the last episode
            ended; None before the first.
        source_seconds: wall time spent in the hyperparameter source.
    """

    def __init__(self) -> None:
        self._started = perf_counter()
        self._ended: float | None = None
        self._recent: deque[float] = deque(maxlen=_LAST_EPISODES)
        self._sum_of_returns = 0.0
        self.env_steps = 0
        self.update_steps = 0
        self.episodes = 0
        self.last_episode_env_step: int | None = None
        self.source_seconds = 0.0

    def record(self, phase: Phase) -> None:
        """Add a phase."""
        self.env_steps, self.update_steps = phase.env_step, phase.update_step
        self.source_seconds += phase.source_seconds
        self.add_returns(phase.episode_returns)

    def add_returns(self, episode_returns: Sequence[float]) -> None:
        """Add the returns of episodes that ended."""
        if episode_returns:
            self.last_episode_env_step = self.env_steps
        self.episodes += len(episode_returns)
        self._recent.extend(episode_returns)
        self._sum_of_returns += sum(episode_returns)

    def state(self) -> State:
        """Return all sums, and the wall time so far."""
        return {
            "recent": list(self._recent),
            "sum_of_returns": self._sum_of_returns,
            "env_steps": self.env_steps,
            "update_steps": self.update_steps,
            "episodes": self.episodes,
            "last_episode_env_step": self.last_episode_env_step,
            "source_seconds": self.source_seconds,
            "wall_seconds": self.wall_seconds,
        }

    def restore(self, state: State) -> None:
        """Go on where ``state`` was taken; the time between counts for nothing."""
        self._recent.extend(state["recent"])
        self._sum_of_returns = state["sum_of_returns"]
        self.env_steps = state["env_steps"]
        self.update_steps = state["update_steps"]
        self.episodes = state["episodes"]
        self.last_episode_env_step = state.get("last_episode_env_step")
        self.source_seconds = state["source_seconds"]
        self._started = perf_counter() - state["wall_seconds"]

    @property
    def recent_return(self) -> float | None:
        """Mean return of the last 20 episodes; None before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else None

    @property
    def mean_return(self) -> float | None:
        """Mean return of all episodes; None before the first."""
        return self._sum_of_returns / self.episodes if self.episodes else None

    @property
    def wall_seconds(self) -> float:
        """Wall time since the tally began, until training ended."""
        return (perf_counter() if self._ended is None else self._ended) - self._started

    def end(self) -> None:
        """Training is over: what follows, an evaluation perhaps, is not of its time."""
        if self._ended is None:
            self._ended = perf_counter()

    def summary(self, evaluation_returns: Sequence[float], wanted: int) -> RunSummary:
        """Return what the run came to.

        Args:
            evaluation_returns: raw returns of the evaluation's episodes that ended.
            wanted: episodes that were to be evaluated.
        """
        return RunSummary(
            env_steps=self.env_steps,
            update_steps=self.update_steps,
            episodes=self.episodes,
            final_return=self.recent_return,
            mean_return=self.mean_return,
            last_episode_env_step=self.last_episode_env_step,
            evaluation_returns=evaluation_returns,
            evaluation_episodes=wanted,
            wall_seconds=self.wall_seconds,
        )


def make_trainer(settings: AnySettings) -> PPO | A2C | ACKTR:
    """Return the trainer that the settings are of."""
    if isinstance(settings, PPOSettings):
        return PPO(settings)
    return A2C(settings) if isinstance(settings, A2CSettings) else ACKTR(settings)


def train(
    trainer: Trainer[Any],
    source: HyperparameterSource | None,
    tally: Tally,
    observers: Iterable[Callable[[Phase], object]] = (),
) -> None:
    """Train to the end, phase by phase.

    Args:
        trainer: a fresh or a restored one.
        source: see :meth:`~hyperoracle_trainers.algorithms.trainer.Trainer.train`; it learns of the
            end, whatever it is: an error of an observer fails the run too.
        tally: sums up, also of a run that is cut off.
        observers: called in turn with each phase as soon as it is over; what one raises ends the
            run.
    """
    observers = list(observers)
    with _phases_of(trainer, source) as phases:
        for phase in phases:
            tally.record(phase)
            for observer in observers:
                observer(phase)
    tally.end()


@contextmanager
def _phases_of(
    trainer: Trainer[Any], source: HyperparameterSource | None
) -> Iterator[Iterator[Phase]]:
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
    tally = Tally()
    with RunWriters(writers) as told:
        train(trainer, source, tally, [*observers, told.record])
        evaluation_returns = evaluate(
            trainer.policy,
            trainer.observation_normaliser,
            trainer.settings,
            episodes=evaluation_episodes,
            seed=trainer.settings.seed + 1,
        )
        summary = tally.summary(evaluation_returns, evaluation_episodes)
        told.end(summary.figures())
    return summary
