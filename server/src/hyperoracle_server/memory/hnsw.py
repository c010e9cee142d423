"""Approximate nearest neighbours of every group, by one HNSW graph per group.

What hnswlib asks of its caller, and where it is seen to:

- One caller at a time: no insertion and no resizing beside a query. The owner of the memory holds
  a lock; a graph under construction belongs to one ``GraphBuild`` alone.
- Asking for more neighbours than live elements raises: never more than a group holds.
- NaN silently ruins a graph: the memory refuses keys that are not finite.
- Deleted elements stay in the graph as waypoints. Re-using their places leaves live elements
  unreachable, so they are never re-used; the graph is built anew once they outnumber the live.
- Insertion in one thread from a fixed seed, so that equal histories give equal graphs.

Source: Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using
Hierarchical Navigable Small World graphs, TPAMI 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import hnswlib
import numpy as np

from hyperoracle_server.memory.base import KeyStore, NeighbourSearch, slots_of
from hyperoracle_server.memory.exact import ExactSearch

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_BATCH = 512
"""Keys are added so many at a time: between batches other threads get the interpreter."""

_EFFORTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Search efforts (``ef``) tried for the wanted recall."""

_HELD_OUT = 64
"""So many keys, evenly spaced in time, test the recall of a new graph before they join it."""


@dataclass(frozen=True, slots=True)
class HnswSettings:
    """How graphs are built and searched.

    Attributes:
        links: neighbours kept per element and layer (``M``).
        build_effort: candidates weighed for each insertion (``ef_construction``).
        search_effort: candidates weighed for each query (``ef``), before a recall is measured.
        recall: the share of true neighbours that a built graph must find of keys not in it; its
            search effort is raised or lowered to the least that does. 0 leaves the effort alone.
        seed: of the graphs' random layers.

    Raises:
        ValueError: a setting is outside its range.
    """

    links: int = 16
    build_effort: int = 100
    search_effort: int = 64
    recall: float = 0.95
    seed: int = 1

    def __post_init__(self) -> None:
        if self.links < 2 or self.build_effort < 1 or self.search_effort < 1:
            raise ValueError(
                "expected links of at least 2 and efforts of at least 1, got "
                f"{self.links}, {self.build_effort} and {self.search_effort}"
            )
        if not 0.0 <= self.recall <= 1.0:
            raise ValueError(f"expected a recall between 0 and 1, got {self.recall}")


