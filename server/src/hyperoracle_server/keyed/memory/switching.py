"""Exact search always, HNSW graphs on top where they pay, built beside the running memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from hyperoracle_server.keyed.memory.base import KeyStore, NeighbourSearch, slots_of
from hyperoracle_server.keyed.memory.exact import ExactSearch
from hyperoracle_server.keyed.memory.hnsw import Graphs, HnswSearch, HnswSettings, least_recall

if TYPE_CHECKING:
    from jaxtyping import Float, Int

TRY_AGAIN = 1.5
"""Graphs that did not pay are built again once there are so many times more keys, or other ones."""

_CATCH_UP = 32
"""So many late keys join while the owner holds its lock; more take another round without it."""


class SwitchingSearch(NeighbourSearch):
    """Answers from graphs while it has them, else exactly.

    Graphs are built from copies, away from the lock that guards the search::

        if search.build_due:
            build = search.start_build(count)  # under the lock
            while True:
                build.run()  # without it
                if search.adopt(build):  # under it
                    break

    Where graphs do not find enough, or (``auto``) are slower than a scan, the scan answers.

    Args:
        store: the keys.
        n_groups: groups are 0 ... n_groups − 1.
        index: ``exact`` never uses graphs; ``hnsw`` does from the first key on, and again once
            they are built after a bulk load; ``auto`` does where they pay.
        settings: of the graphs.
    """

    def __init__(
        self,
        store: KeyStore,
        n_groups: int,
        index: Literal["auto", "exact", "hnsw"],
        settings: HnswSettings,
    ) -> None:
        self._store = store
        self._index = index
        self._settings = settings
        self._exact = ExactSearch(store, n_groups)
        self._hnsw: HnswSearch | None = None
        self._try_from = 0  # keys filled in, ever and now, from which graphs are worth a build
        if index == "hnsw":
            self._hnsw = HnswSearch(store, self._exact, Graphs(store.key_size, settings))

    def add(self, slot: int) -> None:
        """Takes in the slot that was just filled."""
        self._exact.add(slot)
        if self._hnsw is not None:
            self._hnsw.add(slot)

    def add_many(self, slots: Int[np.ndarray, " n"]) -> None:
        """Takes in many slots that were just filled; graphs are then due to be built."""
        self._exact.add_many(slots)
        self._hnsw = None

    def remove(self, slot: int) -> None:
        """Lets go of a slot that is about to be emptied."""
        self._exact.remove(slot)
        if self._hnsw is None:
            return
        self._hnsw.remove(slot)
        if self._hnsw.graphs.total > 4 * self._store.size + 1024:
            # Nobody rebuilt them: give the memory back and answer exactly.
            self._hnsw = None

    def nearest(
        self, query: Float[np.ndarray, " key_size"], count: int
    ) -> tuple[Int[np.ndarray, "count groups"], Float[np.ndarray, "count groups"]]:
        """The nearest keys of every group; see ``NeighbourSearch``."""
        return (self._hnsw or self._exact).nearest(query, count)

    def nearest_in_group(
        self, query: Float[np.ndarray, " key_size"], group: int, count: int
    ) -> tuple[Int[np.ndarray, " found"], Float[np.ndarray, " found"]]:
        """The nearest keys of one group; see ``NeighbourSearch``."""
        return (self._hnsw or self._exact).nearest_in_group(query, group, count)

    @property
    def approximate(self) -> bool:
        """Whether answers come from graphs now."""
        return self._hnsw is not None

    def recall(self, query: Float[np.ndarray, " key_size"], count: int) -> float:
        """The share of the true nearest keys of every group that ``nearest`` finds for a query."""
        truth, _ = self._exact.nearest(query, count)
        found, _ = self.nearest(query, count)
        wanted = truth[truth != self._store.capacity]
        return float(np.isin(wanted, found).mean()) if len(wanted) else 1.0

    @property
    def build_due(self) -> bool:
        """Whether graphs are wanted and are missing, or hold more deleted keys than live ones."""
        size = self._store.size
        wanted = self._index == "hnsw" or (
            self._index == "auto"
            and size >= self._settings.graphs_pay_from * self._exact.groups_in_use
        )
        if not wanted or not size or (self._hnsw is None and self._store.filled < self._try_from):
            return False
        return self._hnsw is None or self._hnsw.graphs.total > 2 * size + 64

    def start_build(self, count: int) -> GraphBuild:
        """Copies the keys for graphs meant for ``count`` neighbours. Under the owner's lock."""
        return GraphBuild(self._store, Graphs(self._store.key_size, self._settings), count)

    def adopt(self, build: GraphBuild) -> bool:
        """Answers from the built graphs once they hold what is live. Under the owner's lock.

        Returns:
            False when too much was written meanwhile: ``build.run()`` has more to do first.
        """
        if not build.catch_up():
            return False
        if self._is_worth(build.graphs):
            self._hnsw = HnswSearch(self._store, self._exact, build.graphs)
        else:
            self._give_up()
        return True

    def neighbour_of(self, slot: int) -> int:
        """The slot of the key nearest to a stored one in its group; itself where it is alone."""
        query = self._store.keys[slot].astype(np.float64)
        nearest, _ = self._exact.nearest_in_group(query, int(self._store.groups[slot]), 2)
        others = nearest[nearest != slot]
        return int(others[0]) if len(others) else slot

    def note_hits(
        self,
        queries: Float[np.ndarray, "queries key_size"],
        hits: Float[np.ndarray, "queries groups"],
    ) -> float:
        """Takes in what `hits` found; gives up graphs that find too little, all if few are left.

        Args:
            queries: in the order of the ages of the keys that they stand for.
            hits: of each query.

        Returns:
            The least share of true neighbours found, of any group in its worst region; 1 where the
            search is exact already.
        """
        if self._hnsw is None or not len(queries):
            return 1.0
        graphs = self._hnsw.graphs
        least = 1.0
        for group in graphs.groups:
            found = least_recall(hits[:, group], queries)
            least = min(least, found)
            graphs.note_recall(group, found)
        if not self._is_worth(graphs):
            self._give_up()
        return least

    def _is_worth(self, graphs: Graphs) -> bool:
        pays = self._index == "hnsw" or graphs.cost(self._exact.sizes) < self._store.size
        return pays and len(graphs.groups) > 0

    def _give_up(self) -> None:
        """From now on the scan answers, until there are many more keys, or others."""
        self._hnsw = None
        self._try_from = self._store.filled + int((TRY_AGAIN - 1) * self._store.size) + 1

    def hits(
        self, query: Float[np.ndarray, " key_size"], count: int
    ) -> Float[np.ndarray, " groups"]:
        """The share of each group's true neighbours that are found; 1 of an empty group."""
        truth, _ = self._exact.nearest(query, count)
        found, _ = self.nearest(query, count)
        wanted = truth != self._store.capacity
        hit = (truth[:, None, :] == found[None, :, :]).any(axis=1) & wanted
        there = wanted.sum(axis=0)
        share: Float[np.ndarray, " groups"] = (hit.sum(axis=0) + (there == 0)) / there.clip(min=1)
        return share

    @property
    def graph_efforts(self) -> list[int]:
        """Of each group that is answered by a graph now, the candidates weighed for a query."""
        return [] if self._hnsw is None else self._hnsw.graphs.efforts

    @property
    def graph_recall(self) -> float:
        """The least recall of any group in its worst region, as of its last test; 1 if exact."""
        return 1.0 if self._hnsw is None else self._hnsw.graphs.recall


