"""What a run of any algorithm is made from: typed, documented, checked before it starts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hyperoracle_trainers.hyperparameters.environment_names import (
    UnknownEnvironmentError,
    check_game,
    present_name,
    specification_of,
)
from hyperoracle_trainers.hyperparameters.schedulable import HYPERPARAMETERS

_MOST_THREADS = 1024  # with some ten thousand torch ends the process


class SettingsError(ValueError):
    """A setting has no meaning; the message is one line: expected, got, remedy."""


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """What PPO, A2C and ACKTR have in common.

    Settings named in `HYPERPARAMETERS` are the base
    values of schedulable hyperparameters and are explained there.

    Attributes:
        env_id: the Gymnasium environment, such as ``"CartPole-v1"``, or ``"module:Name-v0"`` where
            importing a module registers it. Old names of Atari games become today's; see
            `present_name`.
        seed: decides initial weights, environments and sampling; equal seeds give runs that are
            equal bit by bit on one machine.
        total_env_steps: env steps, summed over all environments, after which training ends (the
            last rollout is completed, so slightly more may be taken).
        number_of_envs: environments that are stepped in turn.
        envs_per_update: see the hyperparameters; None learns from all of them.
        rollout_length: see the hyperparameters.
        learning_rate: see the hyperparameters.
        decay_learning_rate: whether the base learning rate falls linearly to 0 over the run.
        gamma: see the hyperparameters; this base value also discounts the reported phase return
            and the reward normalisation, whatever is scheduled.
        gae_lambda: see the hyperparameters.
        entropy_coefficient: see the hyperparameters.
        value_loss_coefficient: see the hyperparameters.
        max_grad_norm: see the hyperparameters.
        normalise_advantages: whether advantages are standardised within each (mini)batch.
        normalise_observations: whether observations are standardised by running moments.
        normalise_rewards: whether rewards are divided by the running standard deviation of their
            discounted sum.
        clip_rewards: whether the learner gets of each reward its sign alone, as is usual on Atari.
        hidden_sizes: units of each tanh layer of a trunk; images are seen by the Nature CNN
            instead.
        shared_trunk: whether actor and critic share all layers but their last.
        preprocessing: how an Atari game becomes a task, ``"classic"`` or ``"machado"``; see
            `PREPROCESSING`.
        device: where torch computes, such as ``"cpu"`` or ``"cuda"``. Small networks are fastest on
            the CPU.
        torch_threads: threads that torch (and Atari's emulators) may use while the run lasts.
    """

    env_id: str
    seed: int = 0
    total_env_steps: int = 1_000_000
    number_of_envs: int
    envs_per_update: int | None = None
    rollout_length: int
    learning_rate: float
    decay_learning_rate: bool = False
    gamma: float = 0.99
    gae_lambda: float
    entropy_coefficient: float = 0.0
    value_loss_coefficient: float = 0.5
    max_grad_norm: float = 0.5
    normalise_advantages: bool
    normalise_observations: bool = False
    normalise_rewards: bool = False
    clip_rewards: bool = False
    hidden_sizes: tuple[int, ...] = (64, 64)
    shared_trunk: bool = False
    preprocessing: Literal["classic", "machado"] = "classic"
    device: str = "cpu"
    torch_threads: int = 1

    def __post_init__(self) -> None:
        """Check everything that can be checked before an environment is built.

        Raises:
            SettingsError: a setting has no meaning.
        """
        today = _checked_env_id(self.env_id, self.preprocessing)
        object.__setattr__(self, "env_id", today)  # a frozen class has no other way
        for name in ("total_env_steps", "number_of_envs", "torch_threads"):
            _check_at_least(name, getattr(self, name), 1)
        _check_at_least("seed", self.seed, 0)
        if self.torch_threads > _MOST_THREADS:
            raise SettingsError(
                f"torch_threads: expected at most {_MOST_THREADS}, got {self.torch_threads}; "
                "lower it to the processor's cores"
            )
        for size in self.hidden_sizes:
            _check_at_least("hidden_sizes", size, 1)
        if self.preprocessing not in ("classic", "machado"):
            raise SettingsError(
                f"preprocessing: expected 'classic' or 'machado', got {self.preprocessing!r}; "
                "choose one of them"
            )
        if self.clip_rewards and self.normalise_rewards:
            raise SettingsError(
                "clip_rewards: expected normalise_rewards=false beside it, got true; "
                "choose one of the two"
            )
        for name in self.schedulable():
            if name != "envs_per_update" or self.envs_per_update is not None:
                _check_hyperparameter(name, getattr(self, name))
        if (self.envs_per_update or 1) > self.number_of_envs:
            raise SettingsError(
                f"envs_per_update: expected at most number_of_envs = {self.number_of_envs}, got "
                f"{self.envs_per_update}; lower it, or leave it out to learn from all"
            )

    @classmethod
    def schedulable(cls) -> tuple[str, ...]:
        """Return the names of the hyperparameters that this algorithm can schedule."""
        own = {field.name for field in dataclasses.fields(cls)}
        return tuple(name for name in HYPERPARAMETERS if name in own)

    def base_values(self) -> dict[str, float]:
        """Return the base value of every hyperparameter that this algorithm can schedule."""
        values = {name: getattr(self, name) for name in self.schedulable()}
        values["envs_per_update"] = self.envs_per_update or self.number_of_envs
        return {name: float(value) for name, value in values.items()}

    def decayed(self) -> frozenset[str]:
        """Return the hyperparameters whose base value falls linearly to 0 over the run."""
        return frozenset({"learning_rate"} if self.decay_learning_rate else ())


@dataclass(frozen=True, kw_only=True)
class PPOSettings(TrainerSettings):
    """Settings of proximal policy optimisation; the defaults are those for MuJoCo.

    Attributes:
        epochs: see the hyperparameters.
        number_of_minibatches: see the hyperparameters.
        clip_range: see the hyperparameters.
        decay_clip_range: whether the base clip range falls linearly to 0 over the run.
        value_clip_range: how far a value may move from the rollout's value before its error stops
            counting; None does not clip.
        adam_epsilon: added to Adam's denominator.
        decisions: whether hyperparameters are chosen once per update ``"phase"`` or before every
            ``"minibatch"``.
    """

    number_of_envs: int = 1
    rollout_length: int = 2048
    learning_rate: float = 3e-4
    gae_lambda: float = 0.95
    normalise_advantages: bool = True
    epochs: int = 10
    number_of_minibatches: int = 32
    clip_range: float = 0.2
    decay_clip_range: bool = False
    value_clip_range: float | None = None
    adam_epsilon: float = 1e-5
    decisions: Literal["phase", "minibatch"] = "phase"

    def __post_init__(self) -> None:
        """Check PPO's own settings too.

        Raises:
            SettingsError: a setting has no meaning.
        """
        super().__post_init__()
        used, envs = "number_of_envs", self.number_of_envs
        if self.envs_per_update is not None:
            used, envs = "envs_per_update", self.envs_per_update
        batch = self.rollout_length * envs
        if batch % self.number_of_minibatches:
            raise SettingsError(
                f"number_of_minibatches: expected a divisor of rollout_length x {used} = "
                f"{batch}, got {self.number_of_minibatches}; change one of the three"
            )
        if self.value_clip_range is not None:
            _check_positive("value_clip_range", self.value_clip_range)
        _check_positive("adam_epsilon", self.adam_epsilon)
        if self.decisions not in ("phase", "minibatch"):
            raise SettingsError(
                f"decisions: expected 'phase' or 'minibatch', got {self.decisions!r}; "
                "choose one of them"
            )

    def decayed(self) -> frozenset[str]:
        """Return the hyperparameters whose base value falls linearly to 0 over the run."""
        return super().decayed() | frozenset({"clip_range"} if self.decay_clip_range else ())


@dataclass(frozen=True, kw_only=True)
class A2CSettings(TrainerSettings):
    """Settings of advantage actor-critic: one update per rollout.

    Attributes:
        rmsprop_alpha: see the hyperparameters.
        momentum: see the hyperparameters.
        rmsprop_epsilon: added to RMSprop's denominator.
    """

    number_of_envs: int = 1
    rollout_length: int = 5
    learning_rate: float = 7e-4
    gae_lambda: float = 1.0
    normalise_advantages: bool = False
    rmsprop_alpha: float = 0.99
    momentum: float = 0.0
    rmsprop_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        """Check A2C's own settings too.

        Raises:
            SettingsError: a setting has no meaning.
        """
        super().__post_init__()
        _check_positive("rmsprop_epsilon", self.rmsprop_epsilon)


@dataclass(frozen=True, kw_only=True)
class ACKTRSettings(TrainerSettings):
    """Settings of ACKTR: one natural gradient step per rollout.

    Gradients are shortened to ``max_grad_norm`` before they are preconditioned. The default is out
    of the way: the trust region limits the step.

    Attributes:
        kl_clip: see the hyperparameters.
        step_size: see the hyperparameters.
        damping: see the hyperparameters.
        fisher_coefficient: see the hyperparameters.
        statistics_period: see the hyperparameters.
        inversion_period: see the hyperparameters.
        momentum: see the hyperparameters.
        weight_decay: see the hyperparameters.
        statistics_decay: decay of the running mean of the Fisher matrix's factors.
    """

    number_of_envs: int = 1
    rollout_length: int = 128
    learning_rate: float = 1.0
    gae_lambda: float = 0.95
    max_grad_norm: float = 1e6
    normalise_advantages: bool = True
    kl_clip: float = 0.001
    step_size: float = 0.25
    damping: float = 0.1
    fisher_coefficient: float = 1.0
    statistics_period: int = 1
    inversion_period: int = 10
    momentum: float = 0.9
    weight_decay: float = 0.0
    statistics_decay: float = 0.99

    def __post_init__(self) -> None:
        """Check ACKTR's own settings too.

        Raises:
            SettingsError: a setting has no meaning.
        """
        super().__post_init__()
        if not 0 <= self.statistics_decay < 1:
            raise SettingsError(
                f"statistics_decay: expected 0 <= decay < 1, got {self.statistics_decay}; "
                "0.99 is usual"
            )


AnySettings = PPOSettings | A2CSettings | ACKTRSettings
"""Settings of any algorithm."""


SETTINGS_CLASSES: Mapping[str, type[AnySettings]] = {
    "ppo": PPOSettings,
    "a2c": A2CSettings,
    "acktr": ACKTRSettings,
}
"""The settings of each algorithm, by its name on the command line."""


def settings_from_json(algorithm: str, values: Mapping[str, Any]) -> AnySettings:
    """Return the settings that were written down as JSON, which has no tuples.

    Args:
        algorithm: a key of `SETTINGS_CLASSES`.
        values: every setting by name.

    Raises:
        KeyError: an unknown algorithm.
        TypeError: an unknown or a missing setting.
        SettingsError: a setting has no meaning.
    """
    typed: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return SETTINGS_CLASSES[algorithm](**typed)


def _checked_env_id(env_id: str, preprocessing: str) -> str:
    """Return the environment's name of today."""
    try:
        today = present_name(env_id, preprocessing)
        check_game(specification_of(today))
    except UnknownEnvironmentError as error:
        raise SettingsError(f"env_id: {error}") from None
    return today


def _check_at_least(name: str, value: int, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise SettingsError(
            f"{name}: expected a whole number of at least {minimum}, got {value!r}; change it"
        )


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise SettingsError(f"{name}: expected a positive number, got {value}; change it")


def _check_hyperparameter(name: str, value: float) -> None:
    definition = HYPERPARAMETERS[name]
    if definition.whole:
        _check_at_least(name, value, int(definition.minimum))  # type: ignore[arg-type] # it checks
    elif not (math.isfinite(value) and definition.minimum <= value <= definition.maximum):
        raise SettingsError(
            f"{name}: expected a number between {definition.minimum:g} and "
            f"{definition.maximum:g}, got {value}; change it"
        )
