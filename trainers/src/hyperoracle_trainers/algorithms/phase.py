"""One environment phase and the update phase that follows it, and where a run is between two."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hyperoracle_trainers.algorithms.decisions import ChosenHyperparameters
from hyperoracle_trainers.hyperparameters.settings import TrainerSettings
from hyperoracle_trainers.saved_state import State


@dataclass(frozen=True)
class Phase:
    """What happened in one phase; trainers yield one after each.

    Attributes:
        index: phases before this one.
        env_step: env steps taken so far, over all environments.
        update_step: optimiser updates made so far.
        episode_returns: raw undiscounted returns of the episodes that ended in this phase.
        episode_lengths: their lengths in env steps.
        phase_return: raw reward sum per environment, discounted by the base gamma.
        hyperparameters: what the update used (at its last minibatch).
        decisions: every choice of hyperparameters made in this phase.
        metrics: means over the update's minibatches: ``policy_loss``, ``value_loss`` (mean squared
            error), ``entropy`` (nats), ``grad_norm`` (before clipping); of PPO also ``approx_kl``
            (nats) and ``clip_fraction`` (of 1); and ``explained_variance`` (at most 1), the share
            of the returns' variance that the critic foresaw before the update.
        collect_seconds: wall time of the environment phase.
        update_seconds: wall time of the update phase, without the source's.
        source_seconds: wall time spent in the hyperparameter source.
    """

    index: int
    env_step: int
    update_step: int
    episode_returns: Sequence[float]
    episode_lengths: Sequence[int]
    phase_return: float
    hyperparameters: Mapping[str, float]
    decisions: Sequence[ChosenHyperparameters]
    metrics: Mapping[str, float]
    collect_seconds: float
    update_seconds: float
    source_seconds: float


def explained_variance(
    returns: npt.NDArray[np.float32], advantages: npt.NDArray[np.float32]
) -> float:
    """Return 1 − Var(returns − values) / Var(returns), where returns − values = advantages.

    Returns:
        At most 1; 0 where the returns do not vary.
    """
    # In double precision, and silently: a value that diverged is reported by the caller.
    with np.errstate(over="ignore", invalid="ignore"):
        variance = float(returns.var(dtype=np.float64))
        unforeseen = float(advantages.var(dtype=np.float64))
    return 1.0 - unforeseen / variance if variance > 0 else 0.0


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


logger = logging.getLogger("hyperoracle_trainers")

EPISODE_ENV_STEPS = 30_000
"""Env steps after which an episode is taken for one that does not end.

The longest that are usual, of Atari games, have 27,000 (108,000 frames, 4 a step).
"""


class EpisodeWatch:
    """Looks for how long no episode has ended.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: TrainerSettings) -> None:
        self._settings = settings
        self._last_end: int | None = None
        self._began: int | None = None
        self._said = False

    def look(self, phase: Phase) -> None:
        """Take note of a phase, and say it if no episode has ended for long or in the whole run."""
        steps = phase.env_step
        if self._began is None:
            self._began = steps
        if phase.episode_returns:
            self._last_end = steps
            return
        settings = self._settings
        waited = steps - (self._began if self._last_end is None else self._last_end)
        is_long = waited >= EPISODE_ENV_STEPS * settings.number_of_envs
        never = self._last_end is None and steps >= settings.total_env_steps
        if self._said or not (is_long or never):
            return
        self._said = True
        since = "" if self._last_end is None else f" since env step {self._last_end:,}"
        logger.warning(
            "%s: no episode has ended%s, at env step %s: there is no return to judge training "
            "by%s. Register the environment with max_episode_steps, or end its episodes.",
            settings.env_id,
            since or " yet",
            f"{steps:,}",
            " but old ones" if since else "",
        )
