"""What is known around a key, for hyper-actions that no neighbour took."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperoracle_server.keyed.memory.entry_table import EntryTable
from hyperoracle_server.strategies.evidence.kernel import weighted_values

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def mean_at_nearest_keys(
    table: EntryTable,
    slots: Int[np.ndarray, "neighbours actions"],
    squared: Float[np.ndarray, "neighbours actions"],
    count: int,
) -> float:
    """The kernel-weighted mean over all entries at the nearest distinct keys.

    Each such entry is among the ``count`` nearest of its hyper-action, since a nearer one of the
    same hyper-action has another key: no further search is needed.

    Args:
        table: of the entries.
        slots: of the neighbours of each hyper-action, at least its ``count`` nearest.
        squared: their squared distances, float64; infinity is padding.
        count: how many distinct keys.

    Returns:
        The mean, between the least and the greatest of the values; 0 if there is none.
    """
    near = _at_first_keys(table, slots.ravel(), squared.ravel(), count)
    if not len(near):
        return 0.0
    means, _ = weighted_values(squared.ravel()[near, None], table.values[slots.ravel()[near], None])
    return float(means[0])


def _at_first_keys(
    table: EntryTable, slots: Int[np.ndarray, " n"], squared: Float[np.ndarray, " n"], count: int
) -> Int[np.ndarray, " near"]:
    """Which of these entries are at their ``count`` nearest distinct keys, nearest first."""
    looked_at = 4 * count
    while True:
        bound = np.inf
        if looked_at < len(slots):
            bound = np.partition(squared, looked_at)[looked_at]
        near = np.flatnonzero(squared <= bound if bound < np.inf else squared < np.inf)
        near = near[np.lexsort((table.ids[slots[near]], squared[near]))]
        keys = [key.tobytes() for key in table.store.keys[slots[near]]]
        first_keys = set(list(dict.fromkeys(keys))[:count])
        chosen = near[[key in first_keys for key in keys]]
        # Entries at the last key are all seen once something lies clearly beyond it.
        if bound == np.inf or bound > squared[chosen[-1]] * 1.0001:
            return chosen
        looked_at *= 4
