"""How well an approximate search finds: by region of a memory, not on the average of all.

A graph can find everything where most keys are and next to nothing where few are, or where they lie
far apart; a mean over all queries hides that. So queries are put into regions, by the age of the
keys that they stand for and by their distance from the middle, and the worst region counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

REGIONS = 8
"""Into so many regions queries are put by age, and again by distance from the middle."""


def least_recall(
    found: Float[np.ndarray, " queries"], queries: Float[np.ndarray, "queries key_size"]
) -> float:
    """The mean share of neighbours found in the worst region; 1 where there are no queries.

    Args:
        found: of each query the share of its true neighbours that was found.
        queries: in the order of the ages of the keys that they stand for.
    """
    if not len(found):
        return 1.0
    # Squares of great numbers overflow float32; the median is not drawn out by a few far keys.
    from_middle = queries.astype(np.float64) - np.median(queries, axis=0)
    by_distance = np.argsort(np.einsum("ij,ij->i", from_middle, from_middle), kind="stable")
    parts = min(REGIONS, len(found))
    regions = (
        *np.array_split(found, parts),
        *np.array_split(found[by_distance], parts),
    )
    return min(float(region.mean()) for region in regions)


def evenly_spaced(count: int, wanted: int) -> Bool[np.ndarray, " count"]:
    """A mask of so many places of a sequence, from its beginning on."""
    chosen = np.zeros(count, np.bool_)
    chosen[np.linspace(0, count - 1, min(count, wanted)).astype(np.int64)] = True
    return chosen