class _Graph:
    """The graph of one group."""

    def __init__(self, key_size: int, settings: HnswSettings, expected: int) -> None:
        self._settings = settings
        self._room = max(64, expected)
        self._index = hnswlib.Index("l2", key_size)
        self._index.init_index(
            self._room, settings.links, settings.build_effort, random_seed=settings.seed
        )
        self._index.set_num_threads(1)
        self._index.set_ef(settings.search_effort)
        self.live = 0
        self.total = 0

    def add(self, keys: Float[np.ndarray, "n key_size"], labels: Int[np.ndarray, " n"]) -> None:
        while self.total + len(labels) > self._room:
            self._room *= 2
            self._index.resize_index(self._room)
        self._index.add_items(keys, labels, num_threads=1)
        self.total += len(labels)
        self.live += len(labels)

    def remove(self, label: int) -> None:
        self._index.mark_deleted(label)
        self.live -= 1

    def nearest(
        self, query: Float[np.ndarray, " key_size"], count: int
    ) -> Int[np.ndarray, " found"] | None:
        """Labels, or None when the graph does not reach as many as it should."""
        try:
            labels, _ = self._index.knn_query(query, min(count, self.live), num_threads=1)
        except RuntimeError:
            return None
        found: Int[np.ndarray, " found"] = labels[0].astype(np.int64)
        return found

    def build(
        self, keys: Float[np.ndarray, "n key_size"], labels: Int[np.ndarray, " n"], count: int
    ) -> None:
        """Adds many keys, choosing the search effort on some of them before they join."""
        held_out = np.zeros(len(labels), np.bool_)
        if len(labels) >= 8 * _HELD_OUT and self._settings.recall:
            held_out[:: len(labels) // _HELD_OUT] = True
        first_keys, first_labels = keys[~held_out], labels[~held_out]
        for start in range(0, len(first_labels), _BATCH):
            self.add(first_keys[start : start + _BATCH], first_labels[start : start + _BATCH])
        if held_out.any():
            self._choose_effort(first_keys, first_labels, keys[held_out], count)
            self.add(keys[held_out], labels[held_out])

    def _choose_effort(
        self,
        keys: Float[np.ndarray, "n key_size"],
        labels: Int[np.ndarray, " n"],
        queries: Float[np.ndarray, "queries key_size"],
        count: int,
    ) -> None:
        norms = np.einsum("ij,ij->i", keys, keys)
        truth = [
            set(labels[np.argpartition(norms - 2.0 * (keys @ query), count)[:count]].tolist())
            for query in queries
        ]
        for effort in _EFFORTS:
            self._index.set_ef(max(effort, count))
            found, _ = self._index.knn_query(queries, count, num_threads=1)
            hits = sum(len(t.intersection(f)) for t, f in zip(truth, found.tolist(), strict=True))
            if hits >= self._settings.recall * count * len(queries):
                return


class Graphs:
    """One graph for each group that has keys. Knows labels, no slots.

    Args:
        key_size: components of a key.
        settings: how to build and search.
    """

    def __init__(self, key_size: int, settings: HnswSettings) -> None:
        self._key_size = key_size
        self._settings = settings
        self._graphs: dict[int, _Graph] = {}

    def build(
        self,
        keys: Float[np.ndarray, "n key_size"],
        groups: Int[np.ndarray, " n"],
        labels: Int[np.ndarray, " n"],
        count: int,
    ) -> None:
        """Adds many keys; new graphs choose their search effort for ``count`` neighbours."""
        for group in np.unique(groups).tolist():
            members = np.flatnonzero(groups == group)
            if group in self._graphs:
                self._graphs[group].add(keys[members], labels[members])
            else:
                graph = _Graph(self._key_size, self._settings, len(members) + len(members) // 2)
                graph.build(keys[members], labels[members], count)
                self._graphs[group] = graph

    def add(self, key: Float[np.ndarray, " key_size"], group: int, label: int) -> None:
        """Adds one key."""
        graph = self._graphs.get(group)
        if graph is None:
            graph = self._graphs[group] = _Graph(self._key_size, self._settings, 0)
        graph.add(key[None], np.array([label]))

    def remove(self, group: int, label: int) -> None:
        """Marks a key deleted; a graph of nothing else goes."""
        graph = self._graphs[group]
        graph.remove(label)
        if not graph.live:
            del self._graphs[group]

    def nearest(
        self, query: Float[np.ndarray, " key_size"], group: int, count: int
    ) -> Int[np.ndarray, " found"] | None:
        """Labels of the nearest keys of a group, or None when its graph does not reach enough."""
        return self._graphs[group].nearest(query, count)

    @property
    def groups(self) -> list[int]:
        """The groups that have a graph."""
        return list(self._graphs)

    @property
    def total(self) -> int:
        """Keys in the graphs, deleted ones among them."""
        return sum(graph.total for graph in self._graphs.values())


class HnswSearch(NeighbourSearch):
    """Search by graphs, with exact distances to what they find.

    Where a graph does not reach as many keys as its group holds, the group is searched exactly.

    Args:
        store: the keys, whose labels the graphs hold.
        exact: an exact search of the same keys.
        graphs: holding the same keys.
    """

    def __init__(self, store: KeyStore, exact: ExactSearch, graphs: Graphs) -> None:
        self._store = store
        self._exact = exact
        self.graphs = graphs

    def add(self, slot: int) -> None:
        """Takes in the slot that was just filled."""
        store = self._store
        self.graphs.add(store.keys[slot], int(store.groups[slot]), int(store.labels[slot]))

    def remove(self, slot: int) -> None:
        """Lets go of a slot that is about to be emptied."""
        self.graphs.remove(int(self._store.groups[slot]), int(self._store.labels[slot]))

    def nearest(
        self, query: Float[np.ndarray, " key_size"], count: int
    ) -> tuple[Int[np.ndarray, "count groups"], Float[np.ndarray, "count groups"]]:
        """The nearest keys of every group; see ``NeighbourSearch``."""
        store = self._store
        query32 = query.astype(np.float32)
        slots = np.full((self._exact.n_groups, count), store.capacity, np.int64)
        for group in self.graphs.groups:
            found = self._found(query, query32, group, count)
            slots[group, : len(found)] = found
        present = slots != store.capacity
        squared = np.full(slots.shape, np.inf)
        squared[present] = store.squared_distances(query, slots[present])
        order = np.lexsort((store.ranks.take(slots), squared), axis=-1)
        slots = np.take_along_axis(slots, order, axis=1)
        squared = np.take_along_axis(squared, order, axis=1)
        return np.ascontiguousarray(slots.T), np.ascontiguousarray(squared.T)

    def nearest_in_group(
        self, query: Float[np.ndarray, " key_size"], group: int, count: int
    ) -> tuple[Int[np.ndarray, " found"], Float[np.ndarray, " found"]]:
        """The nearest keys of one group; see ``NeighbourSearch``."""
        if not self._exact.count(group):
            return np.empty(0, np.int64), np.empty(0)
        slots = self._found(query, query.astype(np.float32), group, count)
        squared = self._store.squared_distances(query, slots)
        order = np.lexsort((self._store.ranks.take(slots), squared))
        return slots[order], squared[order]

    def _found(
        self,
        query: Float[np.ndarray, " key_size"],
        query32: Float[np.ndarray, " key_size"],
        group: int,
        count: int,
    ) -> Int[np.ndarray, " found"]:
        labels = self.graphs.nearest(query32, group, count)
        if labels is None:
            return self._exact.nearest_in_group(query, group, count)[0]
        return slots_of(labels)
