"""What the algorithms share: the parts a run is built from, and how a phase is closed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping
from time import perf_counter
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hyperoracle_trainers.algorithms.decisions import Decisions, in_effect
from hyperoracle_trainers.algorithms.optimisers import DescentRule, Optimiser
from hyperoracle_trainers.algorithms.phase import EpisodeWatch, Phase, Place
from hyperoracle_trainers.algorithms.rollouts import Collector, Rollout
from hyperoracle_trainers.environments.failures import TrainingDivergedError
from hyperoracle_trainers.environments.normalisation import (
    NoNormalisation,
    ObservationNormaliser,
    RewardNormaliser,
    RewardSigns,
    RewardTransformation,
    RunningNormalisation,
)
from hyperoracle_trainers.environments.vector import environments_of
from hyperoracle_trainers.hyperparameters.settings import SettingsError, TrainerSettings
from hyperoracle_trainers.hyperparameters.sources import FixedSource, HyperparameterSource
from hyperoracle_trainers.policies.networks import ActorCritic, actor_of
from hyperoracle_trainers.policies.numpy_pass import pass_of
from hyperoracle_trainers.policies.process import keep_freed_memory, torch_threads
from hyperoracle_trainers.saved_state import State

_LARGE_REWARD = 1e6

SettingsType = TypeVar("SettingsType", bound=TrainerSettings)


class Trainer(ABC, Generic[SettingsType]):
    """One training run; :meth:`train` is a generator, so logs and checkpoints stay outside.

    Args:
        settings: what the run is made from.
        rule: how a gradient becomes a step.

    Attributes:
        settings: as given.
        policy: the actor-critic that is trained.
        observation_normaliser: turns raw observations into what the policy sees.
        place: how far the run has come.
    """

    def __init__(
        self,
        settings: SettingsType,
        rule: DescentRule,
    ) -> None:
        self.settings = settings
        self.place = Place()
        env_seed, weight_seed, sampling_seed = np.random.SeedSequence(settings.seed).spawn(3)
        self._generator = np.random.default_rng(sampling_seed)
        self._device = _available(settings.device)
        self._environments = environments_of(settings, settings.number_of_envs, _as_int(env_seed))
        shape = self._environments.observation_shape
        if len(shape) == 3 and self._device.type == "cpu":
            keep_freed_memory()
        self.policy = ActorCritic(
            shape,
            self._environments.action_space,
            settings.hidden_sizes,
            _as_int(weight_seed),
            shared_trunk=settings.shared_trunk,
        ).to(self._device)
        self._optimiser = Optimiser(self.policy, rule)
        self._pass = pass_of(self.policy)
        self.observation_normaliser = _observation_normaliser(settings, shape)
        self._collector = Collector(
            self._environments,
            actor_of(self.policy),
            self.observation_normaliser,
            _reward_transformation(settings),
            settings.gamma,
            self._generator,
        )

    def train(self, source: HyperparameterSource | None = None) -> Generator[Phase, None, None]:
        """Train to the end of the settings' env steps, phase by phase; call it once.

        A trainer that was restored goes on from its place.

        Args:
            source: proposes hyperparameters; None keeps the base values.

        Yields:
            A record of each phase as soon as it is over. The source is told of the end when the
            last one is taken, when the iterator is closed, and when training fails.

        Raises:
            TrainingDivergedError: a loss is no longer finite.
            EnvironmentFailed: an environment raised, or gave what is no number.
        """
        decisions = Decisions(self.settings, source or FixedSource(), self.place.chosen)
        episodes = EpisodeWatch(self.settings)
        failed = False
        with torch_threads(self.settings.torch_threads):
            try:
                for phase in self._phases(decisions):
                    self.place = Place.after(phase)
                    episodes.look(phase)
                    yield phase
            except Exception:  # no interrupt, which is none
                failed = True
                raise
            finally:
                decisions.finish(failed=failed)
                self._environments.close()

    def state(self) -> State:
        """Return all that the rest of the run depends on; ask for it between two phases."""
        return {
            "place": self.place.state(),
            "policy": dict(self.policy.state_dict()),
            "observation_normaliser": self.observation_normaliser.state(),
            "optimiser": self._optimiser.state(),
            "collector": self._collector.state(),
            "generator": self._generator.bit_generator.state,
        }

    def restore(self, state: State) -> list[int]:
        """Go on where another trainer of the same settings was when its ``state`` was taken.

        On one machine the rest of the run is then equal, bit by bit, to what the other's would
        have been.

        Args:
            state: as read from a file: with NumPy arrays, which are nobody else's.

        Returns:
            The environments that could not be brought back, whose episodes begin anew, so that
            the rest of the run is not exactly what it would have been.
        """
        self.place = Place(**state["place"])
        self.restore_policy(state)
        self._optimiser.restore(state["optimiser"])
        anew = self._collector.restore(state["collector"])
        self._generator.bit_generator.state = state["generator"]
        return anew

    def restore_policy(self, state: State) -> None:
        """Take over only what acting needs: the weights and the observation normaliser."""
        weights = {name: torch.from_numpy(array) for name, array in state["policy"].items()}
        self.policy.load_state_dict(weights)
        self.observation_normaliser.restore(state["observation_normaliser"])

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        """Return a tensor on the run's device; on the CPU it shares the array's memory."""
        return torch.from_numpy(array).to(self._device)

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
            largest = float(np.abs(rollout.rewards).max())
            scale = f" with rewards up to {largest:.3g}" if largest > _LARGE_REWARD else ""
            remedy = "set normalise_rewards=true, or lower" if scale else "lower"
            raise TrainingDivergedError(
                f"expected finite losses, got {dict(metrics)} at env step {env_step}{scale}; "
                f"{remedy} learning_rate (now {hyperparameters['learning_rate']:g}) or "
                "max_grad_norm"
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


def _available(device: str) -> torch.device:
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"device: expected one that torch can use here, got {device!r} ({reason}); use cpu"
        ) from None
    return found


def _observation_normaliser(
    settings: TrainerSettings, shape: tuple[int, ...]
) -> ObservationNormaliser:
    if len(shape) == 1:
        normalised = settings.normalise_observations
        return RunningNormalisation(shape[0]) if normalised else NoNormalisation()
    if settings.normalise_observations:
        raise SettingsError(
            "normalise_observations: expected false for images, whose bytes the network scales "
            "itself, got true; leave it out"
        )
    return NoNormalisation(np.uint8)


def _reward_transformation(settings: TrainerSettings) -> RewardTransformation | None:
    if settings.clip_rewards:
        return RewardSigns()
    if settings.normalise_rewards:
        return RewardNormaliser(settings.number_of_envs, settings.gamma)
    return None


def _as_int(sequence: np.random.SeedSequence) -> int:
    return int(sequence.generate_state(1)[0])
