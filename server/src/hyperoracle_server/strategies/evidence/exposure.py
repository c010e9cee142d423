"""For how long jobs had which values, and which values jobs die of.

A job that dies takes its returns with it, so returns alone never tell that a value kills: what
survived looks fine. Here deaths, and phases from which on returns were no finite numbers, are
counted against the env steps that a value was in force, as a hazard. A bin is avoided while its
share of the deaths is more than its share of the env steps explains.

Pure: knows no clock, no store.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool

    from hyperoracle_server.strategies.grid import HyperActionGrid

SUSPECT = 0.3
"""Exploiting jobs keep off a bin whose deaths would be as many by chance with this probability."""

SHOWN = 0.05
"""With this one, and `DEATHS_NEEDED` deaths, exploring jobs keep off it too."""

DEATHS_NEEDED = 2

_REMEMBERED = 1024
"""Decisions that may wait for the report of their phase; past it the earliest is forgotten."""


@dataclass
class Exposure:
    """For how long one job had which bins.

    Attributes:
        spent: per hyperparameter and bin the env steps that passed under it.
        lost: per hyperparameter and bin how often returns began to be lost under it.
        decided: (sequence, joint hyper-action) of decisions, the one in force at `env_step` first.
        env_step: up to which `spent` counts.
        suspect: the hyper-action in force when returns began to be lost; None while they are not.
    """

    spent: list[list[int]] = field(default_factory=list)
    lost: list[list[int]] = field(default_factory=list)
    decided: list[tuple[int, int]] = field(default_factory=list)
    env_step: int = 0
    suspect: int | None = None

    def decide(self, sequence: int, hyper_action: int) -> None:
        """Note a decision; a repeated or earlier one is passed over."""
        if self.decided and sequence <= self.decided[-1][0]:
            return
        self.decided.append((sequence, hyper_action))
        del self.decided[:-_REMEMBERED]

    def replace(self, sequences: Iterable[int], hyper_action: int) -> None:
        """Note what the job used in the place of these decisions."""
        named = set(sequences)
        self.decided = [
            (sequence, hyper_action if sequence in named else action)
            for sequence, action in self.decided
        ]

    def phase(self, env_step: int, through: int, *, is_lost: bool, grid: HyperActionGrid) -> None:
        """Note that an environment phase has passed.

        Args:
            env_step: made by its end.
            through: the last decision's sequence that its policy has seen.
            is_lost: whether its return was lost.
            grid: the joint hyper-actions.
        """
        while len(self.decided) > 1 and self.decided[1][0] <= through:
            del self.decided[0]
        in_force = None
        if self.decided and self.decided[0][0] <= through:
            in_force = self.decided[0][1]
        steps = max(0, env_step - self.env_step)
        self.env_step = max(self.env_step, env_step)
        # Before its first decision a job is on its defaults.
        action = grid.default_joint_index if in_force is None else in_force
        if not self.spent:
            self.spent = [[0] * count for count in grid.bins_per_hyperparameter]
            self.lost = [[0] * count for count in grid.bins_per_hyperparameter]
        begins = is_lost and self.suspect is None
        for position, chosen in enumerate(grid.bins(action)):
            self.spent[position][chosen] += steps
            self.lost[position][chosen] += begins
        if begins or not is_lost:
            self.suspect = action if is_lost else None

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return dict(vars(self))

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Self:
        """Take `dump`'s values back.

        Raises:
            TypeError, ValueError, KeyError: they are none.
        """
        decided = [(int(sequence), int(action)) for sequence, action in dumped["decided"]]
        return cls(**{**dumped, "decided": decided})


class Avoided:
    """Bins that jobs keep off.

    Args:
        bins: per hyperparameter and bin whether it is avoided; the default's never is.

    Attributes:
        bins: the same.
    """

    def __init__(self, bins: Sequence[Bool[np.ndarray, " _"]]) -> None:
        self.bins = list(bins)

    def __bool__(self) -> bool:
        """Whether anything is avoided."""
        return any(bool(each.any()) for each in self.bins)

    @cached_property
    def allowed_actions(self) -> Bool[np.ndarray, " actions"]:
        """Per joint hyper-action whether none of its bins is avoided."""
        found: Bool[np.ndarray, " actions"] = ~reduce(np.logical_or.outer, self.bins).reshape(-1)
        return found

    def allows(self, bins: Sequence[int]) -> bool:
        """Whether none of these bins, one per hyperparameter, is avoided."""
        return not any(each[chosen] for each, chosen in zip(self.bins, bins, strict=True))


class Life(NamedTuple):
    """A job that ended, as far as hazards go.

    Attributes:
        exposure: for how long it had which bins.
        planned_env_steps: of the job, the unit of its exposure.
        died: whether it was lost.
    """

    exposure: Exposure
    planned_env_steps: int
    died: bool


class Hazards(NamedTuple):
    """Which bins jobs die of.

    Attributes:
        suspect: bins that exploiting jobs keep off.
        shown: bins that exploring jobs keep off too.
    """

    suspect: Avoided
    shown: Avoided


def hazards_of(lives: Iterable[Life], grid: HyperActionGrid) -> Hazards:
    """Which bins have more deaths than the env steps under them explain.

    A death is a job that was lost, which the decision in force at its end is blamed for, or a phase
    from which on returns were lost; one that goes on to the job's end is one death.

    Under the same hazard for all bins of a hyperparameter, d of the D deaths fall on a bin with
    share s of all env steps with the binomial probability of d or more out of D at s.

    Args:
        lives: the study's jobs that ended.
        grid: the joint hyper-actions.
    """
    spent = [np.zeros(count) for count in grid.bins_per_hyperparameter]
    deaths = [np.zeros(count, np.int64) for count in grid.bins_per_hyperparameter]
    for exposure, planned, died in lives:
        for position, steps in enumerate(exposure.spent):
            spent[position] += np.array(steps) / planned
        for position, times in enumerate(exposure.lost):
            deaths[position] += np.array(times)
        if died and exposure.suspect is None and exposure.decided:
            for position, chosen in enumerate(grid.bins(exposure.decided[-1][1])):
                deaths[position][chosen] += 1
    suspect, shown = [], []
    for own_spent, own_deaths, default in zip(spent, deaths, grid.default_bins, strict=True):
        by_chance = np.array([
            _tail(int(own_deaths.sum()), int(died), float(time / own_spent.sum()))
            if died and own_spent.sum() > 0.0 else 1.0
            for died, time in zip(own_deaths, own_spent, strict=True)
        ])  # fmt: skip
        by_chance[default] = 1.0  # the default is the user's own: there is nothing to fall back to
        suspect.append(by_chance <= SUSPECT)
        shown.append((by_chance <= SHOWN) & (own_deaths >= DEATHS_NEEDED))
    return Hazards(Avoided(suspect), Avoided(shown))


def _tail(count: int, least: int, share: float) -> float:
    """The probability of at least `least` out of `count` at `share` each."""
    if share <= 0.0 or share >= 1.0:
        return 0.0 if share <= 0.0 else 1.0
    logs = (
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        + k * math.log(share) + (count - k) * math.log1p(-share)
        for k in range(least, count + 1)
    )  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, logs)))
