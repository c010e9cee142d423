"""Exact search always, HNSW graphs on top where they pay, built beside the running memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np

from hyperoracle_server.memory.base import KeyStore, NeighbourSearch, slots_of
from hyperoracle_server.memory.exact import ExactSearch
from hyperoracle_server.memory.hnsw import Graphs, HnswSearch, HnswSettings

if TYPE_CHECKING:
    from jaxtyping import Float, Int

GRAPHS_PAY_FROM = 4_096
"""Keys per group in use, on average, from which graphs answer faster than a scan (measured)."""

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
            self._index == "auto" and size >= GRAPHS_PAY_FROM * self._exact.groups_in_use
        )
        if not wanted or not size:
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
        self._hnsw = HnswSearch(self._store, self._exact, build.graphs)
        return True


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
