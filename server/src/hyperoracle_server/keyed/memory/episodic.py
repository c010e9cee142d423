"""The episodic memory: reads by Eq. 3, writes by Eq. 4, forgets the earliest added."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyperoracle_server.keyed.memory.base import MemorySettings, Reading, WriteEffect
from hyperoracle_server.keyed.memory.checks import checked_entries, checked_keys, checked_write
from hyperoracle_server.keyed.memory.distinct_keys import DistinctKeys, mean_at_nearest_keys
from hyperoracle_server.keyed.memory.entry_table import EntryTable
from hyperoracle_server.keyed.memory.hnsw import HnswSettings, evenly_spaced
from hyperoracle_server.keyed.memory.switching import IndexBuild, RecallCheck, SwitchingSearch
from hyperoracle_server.strategies.decisions import Entries
from hyperoracle_server.strategies.evidence.kernel import similarity, weighted_values

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_PRECISE_ROWS = 16_384
"""Beyond so many keys a float32 scan and refining beat a scan in float64 (measured)."""


class EpisodicMemory:
    """Key, hyper-action, value triples; what hyper-actions were worth in similar hyper-states.

    It is a pure data structure: no clock, no store, no randomness of its own. Every call, reads
    included, must be the only one at its time: the server holds one lock per study. The parts
    that may run beside it are ``IndexBuild.run`` and the building of another memory by
    ``rekeyed``; both work on copies.

    Args:
        key_size: components of a key, h ≥ 1.
        n_actions: the number of joint hyper-actions, ≥ 1.
        settings: how to read, write and search.
        hnsw: how HNSW graphs are built and searched, where they are used.

    Raises:
        ValueError: a size below 1.

    Source: Le et al., Episodic Policy Gradient Training, AAAI 2022, Eq. 3 and 4; the per-action
    reading from Pritzel et al., Neural Episodic Control, ICML 2017.
    """

    def __init__(
        self,
        key_size: int,
        n_actions: int,
        settings: MemorySettings | None = None,
        hnsw: HnswSettings | None = None,
    ) -> None:
        if key_size < 1 or n_actions < 1:
            raise ValueError(
                f"expected a key_size and n_actions of at least 1, got {key_size} and {n_actions}"
            )
        self.key_size = key_size
        self.n_actions = n_actions
        self.settings = settings or MemorySettings()
        self._hnsw = hnsw or HnswSettings()
        self._table = EntryTable(self.settings.capacity, key_size, _PRECISE_ROWS)
        store, index = self._table.store, self.settings.index
        self._search = SwitchingSearch(store, n_actions, index, self._hnsw)
        self._distinct: DistinctKeys | None = None
        if self.settings.reading == "shared":
            self._distinct = DistinctKeys(store, index, self._hnsw)

    @property
    def size(self) -> int:
        """How many entries are stored."""
        return self._table.size

    @property
    def capacity(self) -> int:
        """How many entries can be stored."""
        return self.settings.capacity

    @property
    def newest_id(self) -> int:
        """The id of the entry added last, −1 if there is none."""
        return self._table.newest_id

    def read(self, key: npt.ArrayLike) -> Reading:
        """Estimates the value of every joint hyper-action at a key.

        Q(s, a) is the kernel-weighted mean of the values of a's neighbours. With the setting
        ``per-action`` these are the K nearest entries of a; with ``shared`` they are the entries
        of a at the K nearest distinct keys, whatever was done there. A hyper-action without a
        neighbour is unknown: ``zero`` makes it 0, ``kernel-mean`` the kernel-weighted mean over
        all entries at the K nearest distinct keys, each entry weighing by the distance of its key,
        in either reading. An empty memory knows nothing and answers 0.

        Args:
            key: float32 [key_size] or what converts to it, finite.

        Returns:
            Values with the neighbours that they come from.

        Raises:
            ValueError: the key has another shape or is not finite.

        Source: Le et al., Episodic Policy Gradient Training, AAAI 2022, Eq. 3.
        """
        query = checked_keys(key, (self.key_size,)).astype(np.float64)
        count = self.settings.neighbours_read
        if self._distinct is None:
            slots, squared = self._search.nearest(query, count)
        else:
            slots, squared = self._distinct.nearest(query, count, self.n_actions)
        values = self._table.values.take(slots)
        q_values, known = weighted_values(squared, values)
        if self.settings.unknown == "kernel-mean" and not known.all():
            q_values[~known] = mean_at_nearest_keys(self._table, slots, squared, count)
        return Reading(q_values, known, self._table.ids.take(slots).T, squared.T, values.T)

    def write(
        self, key: npt.ArrayLike, action: int, hyper_return: float, entry_id: int
    ) -> WriteEffect:
        """Stores a hyper-return, and lets the nearest entries of the same hyper-action learn it.

        With the rule ``average``, the K_w nearest entries of the hyper-action (in either reading;
        the pair itself among them if it is stored) move towards the hyper-return G: M += β (G − M)
        Sim / Σ Sim, all from their old values. With the rule ``max``, as in model-free episodic
        control, a stored pair gets max(M, G) and no neighbour changes. Then, with both rules, the
        pair is added with value G if it is not stored; past capacity the earliest added entry goes
        (it may be one that was just updated). Other hyper-actions are never touched.

        Args:
            key: float32 [key_size] or what converts to it, finite.
            action: the joint hyper-action taken, 0 ≤ action < n_actions.
            hyper_return: G, finite.
            entry_id: the id of the entry, if one is added; above all ids stored so far.

        Returns:
            What changed.

        Raises:
            ValueError: an argument is off; nothing has changed then.

        Source: Le et al., Episodic Policy Gradient Training, AAAI 2022, Eq. 4; the rule ``max``:
        Blundell et al., Model-Free Episodic Control, 2016.
        """
        stored_key = checked_keys(key, (self.key_size,))
        action, hyper_return, entry_id = checked_write(
            action, hyper_return, entry_id, self.n_actions, self.newest_id
        )
        slot = self._table.find(stored_key, action)
        evicts = slot is None and self.size == self.capacity
        if self.settings.write_rule == "average":
            updated = self._move_neighbours(stored_key, action, hyper_return)
        else:
            updated = self._raise_to(hyper_return, slot)
        effect = WriteEffect(
            self._table.ids[updated],
            self._table.values[updated],
            inserted=slot is None,
            evicted_ids=self._table.ids[[self._table.earliest_slot] if evicts else updated[:0]],
        )
        if slot is None:
            self._insert(stored_key, action, hyper_return, entry_id)
        return effect

    def load(
        self,
        ids: npt.ArrayLike,
        keys: npt.ArrayLike,
        actions: npt.ArrayLike,
        values: npt.ArrayLike,
    ) -> None:
        """Fills an empty memory with the entries of another, the earliest first.

        Reads and writes then go on as they would have there. Of more entries than fit, the
        earliest are left out. Searches are exact until an index is built and adopted.

        Args:
            ids: int64 [entries], ≥ 0, strictly increasing.
            keys: float32 [entries, key_size], finite. A pair of key and hyper-action may repeat
                (a new encoder can make keys equal); the last one then counts as the stored pair.
            actions: int64 [entries], each 0 ≤ action < n_actions.
            values: float64 [entries], finite.

        Raises:
            ValueError: the memory is not empty, or an argument is off; nothing has changed then.
        """
        if self.size:
            raise ValueError(f"expected an empty memory to load into, got {self.size} entries")
        entries = checked_entries(ids, keys, actions, values, self.key_size, self.n_actions)
        slots = self._table.fill(entries[-self.capacity :])
        self._search.add_many(slots)
        if self._distinct is not None:
            self._distinct.add_many(slots)

    def entries(self, start: int = 0, stop: int | None = None) -> Entries:
        """Copies of the entries from position ``start`` to ``stop``, the earliest added first.

        Args:
            start: the first position, ≥ 0.
            stop: the position after the last, None for the end; beyond the end means the end.
        """
        return self._table.copied(self._table.slots_in_order()[start:stop])

    def entries_after(self, entry_id: int) -> Entries:
        """Copies of the entries with a greater id, the earliest added first."""
        return self._table.copied(self._table.slots_after(entry_id))

    def get(self, ids: npt.ArrayLike) -> Entries:
        """Copies of the entries with these ids, in the order given, without those not stored."""
        return self._table.copied(self._table.slots_of(np.asarray(ids, np.int64).reshape(-1)))

    def rekeyed(self, entries: Entries) -> EpisodicMemory:
        """A new memory of the same settings with these entries, for keys of a new encoder.

        It reads nothing of this memory that changes, so it needs no lock: copy ``entries()``
        under the lock, encode, call this anywhere, build its index there too; then, under the
        lock, ``take_over`` and put it in this one's place.

        Args:
            entries: this memory's, with other keys; these may have another size.

        Raises:
            ValueError: as ``load``.
        """
        other = EpisodicMemory(entries.keys.shape[1], self.n_actions, self.settings, self._hnsw)
        other.load(entries.ids, entries.keys, entries.actions, entries.values)
        return other

    def take_over(self, live: EpisodicMemory, late_keys: npt.ArrayLike) -> None:
        """Brings this memory, made by ``live.rekeyed``, up to what ``live`` holds now.

        Args:
            live: the memory that went on being written.
            late_keys: float32 [late, key_size], the new keys of
                ``live.entries_after(self.newest_id)``.

        Raises:
            ValueError: the keys do not fit, or the memories hold different entries.
        """
        late = live.entries_after(self.newest_id)
        keys = checked_keys(late_keys, (len(late), self.key_size))
        stored, wanted = self.entries(), live.entries()
        gone = int(np.searchsorted(stored.ids, wanted.ids[0])) if len(wanted) else len(stored)
        if not np.array_equal(np.concatenate([stored.ids[gone:], late.ids]), wanted.ids):
            raise ValueError(
                "expected a memory made by rekeyed from the live one, got other entries"
            )
        for _ in range(gone):
            self._evict_earliest()
        for key, action, entry_id in zip(
            keys, late.actions.tolist(), late.ids.tolist(), strict=True
        ):
            self._insert(key, action, 0.0, entry_id)
        self._table.values[self._table.slots_in_order()] = wanted.values

    @property
    def index_build_due(self) -> bool:
        """Whether HNSW graphs are wanted and missing, or more than half of them is deleted."""
        return any(search.build_due for search in self._searches)

    @property
    def approximate(self) -> bool:
        """Whether HNSW graphs answer now; else answers are exact."""
        return any(search.approximate for search in self._searches)

    def start_index_build(self) -> IndexBuild:
        """Copies what the graphs that are due need; see ``IndexBuild``. Under the owner's lock."""
        return IndexBuild(
            (search, search.start_build(self.settings.neighbours_read))
            for search in self._searches
            if search.build_due
        )

    def build_index(self) -> None:
        """Builds and adopts the graphs that are due, now, in this thread."""
        build = self.start_index_build()
        build.run()
        while not build.adopt():
            build.run()

    def index_recall(self, key: npt.ArrayLike) -> float:
        """The share of a key's true neighbours that the index finds: 1 where it is exact.

        Args:
            key: float32 [key_size], finite.

        Raises:
            ValueError: as ``read``.
        """
        query = checked_keys(key, (self.key_size,)).astype(np.float64)
        search = self._search if self._distinct is None else self._distinct.search
        return search.recall(query, self.settings.neighbours_read)

    def start_recall_check(self, sample: int) -> RecallCheck:
        """A check of what graphs find over the whole memory; see ``RecallCheck``.

        Args:
            sample: how many queries.
        """
        slots = self._table.slots_in_order() if self.approximate else np.empty(0, np.int64)
        slots = slots[evenly_spaced(len(slots), sample)]
        count = self.settings.neighbours_read
        return RecallCheck(self._searches, self._table.store, slots, count)

    def check_recall(self, sample: int) -> float:
        """Makes such a check, now; the least share found, 1 where the search is exact."""
        check = self.start_recall_check(sample)
        while check.step():
            pass
        return check.finish()

    @property
    def graph_efforts(self) -> list[int]:
        """Of each graph that answers, how many candidates it weighs for a query.

        There is one for each hyper-action, with ``shared`` reading one for all.
        """
        search = self._search if self._distinct is None else self._distinct.search
        return search.graph_efforts

    @property
    def graph_recall(self) -> float:
        """The least share of true neighbours that graphs found at their last test; 1 if exact."""
        search = self._search if self._distinct is None else self._distinct.search
        return search.graph_recall

    @property
    def _searches(self) -> list[SwitchingSearch]:
        return [self._search] if self._distinct is None else [self._search, self._distinct.search]

    def _move_neighbours(
        self, key: Float[np.ndarray, " key_size"], action: int, hyper_return: float
    ) -> Int[np.ndarray, " updated"]:
        """Eq. 4 for the stored neighbours; returns their slots."""
        slots, squared = self._search.nearest_in_group(
            key.astype(np.float64), action, self.settings.neighbours_write
        )
        if not len(slots):
            return slots
        share = similarity(squared)
        share *= self.settings.write_rate / share.sum()
        old = self._table.values[slots]
        # A weighted mean, since the difference of two huge values could overflow; a mean can only
        # through rounding, which may step over the ends.
        with np.errstate(over="ignore"):
            moved = (1.0 - share) * old + share * hyper_return
        low, high = np.minimum(old, hyper_return), np.maximum(old, hyper_return)
        self._table.values[slots] = np.clip(moved, low, high)
        return slots

    def _raise_to(self, hyper_return: float, slot: int | None) -> Int[np.ndarray, " updated"]:
        """The rule ``max`` for a stored pair; returns its slot if its value rose."""
        if slot is None or self._table.values[slot] >= hyper_return:
            return np.empty(0, np.int64)
        self._table.values[slot] = hyper_return
        return np.array([slot])

    def _insert(
        self, key: Float[np.ndarray, " key_size"], action: int, value: float, entry_id: int
    ) -> None:
        """Adds an entry, after the earliest has left if there is no room."""
        if self.size == self.capacity:
            self._evict_earliest()
        slot = self._table.insert(key, action, value, entry_id)
        self._search.add(slot)
        if self._distinct is not None:
            self._distinct.add(slot)

    def _evict_earliest(self) -> None:
        slot = self._table.earliest_slot
        self._search.remove(slot)
        if self._distinct is not None:
            self._distinct.remove(slot)
        self._table.drop_earliest()
