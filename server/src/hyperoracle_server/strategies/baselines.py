"""The hyper-agents without a memory: the defaults, chance, and a rule by the KL divergence.

`kl_adaptive` follows the KL divergence of PPO's updates with the learning rate.

Source: Schulman et al., Proximal Policy Optimization Algorithms, 2017, section 4, adapts a penalty
this way (target missed by half or double); applied to the learning rate with the factor 1.5 in
Rudin et al., Learning to Walk in Minutes Using Massively Parallel Deep RL, CoRL 2021, and their
library rsl_rl, whose target of 0.01 is the default here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from hyperoracle_server.strategies.base import HyperAgent
from hyperoracle_server.strategies.decisions import Decision
from hyperoracle_server.strategies.notes import NoNote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from jaxtyping import Bool

    from hyperoracle_protocol.strategies import KlAdaptiveStrategy
    from hyperoracle_server.strategies.base import Given
    from hyperoracle_server.strategies.decisions import Moment
    from hyperoracle_server.strategies.grid import HyperActionGrid


class FixedAgent(HyperAgent[NoNote]):
    """Always the default hyper-action.

    Args:
        grid: the joint hyper-actions.
    """

    why_chosen = "the strategy `fixed` always gives the defaults"

    def __init__(self, grid: HyperActionGrid) -> None:
        super().__init__(NoNote)
        self._grid = grid

    @classmethod
    def of(cls, given: Given) -> Self:
        """It has no settings."""
        return cls(given.grid)

    def decide(self, moment: Moment, rng: np.random.Generator) -> Decision:
        """The default hyper-action, with certainty."""
        del moment, rng
        return Decision(self._grid.default_joint_index)


class RandomAgent(FixedAgent):
    """A uniformly random hyper-action at every decision (RND); a control job gets the default."""

    why_explored = "the strategy `random` gives every hyper-action the same chance"

    def decide(self, moment: Moment, rng: np.random.Generator) -> Decision:
        """Any hyper-action with the same probability."""
        if moment.role == "control":
            return super().decide(moment, rng)
        action = int(rng.integers(self._grid.joint_count))
        return Decision(action, explored=True, epsilon=1.0, propensity=1.0 / self._grid.joint_count)


@dataclass
class Rate:
    """What is noted of a job: the rate that is wanted, None before its first decision."""

    wanted: float | None = None


def adapted_rate(rate: float, kl: float, target: float, factor: float) -> float:
    """The rate after an update with this KL divergence.

    Args:
        rate: before, > 0.
        kl: of the last update, in nats; 0 or less (an estimate may be) tells nothing.
        target: > 0; above its double the rate falls, below its half it rises.
        factor: > 1.
    """
    if kl > 2.0 * target:
        return rate / factor
    if 0.0 < kl < target / 2.0:
        return rate * factor
    return rate


class KlAdaptiveAgent(HyperAgent[Rate]):
    """Divides the rate where the KL is above twice the target, multiplies it below half of it.

    The wanted rate moves freely between the least and the greatest bin, and the bin nearest to it
    by ratio is answered (of two equally near the lower), so that bins further apart than the
    factor are reached as well, after several steps. All other hyperparameters stay at their
    defaults. A proposal without the signal changes nothing, and bins that jobs of the study died
    of are passed over. A `control` job gets the default,
    every other role the rule.

    Args:
        grid: the joint hyper-actions.
        position: which hyperparameter is the learning rate.
        values: of its bins, > 0, in any order.
        strategy: the settings.
    """

    why_chosen = "the bin nearest to the rate that the KL divergence asked for"

    def __init__(
        self,
        grid: HyperActionGrid,
        position: int,
        values: Sequence[float],
        strategy: KlAdaptiveStrategy,
    ) -> None:
        super().__init__(Rate)
        self._grid = grid
        self._position = position
        self._values = tuple(values)
        self._strategy = strategy

    @classmethod
    def of(cls, given: Given) -> Self:
        """For the hyperparameter that the settings name; the space has it."""
        space, strategy = given.definition.space, given.strategy
        values = [float(value) for value in space[strategy.hyperparameter].values]
        return cls(given.grid, list(space).index(strategy.hyperparameter), values, strategy)

    def lacks_signal(self, signals: Mapping[str, float]) -> bool:
        """Without its signal the rate stays as it was."""
        return self._strategy.signal not in signals

    def decide(self, moment: Moment, rng: np.random.Generator) -> Decision:
        """Adapt the wanted rate to the signal and answer the nearest bin."""
        del rng
        if moment.role == "control":
            return Decision(self._grid.default_joint_index)
        bins = list(self._grid.default_bins)
        noted = self._jobs.of(moment.job_id)
        wanted = self._values[bins[self._position]] if noted.wanted is None else noted.wanted
        kl = moment.signals.get(self._strategy.signal)
        if kl is not None:
            setting = self._strategy
            wanted = adapted_rate(wanted, kl, setting.target_kl, setting.factor)
        noted.wanted = min(max(wanted, min(self._values)), max(self._values))
        avoided = None if moment.avoided is None else moment.avoided.bins[self._position]
        bins[self._position] = self._nearest_bin(noted.wanted, avoided)
        return Decision(self._grid.joint_index(bins))

    def _nearest_bin(self, wanted: float, avoided: Bool[np.ndarray, " bins"] | None) -> int:
        return min(
            (i for i in range(len(self._values)) if avoided is None or not avoided[i]),
            key=lambda i: (abs(math.log(self._values[i] / wanted)), self._values[i]),
        )
