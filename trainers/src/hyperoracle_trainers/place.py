"""Where a run is between two phases."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from hyperoracle_trainers.phase import Phase
from hyperoracle_trainers.saved_state import State


@dataclass(frozen=True)
class Place:
    """How far a run has come, and what its next phase takes over from the last one.

    Attributes:
        phases: phases that are over.
        env_step: env steps taken.
        update_step: optimiser updates made.
        metrics: of the last phase; the source is told them as signals. Empty at the start.
        chosen: hyperparameters that were chosen last; None at the start.
    """

    phases: int = 0
    env_step: int = 0
    update_step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    chosen: Mapping[str, float] | None = None

    @classmethod
    def after(cls, phase: Phase) -> Place:
        """Return the place where ``phase`` is over."""
        return cls(
            phase.index + 1,
            phase.env_step,
            phase.update_step,
            phase.metrics,
            phase.decisions[-1].values,
        )

    @property
    def counts(self) -> tuple[int, int, int]:
        """``phases``, ``env_step`` and ``update_step``."""
        return self.phases, self.env_step, self.update_step

    def state(self) -> State:
        """Return what the place is made from again: ``Place(**state)``."""
        return dataclasses.asdict(self)
