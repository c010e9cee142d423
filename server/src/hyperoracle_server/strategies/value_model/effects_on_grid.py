"""From the effects of single bins to joint hyper-actions, and what there is to show of them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from hyperoracle_server.strategies.decisions import Evidence
from hyperoracle_server.strategies.value_model import choice
from hyperoracle_server.strategies.value_model.gaussian_process import bin_kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Int

    from hyperoracle_server.strategies.evidence.exposure import Avoided
    from hyperoracle_server.strategies.grid import HyperActionGrid
    from hyperoracle_server.strategies.value_model.gaussian_process import Effects


class EffectsOnGrid:
    """The grid as an additive value model sees it: each hyperparameter by itself.

    Args:
        grid: the joint hyper-actions.
        ordered: per hyperparameter whether its bins have an order.

    Attributes:
        kernels: per hyperparameter how alike the effects of its bins are.
    """

    def __init__(self, grid: HyperActionGrid, ordered: Sequence[bool]) -> None:
        self._grid = grid
        self._ordered = tuple(ordered)
        self.kernels = [
            bin_kernel(count, default, ordered=order)
            for count, default, order in zip(
                grid.bins_per_hyperparameter, grid.default_bins, ordered, strict=True
            )
        ]

    def frontier(
        self, position: int, effects: Effects, bins: Int[np.ndarray, "records _"], caution: float
    ) -> Bool[np.ndarray, " bins"]:
        """The bins of one hyperparameter that may be tried, see `choice.frontier`.

        Args:
            position: of the hyperparameter.
            effects: of its bins.
            bins: what each record's decision took.
            caution: standard deviations.
        """
        tried = np.isin(np.arange(len(effects.means)), bins[:, position])
        default, ordered = self._grid.default_bins[position], self._ordered[position]
        return choice.frontier(effects, default, tried, ordered=ordered, caution=caution)

    def cautious(
        self,
        effects: Sequence[Effects],
        bins: Int[np.ndarray, "records hyperparameters"],
        jobs: Int[np.ndarray, " records"],
        *,
        caution: float,
        jobs_needed: int,
        only_tried: bool,
        avoided: Avoided | None = None,
    ) -> list[int]:
        """Per hyperparameter the bin to exploit.

        Args:
            effects: per hyperparameter.
            bins: what each record's decision took.
            jobs: the number of the job whose decision each is.
            caution: standard deviations that an effect must be above 0.
            jobs_needed: distinct jobs that must have left the default in that direction.
            only_tried: whether a bin that is only foreseen to be good is left to exploration.
            avoided: bins that are kept off.
        """
        chosen = []
        for position, (each, default) in enumerate(
            zip(effects, self._grid.default_bins, strict=True)
        ):
            supporters = choice.jobs_in_direction(
                bins[:, position], jobs, default, len(each.means), ordered=self._ordered[position]
            )
            allowed = self.frontier(position, each, bins, 0.0) & (supporters >= jobs_needed)
            if only_tried:
                allowed &= np.isin(np.arange(len(each.means)), bins[:, position])
            if avoided is not None:
                allowed &= ~avoided.bins[position]
            chosen.append(choice.cautious_bin(each, default, allowed, caution))
        return chosen

    @staticmethod
    def evidence(
        effects: Sequence[Effects],
        bins: Int[np.ndarray, "records hyperparameters"],
        jobs: Int[np.ndarray, " records"],
    ) -> Evidence:
        """Expected advantages over the default, in standard units, of all joint hyper-actions."""
        means = functools.reduce(np.add.outer, [each.means for each in effects]).reshape(-1)
        known = functools.reduce(
            np.logical_or.outer,
            [
                np.isin(np.arange(len(each.means)), bins[:, position])
                for position, each in enumerate(effects)
            ],
        ).reshape(-1)
        nothing = np.zeros(0)
        return Evidence(means, known, np.zeros(0, np.int64), nothing, nothing, jobs)
