"""Approximate nearest neighbours of every group, by one HNSW graph per group.

What hnswlib asks of its caller, and where it is seen to:

- One caller at a time: no insertion and no resizing beside a query. The owner of the memory holds
  a lock; a graph under construction belongs to one ``GraphBuild`` alone.
- Asking for more neighbours than live elements raises: never more than a group holds.
- NaN silently ruins a graph: the memory refuses keys that are not finite.
- Deleted elements stay in the graph as waypoints. Re-using their places leaves live elements
  unreachable, so they are never re-used; the graph is built anew once they outnumber the live.
- Insertion in one thread from a fixed seed, so that equal histories give equal graphs.
- Keys inserted in the order of their ages, run after run and step after step, make graphs in which
  whole regions are hardly reached (a half of the neighbours found, in the worst of them): they are
  inserted in a random order.
- A graph can find everything where most keys are and next to nothing where few are, or where they
  lie far apart; a mean over all queries hides that. So queries are put into regions, by the age of
  the keys that they stand for and by their distance from the middle, and the worst region counts.

Source: Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using
Hierarchical Navigable Small World graphs, TPAMI 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import hnswlib
import numpy as np

from hyperoracle_server.keyed.memory.base import KeyStore, NeighbourSearch, slots_of
from hyperoracle_server.keyed.memory.exact import ExactSearch
from hyperoracle_server.strategies.base import INDEX_RECALL

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

_BATCH = 512
"""Keys are added so many at a time: between batches other threads get the interpreter."""

_HELD_OUT = 128
"""So many keys, evenly spaced in time, test the recall of a new graph before they join it."""

_LEAST_TESTED = 2 * _HELD_OUT
"""A smaller graph is not tested: it is searched whole, or nearly."""

REGIONS = 8
"""Into so many regions queries are put by age, and again by distance from the middle."""


GRAPHS_PAY_FROM = 2_048
"""Keys per group in use, on average, from which it is worth building graphs to see whether they
answer faster than a scan. `python benchmarks/memory_index.py` prints from where on they do: it
depends on how much effort the keys take them."""

KEYS_PER_CANDIDATE = 120
"""Keys that a scan visits in the time in which a graph weighs one candidate; `python
benchmarks/memory_index.py` measures it."""


@dataclass(frozen=True, slots=True)
class HnswSettings:
    """How graphs are built and searched.

    Attributes:
        links: neighbours kept per element and layer (``M``).
        build_effort: candidates weighed for each insertion (``ef_construction``).
        search_effort: candidates weighed for each query (``ef``), before a recall is measured.
        recall: the share of true neighbours that a built graph must find in its worst region, of
            keys not in it; its search effort is raised or lowered to the least that does, and where
            none does, its group is searched exactly. 0 leaves the effort alone.
        efforts: search efforts tried for the wanted recall, ascending.
        graphs_pay_from: see `GRAPHS_PAY_FROM`.
        keys_per_candidate: see `KEYS_PER_CANDIDATE`.
        seed: of the graphs' random layers.

    Raises:
        ValueError: a setting is outside its range.
    """

    links: int = 32
    build_effort: int = 200
    search_effort: int = 64
    recall: float = INDEX_RECALL
    efforts: tuple[int, ...] = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
    graphs_pay_from: int = GRAPHS_PAY_FROM
    keys_per_candidate: float = KEYS_PER_CANDIDATE
    seed: int = 1

    def __post_init__(self) -> None:
        if self.links < 2 or self.build_effort < 1 or self.search_effort < 1:
            raise ValueError(
                "expected links of at least 2 and efforts of at least 1, got "
                f"{self.links}, {self.build_effort} and {self.search_effort}"
            )
        if not 0.0 <= self.recall <= 1.0:
            raise ValueError(f"expected a recall between 0 and 1, got {self.recall}")


GATHERED = 2.0
"""How much longer it takes to scan one group's keys than as many of a scan of all."""

