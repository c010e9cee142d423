"""What is kept of a job's learning curve: enough for its scores, exact, of constant size.

A return G that a report brings stands for the env steps since the report before it. So the area
under the curve is a sum, and so is the part of it that lies in the job's last tenth, because the
job's planned length is known from its start. Env steps whose return was lost, because it was no
finite number, are counted apart: what they are worth is said when the job ends (`job_account`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

LAST_PART = 10
"""The final return is the mean over the last 1/10 of the planned env steps."""

LEVELS = 16
"""Evenly spread places of a job at which its return is kept."""


@dataclass
class LearningCurve:
    """Sums over the returns G of one job; greater is better, whatever the study's direction.

    Attributes:
        planned_env_steps: the job's planned length.
        env_step: of the newest return, a lost one included.
        newest: the newest return; None before the first.
        newest_own: what the newest phase with returns brought itself, where G looks back further.
        weight: env steps that returns stand for.
        area: sum of the returns, each times the env steps that it stands for.
        last_weight: env steps among them that lie in the last tenth of the planned ones, or after.
        last_area: the part of the area there.
        least: the least return; None before the first.
        lost_weight: env steps whose return was lost.
        last_lost_weight: those of them in the last tenth, or after.
        ends_lost: whether the newest return was lost.
        levels: the return at 1/16, 2/16, ... of the planned env steps, as far as the job came.
    """

    planned_env_steps: int
    env_step: int = 0
    newest: float | None = None
    weight: int = 0
    area: float = 0.0
    last_weight: int = 0
    last_area: float = 0.0
    least: float | None = None
    lost_weight: int = 0
    last_lost_weight: int = 0
    ends_lost: bool = False
    levels: list[float] = field(default_factory=list)
    newest_own: float | None = None

    def extend(self, points: Iterable[tuple[int, float | None]]) -> None:
        """Add (env step, return G) as reports are applied; None is a return that was lost.

        A return at an env step that an earlier one has reached stands for no env steps.
        """
        for env_step, value in points:
            steps = max(0, env_step - self.env_step)
            in_last_part = max(0, env_step - max(self.env_step, self.last_part_from))
            self.env_step = max(self.env_step, env_step)
            self.ends_lost = value is None
            if value is None:
                self.lost_weight += steps
                self.last_lost_weight += in_last_part
            else:
                self.weight += steps
                self.area += steps * value
                self.last_weight += in_last_part
                self.last_area += in_last_part * value
                self.newest = value
                self.least = value if self.least is None else min(self.least, value)
            self._note_levels()

    def _note_levels(self) -> None:
        while (
            self.newest is not None
            and len(self.levels) < LEVELS
            and self.env_step * LEVELS >= (len(self.levels) + 1) * self.planned_env_steps
        ):
            self.levels.append(self.newest)

    @property
    def good_enough(self) -> float | None:
        """What a job goes on with that was stopped because it was good enough.

        Who stops it looks at what the newest phase brought. G, a mean over the last episodes, has
        not come to that yet.
        """
        known = [value for value in (self.newest, self.newest_own) if value is not None]
        return max(known, default=None)

    @property
    def last_part_from(self) -> int:
        """The env step at which the last tenth of the planned ones begins."""
        return self.planned_env_steps - self.planned_env_steps // LAST_PART

    @property
    def is_known(self) -> bool:
        """Whether any return is known, or is known to have been lost."""
        return self.newest is not None or self.ends_lost

    def mean_return(self, lost: float, missing: float | None = None) -> float | None:
        """Area under the curve over its length: the mean return, each weighed by its env steps.

        Args:
            lost: what the env steps count with whose return was lost.
            missing: what those count with that the job did not come to; None leaves them out.

        Returns:
            None while returns stand for no env steps.
        """
        left = 0 if missing is None else max(0, self.planned_env_steps - self.env_step)
        weight = self.weight + self.lost_weight + left
        if not weight:
            return None
        return (self.area + self.lost_weight * lost + left * (missing or 0.0)) / weight

    def final_return(self, lost: float, missing: float | None = None) -> float | None:
        """Mean return over the last tenth of the planned env steps, weighed alike.

        Args:
            lost: as for `mean_return`.
            missing: as for `mean_return`.

        Returns:
            The newest return where nothing is known of that part; None where there is none.
        """
        left = 0
        if missing is not None:
            begins = max(self.env_step, self.last_part_from)
            left = max(0, self.planned_env_steps - begins)
        weight = self.last_weight + self.last_lost_weight + left
        if not weight:
            return lost if self.ends_lost else self.newest
        return (self.last_area + self.last_lost_weight * lost + left * (missing or 0.0)) / weight

    def dump(self) -> dict[str, Any]:
        """The sums as JSON values, for the job's row."""
        return {name: value for name, value in vars(self).items() if name != "planned_env_steps"}

    @classmethod
    def load(cls, planned_env_steps: int, dumped: dict[str, Any]) -> Self:
        """Take `dump`'s values back.

        Raises:
            TypeError: they are none.
        """
        return cls(planned_env_steps, **dumped)

    @classmethod
    def load_first_form(cls, planned_env_steps: int, dumped: str, sign: float) -> Self:
        """Take back the six sums that rows of schema 0007 have, in the study's own direction.

        Args:
            planned_env_steps: the job's planned length.
            dumped: a JSON list.
            sign: −1 where less is better.
        """
        env_step, newest, weight, area, last_weight, last_area = json.loads(dumped)
        newest = None if newest is None else sign * newest
        return cls(planned_env_steps, env_step, newest, weight, sign * area, last_weight,
                   sign * last_area, least=newest)  # fmt: skip
