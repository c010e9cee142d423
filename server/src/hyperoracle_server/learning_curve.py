"""What is kept of a job's learning curve: enough for its two scores, exact, of constant size.

A return G that a report brings stands for the env steps since the report before it. So the area
under the curve is a sum, and so is the part of it that lies in the job's last tenth, because the
job's planned length is known from its start.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

LAST_PART = 10
"""The final return is the mean over the last 1/10 of the planned env steps."""

LARGEST = 1e150
"""A score beyond it counts as unknown: means and differences of greater ones may be no numbers."""


@dataclass
class LearningCurve:
    """Sums over the returns G of one job, in the study's own unit and direction.

    Attributes:
        planned_env_steps: the job's planned length.
        env_step: of the newest return.
        newest: the newest return; None before the first.
        weight: env steps that returns stand for.
        area: sum of the returns, each times the env steps that it stands for.
        last_weight: env steps among them that lie in the last tenth of the planned ones, or after.
        last_area: the part of the area there.
    """

    planned_env_steps: int
    env_step: int = 0
    newest: float | None = None
    weight: int = 0
    area: float = 0.0
    last_weight: int = 0
    last_area: float = 0.0

    def extend(self, points: Iterable[tuple[int, float]]) -> None:
        """Add (env step, return G) as reports are applied.

        A return at an env step that an earlier one has reached stands for no env steps.
        """
        last_part_from = self.planned_env_steps - self.planned_env_steps // LAST_PART
        for env_step, value in points:
            steps = max(0, env_step - self.env_step)
            in_last_part = max(0, env_step - max(self.env_step, last_part_from))
            self.weight += steps
            self.area += steps * value
            self.last_weight += in_last_part
            self.last_area += in_last_part * value
            self.env_step = max(self.env_step, env_step)
            self.newest = value

    @property
    def mean_return(self) -> float | None:
        """Area under the curve over its length: the mean return, each weighed by its env steps.

        None while returns stand for no env steps.
        """
        return _known(self.area / self.weight) if self.weight else None

    @property
    def final_return(self) -> float | None:
        """Mean return over the last tenth of the planned env steps, weighed alike.

        The newest return where the curve ends before that part; None before the first.
        """
        if self.last_weight:
            return _known(self.last_area / self.last_weight)
        return None if self.newest is None else _known(self.newest)

    def dump(self) -> str:
        """The sums as JSON, for the job's row."""
        return json.dumps([self.env_step, self.newest, self.weight, self.area, self.last_weight,
                           self.last_area])  # fmt: skip

    @classmethod
    def load(cls, planned_env_steps: int, dumped: str) -> Self:
        """Take `dump`'s JSON back."""
        return cls(planned_env_steps, *json.loads(dumped))


def _known(score: float) -> float | None:
    return score if abs(score) <= LARGEST else None
