"""What every part of the memory shares: settings, results, the key store, the search interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """How a memory reads, writes and searches.

    Attributes:
        capacity: the most (key, hyper-action, value) triples kept; the earliest added goes first.
        neighbours_read: K of Eq. 3.
        neighbours_write: K_w of Eq. 4.
        write_rate: β of Eq. 4, in (0, 1].
        write_rule: ``average`` is Eq. 4; ``max`` keeps the best hyper-return of a pair.
        reading: which neighbours Eq. 3 sums over: for each hyper-action the K nearest keys where
            it was taken (``per-action``), or the K nearest keys whatever was done (``shared``).
        unknown: what a hyper-action without a neighbour is worth: ``kernel-mean``, the weighted
            mean of what the K nearest keys do know, or ``zero``, as in the authors' code.
        index: ``exact``, ``hnsw``, or ``auto``: exact below a measured size, HNSW above.

    Raises:
        ValueError: a setting is outside its range.

    Source: Le et al., Episodic Policy Gradient Training, AAAI 2022, Eq. 3 and 4.
    """

    capacity: int = 10_000
    neighbours_read: int = 5
    neighbours_write: int = 3
    write_rate: float = 0.5
    write_rule: Literal["average", "max"] = "average"
    reading: Literal["per-action", "shared"] = "per-action"
    unknown: Literal["kernel-mean", "zero"] = "kernel-mean"
    index: Literal["auto", "exact", "hnsw"] = "auto"

    def __post_init__(self) -> None:
        for name in ("capacity", "neighbours_read", "neighbours_write"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} of at least 1, got {getattr(self, name)}")
        if self.capacity >= 2**31:
            raise ValueError(f"expected a capacity below 2**31, got {self.capacity}")
        if not 0.0 < self.write_rate <= 1.0:
            raise ValueError(f"expected write_rate in (0, 1], got {self.write_rate}")
        for name, allowed in (
            ("write_rule", ("average", "max")),
            ("reading", ("per-action", "shared")),
            ("unknown", ("kernel-mean", "zero")),
            ("index", ("auto", "exact", "hnsw")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"expected {name} in {allowed}, got {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a memory answers for one key, with the neighbours that it answers from.

    Attributes:
        q_values: Q(s, a) for every joint hyper-action, float64 [actions], each between the least
            and the greatest stored value of its neighbours.
        known: whether a neighbour took the hyper-action, bool [actions].
        ids: neighbours' entry ids, int64 [actions, neighbours], nearest first, equally near ones
            by lower id; −1 is padding, after the neighbours.
        squared_distances: float64 [actions, neighbours]; infinity is padding.
        values: the neighbours' stored values at the time of the read, float64
            [actions, neighbours]; 0 is padding.
    """

    q_values: Float[np.ndarray, " actions"]
    known: Bool[np.ndarray, " actions"]
    ids: Int[np.ndarray, "actions neighbours"]
    squared_distances: Float[np.ndarray, "actions neighbours"]
    values: Float[np.ndarray, "actions neighbours"]


@dataclass(frozen=True, slots=True)
class WriteEffect:
    """What a write changed, so that a store can be brought to the same state.

    Attributes:
        updated_ids: entries whose value changed, int64; may hold one that is then evicted.
        updated_values: their new values, float64.
        inserted: False when exactly this (key, action) was stored already.
        evicted_ids: entries that went to keep within capacity, int64.
    """

    updated_ids: Int[np.ndarray, " updated"]
    updated_values: Float[np.ndarray, " updated"]
    inserted: bool
    evicted_ids: Int[np.ndarray, " evicted"]


