"""What is known around a key, for hyper-actions that no neighbour took."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperoracle_server.kernel import weighted_values
from hyperoracle_server.memory.entry_table import EntryTable

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
    present = squared != np.inf
    slots, squared = slots[present], squared[present]
    near = _at_first_keys(table, slots, squared, count)
    if not len(near):
        return 0.0
    means, _ = weighted_values(squared[near, None], table.values[slots[near], None])
    return float(means[0])


def _at_first_keys(
    table: EntryTable, slots: Int[np.ndarray, " n"], squared: Float[np.ndarray, " n"], count: int
) -> Int[np.ndarray, " near"]:
    """Which of these entries are at their ``count`` nearest distinct keys, nearest first."""
    looked_at = 4 * count
    while True:
        near = np.arange(len(slots))
        if looked_at < len(slots):
            near = np.argpartition(squared, looked_at)[: looked_at + 1]
        near = near[np.lexsort((table.ids[slots[near]], squared[near]))]
        keys = [key.tobytes() for key in table.store.keys[slots[near]]]
        first_keys = set(list(dict.fromkeys(keys))[:count])
        chosen = near[[key in first_keys for key in keys]]
        # Entries at the last key are all seen once something lies clearly beyond it.
        if len(near) == len(slots) or squared[near[-1]] > squared[chosen[-1]] * 1.0001:
            return chosen
        looked_at *= 4
