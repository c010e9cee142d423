"""The distinct keys of a memory and the entries at each.

The ``shared`` reading searches them; what is known at the nearest of them stands for hyper-actions
that no neighbour took.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from hyperoracle_server.keyed.memory.base import KeyStore
from hyperoracle_server.keyed.memory.entry_table import EntryTable
from hyperoracle_server.keyed.memory.hnsw import HnswSettings
from hyperoracle_server.keyed.memory.switching import SwitchingSearch
from hyperoracle_server.strategies.evidence.kernel import weighted_values

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class DistinctKeys:
    """Every key once, whatever was done there, searched as one group.

    Equally near keys are ordered by the id of the earliest entry still stored there.

    Args:
        entries: the store of the memory's entries.
        index: as in ``SwitchingSearch``.
        settings: of HNSW graphs.
    """

    def __init__(
        self, entries: KeyStore, index: Literal["auto", "exact", "hnsw"], settings: HnswSettings
    ) -> None:
        self._entries = entries
        self._store = KeyStore(entries.capacity, entries.key_size, len(entries.keys64))
        self.search = SwitchingSearch(self._store, 1, index, settings)
        self._place: dict[bytes, int] = {}
        self._entry_slots: dict[int, list[int]] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._place)

    def add(self, entry_slot: int) -> None:
        """Takes in an entry that was just stored."""
        if self._note(entry_slot):
            place = self._place[self._entries.keys[entry_slot].tobytes()]
            key, rank = self._entries.keys[entry_slot], int(self._entries.ranks[entry_slot])
            self._store.put_one(place, key, 0, rank)
            self.search.add(place)

    def add_many(self, entry_slots: Int[np.ndarray, " n"]) -> None:
        """Takes in many entries, the earliest first."""
        firsts = np.array([slot for slot in entry_slots.tolist() if self._note(slot)], np.int64)
        keys = self._entries.keys[firsts]
        places = np.array([self._place[key.tobytes()] for key in keys], np.int64)
        ranks = self._entries.ranks[firsts]
        self._store.put(places, keys, np.zeros_like(places), ranks)
        self.search.add_many(places)

    def remove(self, entry_slot: int) -> None:
        """Lets go of an entry that is about to be evicted."""
        key = self._entries.keys[entry_slot].tobytes()
        place = self._place[key]
        at_key = self._entry_slots[place]
        at_key.remove(entry_slot)
        if at_key:
            self._store.ranks[place] = self._entries.ranks[at_key[0]]
            return
        self.search.remove(place)
        self._store.drop(place)
        del self._place[key], self._entry_slots[place]
        self._free.append(place)

    def nearest(
        self, query: Float[np.ndarray, " key_size"], count: int, n_actions: int
    ) -> tuple[Int[np.ndarray, "count actions"], Float[np.ndarray, "count actions"]]:
        """The entries at the nearest distinct keys, each under its hyper-action.

        Args:
            query: float64.
            count: how many distinct keys.
            n_actions: the number of joint hyper-actions.

        Returns:
            Slots of entries, int64, nearest first, then padding with the store's capacity; and
            squared distances, float64, then infinity. Of equal pairs the last added is taken.
        """
        slots = np.full((count, n_actions), self._entries.capacity, np.int64)
        squared = np.full((count, n_actions), np.inf)
        places, distances = self.search.nearest(query, count)
        for row, place in enumerate(places[:, 0].tolist()):
            at_key = self._entry_slots.get(place, [])
            actions = self._entries.groups[at_key]
            slots[row, actions] = at_key
            squared[row, actions] = distances[row, 0]
        order = np.argsort(squared, axis=0, kind="stable")
        return np.take_along_axis(slots, order, 0), np.take_along_axis(squared, order, 0)

    def _note(self, entry_slot: int) -> bool:
        """Books an entry under its key; returns whether the key is new."""
        key = self._entries.keys[entry_slot].tobytes()
        place = self._place.get(key)
        if place is not None:
            self._entry_slots[place].append(entry_slot)
            return False
        place = self._free.pop() if self._free else len(self._place)
        self._place[key] = place
        self._entry_slots[place] = [entry_slot]
        return True


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
