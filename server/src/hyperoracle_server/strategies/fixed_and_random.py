"""The two hyper-agents without a memory: always the defaults, and always chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperoracle_protocol.hyper_state import HyperStateLayout, TensorShape
from hyperoracle_server.strategies.base import Decision, MemoryEffect, Moment, Outcome
from hyperoracle_server.strategies.notes import WithoutNotes

if TYPE_CHECKING:
    import numpy as np

    from hyperoracle_server.strategies.grid import HyperActionGrid


class FixedAgent(WithoutNotes):
    """Always the default hyper-action."""

    def __init__(self, grid: HyperActionGrid) -> None:
        self._grid = grid

    def layout_for(self, tensors: list[TensorShape], seed: int) -> HyperStateLayout:
        """No hyper-state is needed."""
        del tensors, seed
        return HyperStateLayout(kind="none")

    def decide(self, moment: Moment, rng: np.random.Generator) -> Decision:
        """The default hyper-action, with certainty."""
        del moment, rng
        return Decision(self._grid.default_joint_index)

    def learn(self, outcome: Outcome) -> MemoryEffect | None:
        """Nothing is remembered."""
        del outcome
        return None


class RandomAgent(FixedAgent):
    """A uniformly random hyper-action at every decision (RND); a control job gets the default."""

    def decide(self, moment: Moment, rng: np.random.Generator) -> Decision:
        """Any hyper-action with the same probability."""
        if moment.role == "control":
            return super().decide(moment, rng)
        action = int(rng.integers(self._grid.joint_count))
        return Decision(action, explored=True, epsilon=1.0, propensity=1.0 / self._grid.joint_count)
