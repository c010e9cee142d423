"""Where a memory's entries lie: a ring of slots, the earliest added leaving first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hyperoracle_server.keyed.memory.base import KeyStore
from hyperoracle_server.strategies.decisions import Entries

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_CHUNK = 4_096
"""Filling hands the interpreter to other threads after so many entries."""


class EntryTable:
    """Entries in slots. Trusts its caller: what it is given has been checked.

    Args:
        capacity: the most entries held.
        key_size: components of a key.
        precise_rows: see ``KeyStore``.

    Attributes:
        store: keys, hyper-actions (as groups) and ids (as ranks).
        ids: int64 [capacity + 1]; −1 in the last place, the slot that means "none".
        values: float64 [capacity + 1]; 0 in the last place.
    """

    def __init__(self, capacity: int, key_size: int, precise_rows: int) -> None:
        self.store = KeyStore(capacity, key_size, precise_rows)
        self.ids = np.full(capacity + 1, -1, np.int64)
        self.values = np.zeros(capacity + 1)
        self._slot_of_pair: dict[tuple[int, bytes], int] = {}
        self._added = 0

    @property
    def size(self) -> int:
        """How many entries are held."""
        return self.store.size

    @property
    def newest_id(self) -> int:
        """The id of the entry added last, −1 if there is none."""
        return int(self.ids[(self._added - 1) % self.store.capacity]) if self.size else -1

    @property
    def earliest_slot(self) -> int:
        """The slot of the entry added first; there must be one."""
        return (self._added - self.size) % self.store.capacity

    def slots_in_order(self) -> Int[np.ndarray, " entries"]:
        """All slots in use, the earliest added first."""
        return np.arange(self._added - self.size, self._added) % self.store.capacity

    def find(self, key: Float[np.ndarray, " key_size"], action: int) -> int | None:
        """The slot of exactly this pair (of equal ones the last added), or None."""
        return self._slot_of_pair.get((action, key.tobytes()))

    def insert(
        self, key: Float[np.ndarray, " key_size"], action: int, value: float, entry_id: int
    ) -> int:
        """Adds an entry where there is room for one; returns its slot."""
        slot = self._added % self.store.capacity
        self.store.put_one(slot, key, action, entry_id)
        self.ids[slot] = entry_id
        self.values[slot] = value
        self._slot_of_pair[action, key.tobytes()] = slot
        self._added += 1
        return slot

    def drop_earliest(self) -> None:
        """Forgets the entry added first."""
        slot = self.earliest_slot
        pair = (int(self.store.groups[slot]), self.store.keys[slot].tobytes())
        if self._slot_of_pair[pair] == slot:
            del self._slot_of_pair[pair]
        self.store.drop(slot)

    def fill(self, entries: Entries) -> Int[np.ndarray, " entries"]:
        """Adds entries that fit, to an empty table; returns their slots."""
        slots = np.arange(len(entries))
        self.store.put(slots, entries.keys, entries.actions, entries.ids)
        self.ids[slots] = entries.ids
        self.values[slots] = entries.values
        as_bytes = np.dtype((np.void, entries.keys.itemsize * self.store.key_size))
        for start in range(0, len(entries), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            keys: list[Any] = entries.keys[chunk].view(as_bytes).ravel().tolist()
            pairs = zip(entries.actions[chunk].tolist(), keys, strict=True)
            self._slot_of_pair.update(zip(pairs, slots[chunk].tolist(), strict=True))
        self._added = len(entries)
        return slots

    def copied(self, slots: Int[np.ndarray, " n"]) -> Entries:
        """Copies of the entries in these slots."""
        store = self.store
        return Entries(self.ids[slots], store.keys[slots], store.groups[slots], self.values[slots])

    def slots_after(self, entry_id: int) -> Int[np.ndarray, " n"]:
        """The slots of entries with a greater id, the earliest added first."""
        slots = self.slots_in_order()
        return slots[np.searchsorted(self.ids[slots], entry_id, "right") :]

    def slots_of(self, ids: npt.NDArray[np.int64]) -> Int[np.ndarray, " n"]:
        """The slots of the entries with these ids, in the order given, without those absent."""
        slots = self.slots_in_order()
        if not len(slots):
            return slots
        place = np.searchsorted(self.ids[slots], ids).clip(max=len(slots) - 1)
        found = slots[place]
        stored: Int[np.ndarray, " n"] = found[self.ids[found] == ids]
        return stored
