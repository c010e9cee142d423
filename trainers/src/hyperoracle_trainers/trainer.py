"""What the algorithms share: the parts a run is built from, and how a phase is closed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Generic, TypeVar

import numpy as np
import torch

from hyperoracle_trainers.apply_hyperparameters import Decisions, in_effect
from hyperoracle_trainers.envs import make_environments
from hyperoracle_trainers.hyperparameter_source import FixedSource, HyperparameterSource
from hyperoracle_trainers.networks import ActorCritic, RolloutActor
from hyperoracle_trainers.normalisation import (
    NoNormalisation,
    ObservationNormaliser,
    RewardNormaliser,
    RunningNormalisation,
)
from hyperoracle_trainers.optimisation import DescentRule, Optimiser
from hyperoracle_trainers.phase import Phase
from hyperoracle_trainers.rollouts import Collector, Rollout
from hyperoracle_trainers.settings import TrainerSettings

SettingsType = TypeVar("SettingsType", bound=TrainerSettings)


class TrainingDivergedError(ArithmeticError):
    """A loss is no longer a finite number; the message is one line with the remedy."""


class Trainer(ABC, Generic[SettingsType]):
    """One training run; :meth:`train` is a generator, so logs and checkpoints stay outside.

    Args:
        settings: what the run is made from.
        rule: how a gradient becomes a step.

    Attributes:
        settings: as given.
        policy: the actor-critic that is trained.
        observation_normaliser: turns raw observations into what the policy sees.
    """

    def __init__(
        self,
        settings: SettingsType,
        rule: DescentRule,
    ) -> None:
        self.settings = settings
        env_seed, weight_seed, sampling_seed = np.random.SeedSequence(settings.seed).spawn(3)
        self._generator = np.random.default_rng(sampling_seed)
        self._environments = make_environments(
            settings.env_id, settings.number_of_envs, _as_int(env_seed)
        )
        size = self._environments.observation_size
        self.policy = ActorCritic(
            size, self._environments.action_space, settings.hidden_sizes, _as_int(weight_seed)
        )
        self._optimiser = Optimiser(self.policy, rule)
        self.observation_normaliser: ObservationNormaliser = (
            RunningNormalisation(size) if settings.normalise_observations else NoNormalisation()
        )
        self._collector = Collector(
            self._environments,
            RolloutActor(self.policy),
            self.observation_normaliser,
            RewardNormaliser(settings.number_of_envs, settings.gamma)
            if settings.normalise_rewards
            else None,
            settings.gamma,
            self._generator,
        )

    def train(self, source: HyperparameterSource | None = None) -> Generator[Phase, None, None]:
        """Train to the end of the settings' env steps, phase by phase; call it once.

        Args:
            source: proposes hyperparameters; None keeps the base values.

        Yields:
            A record of each phase as soon as it is over. The source is told of the end when the
            last one is taken, when the iterator is closed, and when training fails.

        Raises:
            TrainingDivergedError: a loss is no longer finite.
        """
        decisions = Decisions(self.settings, source or FixedSource())
        with _torch_threads(self.settings.torch_threads):
            try:
                yield from self._phases(decisions)
            finally:
                decisions.finish()
                self._environments.close()

    @abstractmethod
    def _phases(self, decisions: Decisions) -> Iterator[Phase]:
        """Run the algorithm."""


class PhaseClock:
    """Splits a phase's wall time; starts when it is made."""

    def __init__(self) -> None:
        self._started = perf_counter()
        self._collected = self._started

    def collected(self) -> None:
        """Note that the environment phase is over."""
        self._collected = perf_counter()

    def close(
        self,
        index: int,
        env_step: int,
        update_step: int,
        rollout: Rollout,
        held: Mapping[str, float],
        decisions: Decisions,
        metrics: Mapping[str, float],
    ) -> Phase:
        """Return the record of the phase that ends now.

        Args:
            index: phases before this one.
            env_step: env steps taken so far.
            update_step: optimiser updates made so far.
            rollout: what was collected.
            held: hyperparameters at the beginning of the phase.
            decisions: what was chosen since.
            metrics: of the update.

        Raises:
            TrainingDivergedError: a metric is not finite.
        """
        hyperparameters = in_effect(held, decisions.made[-1].values)
        if not np.isfinite(list(metrics.values())).all():
            raise TrainingDivergedError(
                f"expected finite losses, got {dict(metrics)} at env step {env_step}; lower "
                f"learning_rate (now {hyperparameters['learning_rate']:g}) or max_grad_norm"
            )
        return Phase(
            index=index,
            env_step=env_step,
            update_step=update_step,
            episode_returns=rollout.episode_returns,
            episode_lengths=rollout.episode_lengths,
            phase_return=rollout.phase_return,
            hyperparameters=hyperparameters,
            decisions=tuple(decisions.made),
            metrics=metrics,
            collect_seconds=self._collected - self._started,
            update_seconds=perf_counter() - self._collected - decisions.seconds,
            source_seconds=decisions.seconds,
        )


def _as_int(sequence: np.random.SeedSequence) -> int:
    return int(sequence.generate_state(1)[0])


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
