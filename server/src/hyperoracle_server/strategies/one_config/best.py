"""One best configuration remembered: a decision per job, chosen by what whole jobs achieved.

Source: the comparison "one best configuration remembered per task" of the project's first trials:
greedy in the mean over whole runs, as in sequential search, with a study as the task.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Self

import numpy as np

from hyperoracle_server.strategies.one_config.agent import OneConfigAgent
from hyperoracle_server.strategies.value_model.advantages import on_one_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperoracle_protocol.strategies import BestConfigStrategy
    from hyperoracle_server.strategies.base import Given
    from hyperoracle_server.strategies.evidence.exposure import Avoided
    from hyperoracle_server.strategies.grid import HyperActionGrid


class BestConfigAgent(OneConfigAgent):
    """Greedy in the mean score.

    - *Exploit*: of the hyper-actions with at least `jobs_needed` scores the one of the greatest
      mean score (ties: fewest bins from the default); the default until it has as many itself.
      Scores of several tasks are compared on a common scale (`advantages.on_one_scale`).
    - *Explore*: of the default, the exploited hyper-action and all that differ from one of these
      by one step of one hyperparameter, the one that the fewest jobs were given, whether or not
      they ended (ties: fewest bins from the default, then chance).

    Args:
        grid: the joint hyper-actions.
        ordered: per hyperparameter whether its bins have an order; without one, every other bin
            is one step away.
        strategy: the settings.
    """

    why_explored = "explored: the least tried near the default or near the best, for the whole job"
    why_chosen = "the best mean over whole jobs, or the default until there are enough"

    def __init__(
        self, grid: HyperActionGrid, ordered: Sequence[bool], strategy: BestConfigStrategy
    ) -> None:
        super().__init__(grid, strategy.roles)
        self._ordered = tuple(ordered)
        self._jobs_needed = strategy.jobs_needed

    @classmethod
    def of(cls, given: Given) -> Self:
        """With the study's settings."""
        return cls(given.grid, given.ordered, given.strategy)

    def best(self, avoided: Avoided | None = None) -> int:
        """The hyper-action to exploit."""
        runs = [run for _, run in self.scored()]
        values = np.array([run.score for run in runs], np.float64)
        scores: dict[int, list[float]] = {}
        for run, score in zip(runs, on_one_scale(values, [r.task for r in runs]), strict=True):
            if run.hyper_action is not None:
                scores.setdefault(run.hyper_action, []).append(float(score))
        default, needed = self._grid.default_joint_index, self._jobs_needed
        if len(scores.get(default, ())) < needed:
            return default
        # math.fsum: the same sum whatever the order, so equal jobs make equal means.
        means = {
            a: math.fsum(s) / len(s)
            for a, s in scores.items()
            if len(s) >= needed and self._allows(avoided, a)
        }
        return min(means, key=lambda a: (-means[a], self._steps(a, default), a))

    def to_explore(self, avoided: Avoided | None = None) -> list[int]:
        """The least tried near the default or the best."""
        default = self._grid.default_joint_index
        near = {*self._around(default), *self._around(self.best(avoided))}
        candidates = {action for action in near if self._allows(avoided, action)}
        given = Counter(run.hyper_action for run in self._jobs)
        rank = {a: (given[a], self._steps(a, default)) for a in candidates}
        first = min(rank.values())
        return sorted(a for a in candidates if rank[a] == first)

    def _allows(self, avoided: Avoided | None, action: int) -> bool:
        return avoided is None or avoided.allows(self._grid.bins(action))

    def _around(self, action: int) -> list[int]:
        """A hyper-action and those that are one step away."""
        bins = self._grid.bins(action)
        found = [action]
        for position, count in enumerate(self._grid.bins_per_hyperparameter):
            here = bins[position]
            near = (here - 1, here + 1) if self._ordered[position] else range(count)
            found += [
                self._grid.joint_index((*bins[:position], other, *bins[position + 1 :]))
                for other in near
                if 0 <= other < count and other != here
            ]
        return found

    def _steps(self, one: int, other: int) -> int:
        """How many steps lie between two hyper-actions, over all hyperparameters."""
        pairs = zip(self._grid.bins(one), self._grid.bins(other), self._ordered, strict=True)
        return sum(abs(a - b) if ordered else int(a != b) for a, b, ordered in pairs)