TOLERANCE = 0.05
"""A test of some dozens of queries may find so much less than there is to find."""


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
        self.effort = settings.search_effort
        self.recall = 1.0  # in its worst region, as of its last test
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
        if len(labels) >= _LEAST_TESTED and self._settings.recall:
            held_out = evenly_spaced(len(labels), _HELD_OUT)
        order = np.random.default_rng(self._settings.seed).permutation(np.flatnonzero(~held_out))
        first_keys, first_labels = keys[order], labels[order]
        for start in range(0, len(first_labels), _BATCH):
            self.add(first_keys[start : start + _BATCH], first_labels[start : start + _BATCH])
        if held_out.any():
            self._choose_effort(first_keys, first_labels, keys[held_out], count)
            self.add(keys[held_out], labels[held_out])

    @property
    def is_fit(self) -> bool:
        """Whether it finds what it has to."""
        return self.recall >= self._settings.recall

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
        for effort in self._settings.efforts:
            self.effort = max(effort, count)
            self._index.set_ef(self.effort)
            try:
                found, _ = self._index.knn_query(queries, count, num_threads=1)
            except RuntimeError:  # it does not reach so many
                self.recall = 0.0
                continue
            hits = [len(t.intersection(f)) for t, f in zip(truth, found.tolist(), strict=True)]
            self.recall = least_recall(np.array(hits) / count, queries)
            if self.is_fit:
                return


class Graphs:
    """One graph for each group that has keys, but for those that no graph finds well enough.

    Knows labels, no slots.

    Args:
        key_size: components of a key.
        settings: how to build and search.

    Attributes:
        given_up: groups without a graph, which are to be searched exactly.
    """

    def __init__(self, key_size: int, settings: HnswSettings) -> None:
        self._key_size = key_size
        self._settings = settings
        self._graphs: dict[int, _Graph] = {}
        self.given_up: set[int] = set()

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
            if group in self.given_up:
                continue
            if group in self._graphs:
                self._graphs[group].add(keys[members], labels[members])
                continue
            graph = _Graph(self._key_size, self._settings, len(members) + len(members) // 2)
            graph.build(keys[members], labels[members], count)
            self._graphs[group] = graph
            if not graph.is_fit:
                self.give_up(group)

    def give_up(self, group: int) -> None:
        """Lets a graph go that does not find enough, until all are built anew."""
        del self._graphs[group]
        self.given_up.add(group)

    def add(self, key: Float[np.ndarray, " key_size"], group: int, label: int) -> None:
        """Adds one key."""
        if group in self.given_up:
            return
        graph = self._graphs.get(group)
        if graph is None:
            graph = self._graphs[group] = _Graph(self._key_size, self._settings, 0)
        graph.add(key[None], np.array([label]))

    def remove(self, group: int, label: int) -> None:
        """Marks a key deleted; a graph of nothing else goes."""
        if group in self.given_up:
            return
        graph = self._graphs[group]
        graph.remove(label)
        if not graph.live:
            del self._graphs[group]

    def nearest(
        self, query: Float[np.ndarray, " key_size"], group: int, count: int
    ) -> Int[np.ndarray, " found"] | None:
        """Labels of the nearest keys of a group, or None where it has to be searched exactly.

        That is: it has no graph, or its graph does not reach enough.
        """
        graph = self._graphs.get(group)
        return None if graph is None else graph.nearest(query, count)

    def cost(self, sizes: Int[np.ndarray, " groups"]) -> float:
        """What a search of all groups costs, in keys that a scan of all of them could visit.

        Args:
            sizes: how many keys each group has.
        """
        efforts = sum(graph.effort for graph in self._graphs.values())
        by_graphs = efforts * self._settings.keys_per_candidate
        return by_graphs + GATHERED * float(sizes[list(self.given_up)].sum())

    @property
    def groups(self) -> list[int]:
        """The groups that have a graph."""
        return list(self._graphs)

    @property
    def efforts(self) -> list[int]:
        """Of each graph the candidates that it weighs for a query."""
        return [graph.effort for graph in self._graphs.values()]

    @property
    def recall(self) -> float:
        """The least of all graphs, in its worst region, as of its last test."""
        return min((graph.recall for graph in self._graphs.values()), default=1.0)

    def note_recall(self, group: int, recall: float) -> None:
        """Take in what a later test of a graph found; it is given up if that is clearly too little.

        Args:
            group: the graph's.
            recall: in its worst region.
        """
        graph = self._graphs.get(group)
        if graph is None:
            return
        graph.recall = recall
        if recall < self._settings.recall - TOLERANCE:
            self.give_up(group)

    @property
    def total(self) -> int:
        """Keys in the graphs, deleted ones among them."""
        return sum(graph.total for graph in self._graphs.values())


class HnswSearch(NeighbourSearch):
    """Search by graphs, with exact distances to what they find.

    A group without a graph, or with one that does not reach as many keys as the group holds, is
    searched exactly.

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
        for group in (*self.graphs.groups, *self.graphs.given_up):
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
