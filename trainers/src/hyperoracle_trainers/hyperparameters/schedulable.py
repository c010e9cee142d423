"""The hyperparameters that can be scheduled: their meaning, range and moment of effect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class TakesEffect(Enum):
    """When a newly chosen value is used for the first time."""

    AT_MINIBATCH = "minibatch"
    """At the optimiser update that it was chosen for."""
    NEXT_PHASE = "phase"
    """From the beginning of the next environment phase."""


@dataclass(frozen=True)
class SchedulableHyperparameter:
    """One schedulable hyperparameter.

    Attributes:
        name: its name, which is also the name of the setting that holds its base value.
        meaning: what it does, in one sentence.
        takes_effect: when a newly chosen value is used for the first time.
        minimum: the least value that has a meaning.
        maximum: the greatest value that has a meaning.
        whole: whether only whole numbers have a meaning.
    """

    name: str
    meaning: str
    takes_effect: TakesEffect
    minimum: float = 0.0
    maximum: float = math.inf
    whole: bool = False

    def brought_into_range(self, value: float) -> float:
        """Return ``value`` rounded if whole numbers are wanted, and clamped to the range.

        Raises:
            ValueError: ``value`` is not a finite number.
        """
        if not math.isfinite(value):
            raise ValueError(
                f"{self.name}: expected a finite number, got {value}; "
                "check the search space or the recorded schedule"
            )
        if self.whole:
            value = round(value)
        return min(max(value, self.minimum), self.maximum)


_ALL = (
    SchedulableHyperparameter(
        "learning_rate",
        "Step size of the optimiser; ACKTR: factor on the mean step.",
        TakesEffect.AT_MINIBATCH,
    ),
    SchedulableHyperparameter(
        "clip_range",
        "PPO: the probability ratio earns nothing beyond 1 ± clip_range.",
        TakesEffect.AT_MINIBATCH,
    ),
    SchedulableHyperparameter(
        "value_loss_coefficient",
        "Weight of the mean squared value error in the loss.",
        TakesEffect.AT_MINIBATCH,
    ),
    SchedulableHyperparameter(
        "entropy_coefficient",
        "Weight of the policy's entropy (in nats) that is subtracted from the loss.",
        TakesEffect.AT_MINIBATCH,
    ),
    SchedulableHyperparameter(
        "max_grad_norm",
        "Euclidean norm, over all parameters, to which longer gradients are shortened.",
        TakesEffect.AT_MINIBATCH,
    ),
    SchedulableHyperparameter(
        "gamma",
        "Discount per env step in advantages and value targets.",
        TakesEffect.NEXT_PHASE,
        maximum=1.0,
    ),
    SchedulableHyperparameter(
        "gae_lambda",
        "Decay of generalised advantage estimation: 0 trusts the critic, 1 the returns.",
        TakesEffect.NEXT_PHASE,
        maximum=1.0,
    ),
    SchedulableHyperparameter(
        "rollout_length",
        "Env steps that each environment takes in one environment phase.",
        TakesEffect.NEXT_PHASE,
        minimum=1,
        whole=True,
    ),
    SchedulableHyperparameter(
        "envs_per_update",
        "Environments, the first so many of those stepped, whose trajectories are learnt from.",
        TakesEffect.NEXT_PHASE,
        minimum=1,
        whole=True,
    ),
    SchedulableHyperparameter(
        "epochs",
        "PPO: passes over the rollout in one update phase.",
        TakesEffect.NEXT_PHASE,
        minimum=1,
        whole=True,
    ),
    SchedulableHyperparameter(
        "number_of_minibatches",
        "PPO: parts of (nearly) equal size that each pass is cut into.",
        TakesEffect.NEXT_PHASE,
        minimum=1,
        whole=True,
    ),
    SchedulableHyperparameter(
        "rmsprop_alpha",
        "A2C: decay of RMSprop's running mean of squared gradients.",
        TakesEffect.AT_MINIBATCH,
        maximum=1.0 - 1e-6,  # at 1 every step would be divided by RMSprop's epsilon alone
    ),
    SchedulableHyperparameter(
        "kl_clip",
        "ACKTR: radius δ of the trust region, the KL divergence (in nats) of one step.",
        TakesEffect.AT_MINIBATCH,
    ),
    SchedulableHyperparameter(
        "step_size",
        "ACKTR: greatest length η of a natural gradient step, where the trust region is wider.",
        TakesEffect.AT_MINIBATCH,
    ),
    SchedulableHyperparameter(
        "damping",
        "ACKTR: λ, which is added to every eigenvalue of the Fisher matrix.",
        TakesEffect.AT_MINIBATCH,
        minimum=1e-8,
    ),
    SchedulableHyperparameter(
        "fisher_coefficient",
        "ACKTR: weight of the critic's log-likelihood in the Fisher matrix's statistics.",
        TakesEffect.AT_MINIBATCH,
    ),
    SchedulableHyperparameter(
        "statistics_period",
        "ACKTR: updates from one taking of the Fisher matrix's statistics to the next.",
        TakesEffect.AT_MINIBATCH,
        minimum=1,
        whole=True,
    ),
    SchedulableHyperparameter(
        "inversion_period",
        "ACKTR: updates from one inversion of the Fisher matrix to the next.",
        TakesEffect.AT_MINIBATCH,
        minimum=1,
        whole=True,
    ),
    SchedulableHyperparameter(
        "momentum",
        "A2C, ACKTR: decay of the running mean of steps: m × mean + (1 − m) × step.",
        TakesEffect.AT_MINIBATCH,
        maximum=1.0,
    ),
    SchedulableHyperparameter(
        "weight_decay",
        "ACKTR: this times the parameters is added to the gradient before it is preconditioned.",
        TakesEffect.AT_MINIBATCH,
    ),
)

HYPERPARAMETERS = MappingProxyType({each.name: each for each in _ALL})
"""All schedulable hyperparameters by name."""
