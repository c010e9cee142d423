"""Exact nearest neighbours of every group at once, by NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperoracle_server.keyed.memory.base import KeyStore, NeighbourSearch
from hyperoracle_server.keyed.memory.tables import GroupTables

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_FEW = 64
"""Up to so many keys of one group get their float64 distance without further ado."""

_SORTABLE = 32
"""Rows wider than this are partitioned before they are sorted."""

_SMALL = 4096
"""So few distances are not worth folding."""

_ONE = np.uint64(1)


class ExactSearch(NeighbourSearch):
    """Exact search: one matrix product for all distances, then a few calls for all groups.

    Distances come from ‖x‖² − 2 x·q + ‖q‖². In float64 that is precise enough to order by. Where
    there are more keys than the store has in float64, the product is taken in float32; its
    rounding error is bounded, every key within the bound stays on a shortlist, and only the
    shortlist gets float64 distances. So both ways find the same neighbours.

    Args:
        store: the keys; ``add`` and ``remove`` tell which of its slots are searched.
        n_groups: groups are 0 ... n_groups − 1.
    """

    def __init__(self, store: KeyStore, n_groups: int) -> None:
        self._store = store
        self._tables = GroupTables(n_groups, store.capacity)
        self._squared = np.full(store.capacity + 1, np.inf)
        self._approximate = np.full(store.capacity + 1, np.inf, np.float32)
        self._slot_mask = np.uint64((1 << store.capacity.bit_length()) - 1)

    def add(self, slot: int) -> None:
        """Takes in the slot that was just filled."""
        self._tables.add(slot, int(self._store.groups[slot]))

    def add_many(self, slots: Int[np.ndarray, " n"]) -> None:
        """Takes in many slots that were just filled."""
        self._tables.add_many(slots, self._store.groups[slots])

    def remove(self, slot: int) -> None:
        """Lets go of a slot that is about to be emptied."""
        self._tables.remove(slot, int(self._store.groups[slot]))

    def count(self, group: int) -> int:
        """How many keys a group has."""
        return self._tables.count(group)

    @property
    def sizes(self) -> Int[np.ndarray, " groups"]:
        """How many keys each group has."""
        return np.array([self._tables.count(group) for group in range(self._tables.n_groups)])

    @property
    def n_groups(self) -> int:
        """How many groups there are, with keys or without."""
        return self._tables.n_groups

    @property
    def groups_in_use(self) -> int:
        """How many groups have a key."""
        return self._tables.groups_in_use

    def nearest(
        self, query: Float[np.ndarray, " key_size"], count: int
    ) -> tuple[Int[np.ndarray, "count groups"], Float[np.ndarray, "count groups"]]:
        """The nearest keys of every group; see ``NeighbourSearch``."""
        store = self._store
        nearest = np.full((count, self._tables.n_groups), store.capacity, np.int64)
        precise = store.rows <= len(store.keys64)
        scan = self._scan_precisely(query) if precise else self._scan_quickly(query)
        slack = self._slack(query)
        shortlists = []
        for table in self._tables.tables.values():
            slots = table.slots[: table.used]
            if precise:
                self._put_first(slots, count, table.groups[: table.used], nearest)
            else:
                shortlists.append(_shortlist(scan.take(slots), slots, count, slack))
        if shortlists:
            candidates = np.concatenate(shortlists)
            self._refine(query, candidates)
            slots, groups = _one_row_per_group(candidates, store.groups.take(candidates), store)
            self._put_first(slots, count, groups, nearest)
        squared = self._squared.take(nearest)
        # Rounding makes the distance to an equal key a tiny number instead of 0.
        squared[squared <= self._rounding(query)] = 0.0
        return nearest, squared

    def nearest_in_group(
        self, query: Float[np.ndarray, " key_size"], group: int, count: int
    ) -> tuple[Int[np.ndarray, " found"], Float[np.ndarray, " found"]]:
        """The nearest keys of one group; see ``NeighbourSearch``."""
        slots = self._tables.slots(group)
        if len(slots) > max(_FEW, 4 * count):
            approximate = self._store.norms32.take(slots)
            approximate -= self._store.keys.take(slots, axis=0) @ (2.0 * query).astype(np.float32)
            approximate += np.float32(query @ query)
            slots = _shortlist(approximate[None], slots[None], count, self._slack(query))
        squared = self._store.squared_distances(query, slots)
        nearest = np.lexsort((self._store.ranks[slots], squared))[:count]
        return slots[nearest], squared[nearest]

    def _scan_precisely(self, query: Float[np.ndarray, " key_size"]) -> Float[np.ndarray, " slots"]:
        """Squared distances to every row, float64; infinity at the slot of padding."""
        store = self._store
        squared = self._squared[: store.rows]
        np.dot(store.keys64[: store.rows], -2.0 * query, out=squared)
        squared += store.norms[: store.rows]
        squared += query @ query
        np.maximum(squared, 0.0, out=squared)
        return self._squared

    def _scan_quickly(self, query: Float[np.ndarray, " key_size"]) -> Float[np.ndarray, " slots"]:
        """Squared distances to every row, float32; infinity at the slot of padding."""
        store = self._store
        approximate = self._approximate[: store.rows]
        np.dot(store.keys[: store.rows], (-2.0 * query).astype(np.float32), out=approximate)
        approximate += store.norms32[: store.rows]
        approximate += np.float32(query @ query)
        return self._approximate

    def _slack(self, query: Float[np.ndarray, " key_size"]) -> tuple[float, float]:
        """How far beyond a float32 bound b the true neighbours may lie: c + r · b.

        A key x of true squared distance at most T has ‖x‖² ≤ 2 ‖q‖² + 2 T, so its float32 distance
        is off by at most γ (‖x‖² + ‖q‖²) ≤ γ (3 ‖q‖² + 2 T), with γ = (h + 8) 2⁻²³ for h terms and
        the roundings of query, norms and sums. Twice that covers both the key and the bound, and T
        exceeds b by no more than such an error.
        """
        gamma = (self._store.key_size + 8) * 2.0**-23
        return 8.0 * gamma * float(query @ query), 6.0 * gamma

    def _rounding(self, query: Float[np.ndarray, " key_size"]) -> float:
        """The largest float64 rounding error of the squared distance to an equal key."""
        return (self._store.key_size + 8) * 2.0**-51 * float(query @ query)

    def _refine(self, query: Float[np.ndarray, " key_size"], slots: Int[np.ndarray, " n"]) -> None:
        """Puts float64 squared distances of these slots where ``_scan_precisely`` has them."""
        exact = self._store.keys.take(slots, axis=0).astype(np.float64) @ (-2.0 * query)
        exact += self._store.norms.take(slots)
        exact += query @ query
        self._squared[slots] = np.maximum(exact, 0.0, out=exact)

    def _put_first(
        self,
        slots: Int[np.ndarray, "rows width"],
        count: int,
        groups: Int[np.ndarray, " rows"],
        nearest: Int[np.ndarray, "count groups"],
    ) -> None:
        """Puts the nearest slots of each row, in order, into the column of its group.

        The bits of a float ≥ 0 sort like the float. So distance and slot are packed into one
        integer, the slot in the distance's lowest bits, and sorted together, which is several
        times faster than an indirect sort. Rows where two neighbours differ in no higher bit are
        sorted again by their full distance and rank.
        """
        squared = self._squared.take(slots)
        packed = squared.view(np.uint64) & ~self._slot_mask
        packed |= slots.view(np.uint64)
        if packed.shape[1] > _SORTABLE and packed.shape[1] > count + 1:
            packed = np.partition(packed, count, axis=1)[:, : count + 1]
        packed.sort(axis=1)
        # Neighbours by rank first: long rows of the transpose are what NumPy is fast on.
        packed = np.ascontiguousarray(packed[:, : count + 1].T)
        first = (packed[:count] & self._slot_mask).view(np.int64)
        # Equal distances differ by at most the slots; paddings are equal, and 0 - 1 wraps around.
        difference = packed[1:] ^ packed[:-1]
        difference -= _ONE
        tied = difference < self._slot_mask
        if tied.any():
            rows = np.flatnonzero(tied.any(axis=0))
            ranks = self._store.ranks.take(slots[rows])
            order = np.lexsort((ranks, squared[rows]), axis=-1)[:, :count]
            first[:, rows] = np.take_along_axis(slots[rows], order, axis=1).T
        nearest[: len(first), groups] = first


def _shortlist(
    squared: Float[np.ndarray, "rows width"],
    slots: Int[np.ndarray, "rows width"],
    count: int,
    slack: tuple[float, float],
) -> Int[np.ndarray, " candidates"]:
    """The slots that can be among the ``count`` nearest of their row, row after row.

    Fold a row in halves, keeping the lesser of each two that meet: the ``count`` least values that
    remain are ``count`` of the row's values, so the greatest of them bounds the row's ``count``-th
    nearest from above.

    Args:
        squared: distances, float32, infinity at padding.
        slots: the slot of each distance.
        count: how many neighbours are wanted.
        slack: the (fixed, relative) error of a distance at the bound.
    """
    width = squared.shape[1]
    if width <= count:
        return slots[squared < np.inf]
    least = squared
    while least.size > _SMALL and width % 2 == 0 and width >= 8 * count:
        width //= 2
        least = np.minimum(least[:, :width], least[:, width:])
    bound = np.partition(least, count - 1, axis=1)[:, count - 1 : count]
    bound = np.minimum(bound * (1.0 + slack[1]) + slack[0], np.finfo(squared.dtype).max)
    return slots.ravel()[np.flatnonzero(squared <= bound)]


def _one_row_per_group(
    slots: Int[np.ndarray, " n"], groups: Int[np.ndarray, " n"], store: KeyStore
) -> tuple[Int[np.ndarray, "rows width"], Int[np.ndarray, " rows"]]:
    """Lays out slots that come group after group in rows; returns these and each one's group."""
    first = np.empty(len(groups), np.bool_)
    first[:1] = True
    np.not_equal(groups[1:], groups[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    row = np.cumsum(first) - 1
    column = np.arange(len(groups))
    column -= starts.take(row)
    laid_out = np.full((len(starts), int(column.max(initial=0)) + 1), store.capacity, np.int64)
    laid_out[row, column] = slots
    return laid_out, groups[starts]
