"""What is drawn over env steps: named numbers, one point for one or more phases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hyperoracle_trainers.phase import Phase

_POINTS_PER_RUN = 1000  # more than a screen has columns, and what TensorBoard keeps of a curve


@dataclass(frozen=True)
class ScalarPoint:
    """Numbers at one moment of a run.

    Attributes:
        env_step: the x axis.
        scalars: by name, see :func:`scalars_of`.
    """

    env_step: int
    scalars: Mapping[str, float]


def scalars_of(phases: Sequence[Phase]) -> dict[str, float]:
    """Return the scalars of consecutive phases.

    Args:
        phases: at least one.

    Returns:
        - ``returns/episode`` and ``returns/episode_length``: means over the episodes that ended,
          absent if none did; ``returns/phase``: mean discounted return of a phase;
        - ``hyperparameters/NAME``: what the last update used;
        - ``losses/NAME``: each of the phases' metrics, mean over the phases;
        - ``time/collect_seconds``, ``time/update_seconds``, ``time/source_seconds``: wall time,
          summed over the phases.
    """
    scalars = {"returns/phase": fmean(phase.phase_return for phase in phases)}
    returns = [each for phase in phases for each in phase.episode_returns]
    if returns:
        lengths = [each for phase in phases for each in phase.episode_lengths]
        scalars["returns/episode"] = fmean(returns)
        scalars["returns/episode_length"] = fmean(lengths)
    for name, value in phases[-1].hyperparameters.items():
        scalars[f"hyperparameters/{name}"] = value
    for name in phases[-1].metrics:
        scalars[f"losses/{name}"] = fmean(phase.metrics[name] for phase in phases)
    for name in ("collect_seconds", "update_seconds", "source_seconds"):
        scalars[f"time/{name}"] = sum(getattr(phase, name) for phase in phases)
    return scalars


def summary_scalars(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a run's summary as ``summary/NAME``."""
    return {
        f"summary/{name}": float(value)
        for name, value in summary.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


class ScalarSeries:
    """Turns a run's phases into about a thousand points.

    PPO's phases are thousands of env steps long and give a point each. A2C's are so short that
    writing down each would take longer than training; several of them give a point together.

    Args:
        total_env_steps: of the run.
        env_step: env steps taken before the first phase, by an earlier process.
    """

    def __init__(self, total_env_steps: int, env_step: int = 0) -> None:
        self._env_steps_per_point = total_env_steps / _POINTS_PER_RUN
        self._waiting: list[Phase] = []
        self._drawn_until = env_step

    def add(self, phase: Phase) -> Iterable[ScalarPoint]:
        """Take a phase in and return the point that it completes, or nothing."""
        self._waiting.append(phase)
        if phase.env_step - self._drawn_until < self._env_steps_per_point:
            return ()
        return self.rest()

    def rest(self) -> Iterable[ScalarPoint]:
        """Return the point of the phases that none was made of yet, or nothing."""
        if not self._waiting:
            return ()
        phases, self._waiting = self._waiting, []
        env_steps = phases[-1].env_step - self._drawn_until
        self._drawn_until = phases[-1].env_step
        scalars = scalars_of(phases)
        seconds = sum(scalars[f"time/{part}_seconds"] for part in ("collect", "update", "source"))
        scalars["time/env_steps_per_second"] = env_steps / seconds
        return (ScalarPoint(self._drawn_until, scalars),)
