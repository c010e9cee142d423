"""How much better a job went after a decision than before it, robust to single runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float

MAD_TO_DEVIATION = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""

LIMIT = 3.0
"""Standardised advantages beyond it say "extreme", no more."""


def advantage(before: float, after: float, mean_to_end: float) -> float:
    """The rise of the return after a decision, at once and for good, each counting half.

    Args:
        before: mean return before the decision.
        after: mean return while it held.
        mean_to_end: mean return from the decision to the job's end.
    """
    return 0.5 * (after - before) + 0.5 * (mean_to_end - before)


def on_one_scale(
    values: Float[np.ndarray, " records"], tasks: Sequence[str]
) -> Float[np.ndarray, " records"]:
    """Values of several tasks on a common scale: per task its median 0 and its scaled MAD 1.

    Environments and lengths have returns of their own size, so that values of different tasks mean
    nothing beside each other as they are.

    Args:
        values: finite float64.
        tasks: of each value.

    Returns:
        Of the same shape, in the order of the values within each task; 0 for a task whose values
        are all equal.
    """
    scaled = np.zeros(len(values))
    names = np.array(tasks, object)
    for task in dict.fromkeys(tasks):
        own = names == task
        deviations = values[own] - np.median(values[own])
        scale = MAD_TO_DEVIATION * float(np.median(np.abs(deviations)))
        if scale == 0.0:
            scale = float(np.abs(deviations).mean())
        if scale > 0.0:
            with np.errstate(over="ignore"):  # as large as it gets is large enough
                scaled[own] = np.nan_to_num(deviations / scale)
    return scaled


def standardised(
    advantages: Float[np.ndarray, " records"], tasks: Sequence[str] | None = None
) -> Float[np.ndarray, " records"]:
    """Advantages of one study on a common scale: median 0, scaled MAD 1, within ±3.

    A run that got stuck or exploded moves neither the centre nor the scale, and counts as far as
    any extreme one.

    Args:
        advantages: finite float64.
        tasks: of each, where they are of several: each task has a scale of its own.

    Returns:
        Of the same shape. Where more than half of the advantages are equal, the mean absolute
        deviation takes the MAD's part; where all are, the results are 0.
    """
    if tasks is None:
        tasks = [""] * len(advantages)
    limited: Float[np.ndarray, " records"] = np.clip(on_one_scale(advantages, tasks), -LIMIT, LIMIT)
    return limited
