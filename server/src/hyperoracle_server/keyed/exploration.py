"""Epsilon: its schedule, and the ε-greedy choice with its propensity. Pure NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


class EpsilonGreedyChoice(NamedTuple):
    """A hyper-action chosen ε-greedily.

    Attributes:
        action: the joint hyper-action.
        explored: whether it was drawn uniformly from all (it may still be a greedy one).
        propensity: the exact probability, in (0, 1], with which this action would have been
            chosen from these q-values at this epsilon, by either way.
    """

    action: int
    explored: bool
    propensity: float


def epsilon_at(
    progress: float, start: float = 1.0, end: float = 0.01, fraction: float = 0.5
) -> float:
    """Epsilon on its linear way from ``start`` to ``end``.

    Args:
        progress: the share of training done; below 0 counts as 0.
        start: epsilon at progress 0, in [0, 1].
        end: epsilon from progress ``fraction`` on, in [0, 1].
        fraction: the share of training over which epsilon moves, in [0, 1]; 0 means at once.

    Returns:
        Epsilon, between ``start`` and ``end``.

    Raises:
        ValueError: an argument is outside its range or not a number.

    Source: Le et al., Episodic Policy Gradient Training, AAAI 2022, Algorithm 1 (ε-greedy).
    """
    for name, value in (("start", start), ("end", end), ("fraction", fraction)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"expected {name} between 0 and 1, got {value}")
    if np.isnan(progress):
        raise ValueError("expected a number as progress, got nan")
    if progress >= fraction:
        return end
    moved = max(progress, 0.0) / fraction
    return (1.0 - moved) * start + moved * end


def epsilon_greedy(
    q_values: Float[np.ndarray, " actions"], epsilon: float, rng: np.random.Generator
) -> EpsilonGreedyChoice:
    """With probability ε any action, else one of the best, ties broken uniformly at random.

    Args:
        q_values: one finite value per action, at least one.
        epsilon: exploration rate in [0, 1].
        rng: the source of randomness.

    Returns:
        The choice, with its exact propensity: ε / A, plus (1 − ε) / T for one of the T best.

    Raises:
        ValueError: no action, a value that is not finite, or epsilon outside [0, 1].

    Source: Le et al., Episodic Policy Gradient Training, AAAI 2022, Algorithm 1.
    """
    n_actions = len(q_values)
    if q_values.ndim != 1 or n_actions == 0:
        raise ValueError(f"expected one q-value per action, got shape {q_values.shape}")
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"expected epsilon between 0 and 1, got {epsilon}")
    if not np.isfinite(q_values).all():
        raise ValueError("expected finite q-values, got NaN or infinity")
    best = np.flatnonzero(q_values == q_values.max())
    explored = bool(rng.random() < epsilon)
    if explored:
        action = int(rng.integers(n_actions))
        is_best = bool(q_values[action] == q_values[best[0]])
    else:
        action = int(best[rng.integers(len(best))])
        is_best = True
    propensity = epsilon / n_actions + (1.0 - epsilon) / len(best) * is_best
    return EpsilonGreedyChoice(action, explored, propensity)