class KeyStore:
    """Keys in slots 0 ... capacity − 1, each in one group and with one rank.

    A group is what is searched on its own (the entries of one hyper-action). The rank (an entry
    id) decides between equally near keys. ``capacity`` itself is the slot of padding.

    Attributes:
        keys: float32 [capacity, key_size], row-contiguous.
        keys64: the same in float64, for the first ``precise_rows`` slots.
        norms: squared norms, float64 [capacity]; ``norms32`` the same in float32.
        groups: int64 [capacity].
        ranks: int64 [capacity + 1].
        labels: int64 [capacity], a greater one each time a slot is filled: a counter in the upper
            32 bits, the slot in the lower; −1 in an empty slot.
        rows: slots at or above this one were never filled.
        size: how many slots are filled.
    """

    def __init__(self, capacity: int, key_size: int, precise_rows: int) -> None:
        self.capacity = capacity
        self.key_size = key_size
        # Untouched pages cost nothing: a large capacity takes memory only as it fills.
        self.keys = np.zeros((capacity, key_size), np.float32)
        self.keys64 = np.zeros((min(capacity, precise_rows), key_size), np.float64)
        self.norms = np.zeros(capacity, np.float64)
        self.norms32 = np.zeros(capacity, np.float32)
        self.groups = np.zeros(capacity, np.int64)
        self.ranks = np.full(capacity + 1, np.iinfo(np.int64).max, np.int64)
        self.labels = np.full(capacity, -1, np.int64)
        self.rows = 0
        self.size = 0
        self._filled = 0

    def put(
        self,
        slots: Int[np.ndarray, " n"],
        keys: Float[np.ndarray, "n key_size"],
        groups: Int[np.ndarray, " n"],
        ranks: Int[np.ndarray, " n"],
    ) -> None:
        """Fills empty slots."""
        n = len(slots)
        if n == 0:
            return
        keys64 = keys.astype(np.float64)
        norms = np.einsum("ij,ij->i", keys64, keys64)
        self.keys[slots] = keys
        precise = slots < len(self.keys64)
        self.keys64[slots[precise]] = keys64[precise]
        self.norms[slots] = norms
        self.norms32[slots] = norms
        self.groups[slots] = groups
        self.ranks[slots] = ranks
        self.labels[slots] = (np.arange(self._filled, self._filled + n) << 32) | slots
        self._filled += n
        self.rows = max(self.rows, int(slots.max()) + 1)
        self.size += n

    def put_one(
        self, slot: int, key: Float[np.ndarray, " key_size"], group: int, rank: int
    ) -> None:
        """Fills one empty slot; ``put`` without the cost of arrays."""
        key64 = key.astype(np.float64)
        self.keys[slot] = key
        if slot < len(self.keys64):
            self.keys64[slot] = key64
        self.norms[slot] = self.norms32[slot] = key64 @ key64
        self.groups[slot] = group
        self.ranks[slot] = rank
        self.labels[slot] = (self._filled << 32) | slot
        self._filled += 1
        self.rows = max(self.rows, slot + 1)
        self.size += 1

    @property
    def filled(self) -> int:
        """How often a slot was filled, ever."""
        return self._filled

    def drop(self, slot: int) -> None:
        """Empties a slot."""
        self.labels[slot] = -1
        self.size -= 1

    def squared_distances(
        self, query: Float[np.ndarray, " key_size"], slots: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Squared distances to a few keys, float64, by differences: exactly 0 to an equal key."""
        differences = self.keys.take(slots, axis=0) - query
        squared: Float[np.ndarray, " n"] = np.einsum("ij,ij->i", differences, differences)
        return squared


def slots_of(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The slots that a store's labels were given to."""
    return labels & 0xFFFFFFFF


class NeighbourSearch(Protocol):
    """The nearest keys of every group of one ``KeyStore``.

    One caller at a time: a search keeps scratch space, and HNSW graphs bear no insertion beside
    a query. The server holds one lock per study.
    """

    def add(self, slot: int) -> None:
        """Takes in the slot that was just filled."""

    def remove(self, slot: int) -> None:
        """Lets go of a slot that is about to be emptied."""

    def nearest(
        self, query: Float[np.ndarray, " key_size"], count: int
    ) -> tuple[Int[np.ndarray, "count groups"], Float[np.ndarray, "count groups"]]:
        """The nearest keys of every group.

        Args:
            query: float64.
            count: how many neighbours of each group, ≥ 1.

        Returns:
            Slots, int64, nearest first, equally near ones by lower rank, then padding with the
            store's capacity; and squared distances, float64, then infinity.
        """
        ...

    def nearest_in_group(
        self, query: Float[np.ndarray, " key_size"], group: int, count: int
    ) -> tuple[Int[np.ndarray, " found"], Float[np.ndarray, " found"]]:
        """At most ``count`` nearest keys of one group, as in ``nearest`` but without padding."""
        ...
