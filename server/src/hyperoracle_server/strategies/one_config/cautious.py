"""One configuration remembered, and left only on evidence: `best_config` with a value model.

A job's score is compared with those of all others in a Gaussian process over the bins in which the
default's effect is 0 (`value_model.gaussian_process`, with one context for all). Bins beside each
other say something of each other, few jobs say little, and nothing known means: the default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from hyperoracle_server.strategies.decisions import Evidence
from hyperoracle_server.strategies.one_config.agent import OneConfigAgent
from hyperoracle_server.strategies.value_model import choice
from hyperoracle_server.strategies.value_model.advantages import standardised
from hyperoracle_server.strategies.value_model.effects_on_grid import EffectsOnGrid
from hyperoracle_server.strategies.value_model.gaussian_process import Effects, Records, fitted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Int

    from hyperoracle_protocol.strategies import CautiousConfigStrategy
    from hyperoracle_server.strategies.base import Given
    from hyperoracle_server.strategies.evidence.exposure import Avoided
    from hyperoracle_server.strategies.grid import HyperActionGrid

MAX_RECORDS = 240
"""The newest so many jobs that ended are modelled, exactly."""

_CONTEXT = np.zeros(1)  # the same for every job


class ConfigKnowledge(NamedTuple):
    """What the jobs that ended say.

    Attributes:
        bins: that each was given.
        jobs: their numbers.
        effects: per hyperparameter what its bins are worth, in standard units of the score.
    """

    bins: Int[np.ndarray, "jobs hyperparameters"]
    jobs: Int[np.ndarray, " jobs"]
    effects: list[Effects]


class CautiousConfigAgent(OneConfigAgent):
    """Leaves the default where a job's score is expected to be better by enough.

    - *Exploit*: per hyperparameter, of the bins that a job with a score had, the one with the
      greatest mean effect less `caution` standard deviations, if that is above 0 and at least
      `jobs_needed` jobs left the default in that direction; else the default.
    - *Explore*: what is exploited, with one hyperparameter at another bin: one within a step of
      the default or of a bin that looks good (mean less half of `caution` deviations above 0), and
      not shown to be worse than the default (mean plus one deviation above 0). Of these the one
      that the fewest jobs were given, whether or not they ended; where there is none, the default:
      nothing is left to try.

    Args:
        grid: the joint hyper-actions.
        ordered: per hyperparameter whether its bins have an order.
        strategy: the settings.
    """

    why_explored = (
        "explored: the least tried of what may be better than the default, for the whole job"
    )
    why_chosen = (
        "the greatest cautious score over the default that enough whole jobs stand behind; else "
        "the default"
    )

    def __init__(
        self, grid: HyperActionGrid, ordered: Sequence[bool], strategy: CautiousConfigStrategy
    ) -> None:
        super().__init__(grid, strategy.roles)
        self._strategy = strategy
        self._on_grid = EffectsOnGrid(grid, ordered)
        self._knowledge: ConfigKnowledge | None = None

    @classmethod
    def of(cls, given: Given) -> Self:
        """With the study's settings."""
        return cls(given.grid, given.ordered, given.strategy)

    def best(self, avoided: Avoided | None = None) -> int:
        """What beats the default by `caution`; after the guard acted once, by twice that ..."""
        return self._grid.joint_index(self._best_bins(avoided))

    def to_explore(self, avoided: Avoided | None = None) -> list[int]:
        """The least tried of what may be better than the default."""
        known, default = self.knowledge, self._grid.default_joint_index
        best = self._best_bins(avoided)
        given = [
            self._grid.bins(run.hyper_action) for run in self._jobs if run.hyper_action is not None
        ]
        times: dict[int, int] = {}
        for position, each in enumerate(known.effects):
            reach = self._on_grid.frontier(
                position, each, known.bins, 0.5 * self._strategy.caution
            ) & choice.promising(each, self._grid.default_bins[position])
            if avoided is not None:
                reach &= ~avoided.bins[position]
            for number in np.flatnonzero(reach).tolist():
                action = self._grid.joint_index((*best[:position], number, *best[position + 1 :]))
                taken = sum(bins[position] == number for bins in given)
                times[action] = min(taken, times.get(action, taken))
        times.pop(default, None)
        fewest = min(times.values(), default=0)
        return sorted(action for action, taken in times.items() if taken == fewest) or [default]

    def evidence(self) -> Evidence:
        """Expected scores over the default's, in standard units, of all joint hyper-actions."""
        known = self.knowledge
        return self._on_grid.evidence(known.effects, known.bins, known.jobs)

    def changed(self) -> None:
        """Look again at what is known: now, so that no decision has to wait for it."""
        self._knowledge = self._known()

    @property
    def knowledge(self) -> ConfigKnowledge:
        """What the jobs that ended say."""
        if self._knowledge is None:
            self._knowledge = self._known()
        return self._knowledge

    def _best_bins(self, avoided: Avoided | None) -> list[int]:
        return self._on_grid.cautious(
            self.knowledge.effects,
            self.knowledge.bins,
            self.knowledge.jobs,
            caution=self._strategy.caution * (1 + self.guard.trips),
            jobs_needed=self._strategy.jobs_needed,
            only_tried=True,
            avoided=avoided,
        )

    def _known(self) -> ConfigKnowledge:
        newest = self.scored()[-MAX_RECORDS:]
        hyperparameters = len(self._on_grid.kernels)
        bins = [self._grid.bins(run.hyper_action or 0) for _, run in newest]
        scores = np.array([run.score for _, run in newest], np.float64)
        records = Records(
            np.tile(_CONTEXT, (len(newest), 1)),
            np.array(bins, np.int64).reshape(-1, hyperparameters),
            standardised(scores, [run.task for _, run in newest]),
        )
        model = fitted(records, self._on_grid.kernels)
        return ConfigKnowledge(
            records.bins,
            np.array([job for job, _ in newest], np.int64),
            [model.effects(_CONTEXT, position) for position in range(hyperparameters)],
        )
