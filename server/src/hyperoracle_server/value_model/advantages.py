"""How much better a job went after a decision than before it, robust to single runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
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


def standardised(advantages: Float[np.ndarray, " records"]) -> Float[np.ndarray, " records"]:
    """Advantages of one study on a common scale: median 0, scaled MAD 1, within ±3.

    A run that got stuck or exploded moves neither the centre nor the scale, and counts as far as
    any extreme one.

    Args:
        advantages: finite float64.

    Returns:
        Of the same shape. Where more than half of the advantages are equal, the mean absolute
        deviation takes the MAD's part; where all are, the results are 0.
    """
    if not len(advantages):
        return np.zeros(0)
    deviations = advantages - np.median(advantages)
    scale = MAD_TO_DEVIATION * float(np.median(np.abs(deviations)))
    if scale == 0.0:
        scale = float(np.abs(deviations).mean())
    if scale == 0.0:
        return np.zeros_like(deviations)
    with np.errstate(over="ignore"):  # an infinite one is extreme, no more
        limited: Float[np.ndarray, " records"] = np.clip(deviations / scale, -LIMIT, LIMIT)
    return limited