class GraphBuild:
    """Graphs under construction from copied keys; touches nothing that lives but in ``catch_up``.

    Args:
        store: whose filled slots the graphs shall hold.
        graphs: empty.
        count: how many neighbours will be asked for.
    """

    def __init__(self, store: KeyStore, graphs: Graphs, count: int) -> None:
        self.graphs = graphs
        self._store = store
        self._count = count
        self._labels = np.empty(0, np.int64)
        self._groups = np.empty(0, np.int64)
        self._pending_keys = store.keys[:0]
        self._collect()

    def run(self) -> None:
        """Adds the copied keys. Takes no lock; call it from one thread at a time."""
        pending = len(self._pending_keys)
        if pending:
            start = len(self._labels) - pending
            self.graphs.build(
                self._pending_keys, self._groups[start:], self._labels[start:], self._count
            )
            self._pending_keys = self._pending_keys[:0]

    def catch_up(self) -> bool:
        """Under the owner's lock: whether the graphs could be brought to hold the live keys."""
        if len(self._pending_keys):
            return False
        self._collect()
        if len(self._pending_keys) > _CATCH_UP:
            return False
        self.run()
        gone = np.flatnonzero(self._store.labels[slots_of(self._labels)] != self._labels)
        for group, label in zip(
            self._groups[gone].tolist(), self._labels[gone].tolist(), strict=True
        ):
            self.graphs.remove(group, label)
        return True

    def _collect(self) -> None:
        """Copies the keys filled in since the last time, in the order they came."""
        store = self._store
        # Labels only grow, and empty slots have a negative one.
        newest = self._labels[-1] if len(self._labels) else -1
        slots = np.flatnonzero(store.labels[: store.rows] > newest)
        slots = slots[np.argsort(store.labels[slots])]
        self._labels = np.concatenate([self._labels, store.labels[slots]])
        self._groups = np.concatenate([self._groups, store.groups[slots]])
        self._pending_keys = store.keys[slots]


