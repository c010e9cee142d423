"""The record of one environment phase and the update phase that follows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyperoracle_trainers.apply_hyperparameters import Decision


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
    decisions: Sequence[Decision]
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
