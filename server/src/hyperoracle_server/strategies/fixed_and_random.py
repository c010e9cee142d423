"""The two hyper-agents that learn nothing: always the defaults, and always chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from hyperoracle_server.strategies.base import HyperAgent
from hyperoracle_server.strategies.decisions import Decision
from hyperoracle_server.strategies.notes import NoNote

if TYPE_CHECKING:
    import numpy as np

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