class RecallCheck:
    """What one memory's graphs find over the whole of it, query by query.

    The queries lie half-way between stored keys, evenly spaced in age, and their neighbours: where
    jobs have been, but not in the graphs. Every call is made under the owner's lock, which is free
    in between::

        check = memory.start_recall_check(64)
        while check.step():
            ...
        least = check.finish()

    Args:
        searches: to check; the first one finds the neighbours.
        store: the keys that queries are made of.
        slots: of the store, the earliest added first.
        count: how many neighbours.
    """

    def __init__(
        self,
        searches: Sequence[SwitchingSearch],
        store: KeyStore,
        slots: Int[np.ndarray, " n"],
        count: int,
    ) -> None:
        self._searches = [search for search in searches if search.approximate]
        self._by_group = searches[0]
        self._store = store
        self._count = count
        self._pending = [(slot, int(store.labels[slot])) for slot in reversed(slots.tolist())]
        self._queries: list[Float[np.ndarray, " key_size"]] = []
        self._hits: list[list[Float[np.ndarray, " groups"]]] = [[] for _ in self._searches]

    def step(self) -> bool:
        """Makes and asks one query; False once there are no more."""
        if not self._pending or not self._searches:
            return False
        slot, label = self._pending.pop()
        if self._store.labels[slot] == label:  # it is still there
            other = self._by_group.neighbour_of(slot)
            query = 0.5 * self._store.keys[slot] + 0.5 * self._store.keys[other]
            self._queries.append(query)
            for search, hits in zip(self._searches, self._hits, strict=True):
                hits.append(search.hits(query.astype(np.float64), self._count))
        return True

    def finish(self) -> float:
        """Lets graphs go that find too little; the least share found, see ``note_hits``."""
        if not self._queries:
            return 1.0
        queries = np.array(self._queries)
        return min(
            search.note_hits(queries, np.array(hits))
            for search, hits in zip(self._searches, self._hits, strict=True)
        )


class IndexBuild:
    """The graphs of one memory under construction, beside that memory.

    ::

        with lock:
            build = memory.start_index_build() if memory.index_build_due else None
        while build is not None:
            build.run()  # seconds, without the lock
            with lock:
                if build.adopt():
                    break

    Args:
        parts: searches, each with its build.
    """

    def __init__(self, parts: Iterable[tuple[SwitchingSearch, GraphBuild]]) -> None:
        self._parts = list(parts)

    def run(self) -> None:
        """Adds the copied keys to the graphs. Takes no lock; call it from one thread at a time."""
        for _, build in self._parts:
            build.run()

    def adopt(self) -> bool:
        """Under the owner's lock: lets the memory answer from the graphs.

        Returns:
            False when too much was written meanwhile: ``run`` has more to do first.
        """
        self._parts = [part for part in self._parts if not part[0].adopt(part[1])]
        return not self._parts
