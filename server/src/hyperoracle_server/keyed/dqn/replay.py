"""Replay: transitions between decisions under keys of hyper-states, the earliest leaving first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from hyperoracle_server.keyed.memory.checks import checked_entries, checked_keys, checked_write
from hyperoracle_server.strategies.decisions import Entries

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, slots=True)
class Steps(Entries):
    """Entries with what makes transitions of them. `values` are hyper-returns.

    Attributes:
        rewards: hyper-reward from the decision to the next of its episode, float64 [entries].
        ends: whether the decision was the last of its learning episode, bool [entries].
    """

    rewards: Float[np.ndarray, " entries"]
    ends: Bool[np.ndarray, " entries"]


class Transitions(NamedTuple):
    """A batch (s, a, r, s', end).

    Attributes:
        keys: float32 [batch, key_size].
        actions: joint hyper-actions, int64 [batch].
        rewards: float64 [batch].
        next_keys: float32 [batch, key_size]; without meaning where the episode ended.
        ends: bool [batch].
    """

    keys: Float[np.ndarray, "batch key_size"]
    actions: Int[np.ndarray, " batch"]
    rewards: Float[np.ndarray, " batch"]
    next_keys: Float[np.ndarray, "batch key_size"]
    ends: Bool[np.ndarray, " batch"]


class Replay:
    """The newest decisions in the order in which they were learned from.

    A learning episode's decisions come one after the other: what follows an entry that did not end
    its episode is the next decision of the same job, its key the next state. So an entry is a
    transition once the next is there, or at once where it ended the episode.

    Every call must be the only one at its time; what `rekeyed` gives stands alone.

    Args:
        key_size: components of a key, ≥ 1.
        n_actions: the number of joint hyper-actions, ≥ 1.
        capacity: the most entries, ≥ 1.

    Attributes:
        size: how many entries are stored.
        newest_id: the id of the entry added last, −1 if there is none.
    """

    def __init__(self, key_size: int, n_actions: int, capacity: int) -> None:
        self.key_size = key_size
        self.n_actions = n_actions
        self.capacity = capacity
        self.size = 0
        self.newest_id = -1
        self._next = 0  # the slot of the next entry
        self._ids = np.zeros(capacity, np.int64)
        self._keys = np.zeros((capacity, key_size), np.float32)
        self._actions = np.zeros(capacity, np.int64)
        self._values = np.zeros(capacity)
        self._rewards = np.zeros(capacity)
        self._ends = np.zeros(capacity, np.bool_)

    @property
    def transition_count(self) -> int:
        """How many entries are transitions: all, or all but the newest."""
        if not self.size:
            return 0
        return self.size - (not self._ends[self._next - 1])

    def add(
        self,
        key: npt.ArrayLike,
        action: int,
        hyper_return: float,
        reward: float,
        *,
        ends: bool,
        entry_id: int,
    ) -> list[int]:
        """Store a decision that was learned from; return the ids of entries that had to go.

        Raises:
            ValueError: a number is not finite, the key has another size, the action is off the
                grid, or the id is not above all stored; nothing has changed then.
        """
        stored_key = checked_keys(key, (self.key_size,))
        checked = checked_write(action, hyper_return, entry_id, self.n_actions, self.newest_id)
        if not np.isfinite(reward):
            raise ValueError(f"expected a finite hyper-reward, got {reward}")
        slot = self._next
        evicted = [int(self._ids[slot])] if self.size == self.capacity else []
        self._keys[slot] = stored_key
        self._actions[slot], self._values[slot], self._ids[slot] = checked
        self._rewards[slot] = reward
        self._ends[slot] = ends
        self.newest_id = checked[2]
        self.size = min(self.size + 1, self.capacity)
        self._next = (slot + 1) % self.capacity
        return evicted

    def sample(self, count: int, rng: np.random.Generator) -> Transitions:
        """Transitions drawn uniformly, with replacement; there must be one."""
        slots = self._slots()[rng.integers(self.transition_count, size=count)]
        following = (slots + 1) % self.capacity
        return Transitions(
            self._keys[slots],
            self._actions[slots],
            self._rewards[slots],
            self._keys[following],
            self._ends[slots],
        )

    def load(self, steps: Steps) -> None:
        """Fill an empty replay with entries of another, the earliest first; the newest that fit.

        Raises:
            ValueError: it is not empty, or an entry is off; nothing has changed then.
        """
        if self.size:
            raise ValueError(f"expected an empty replay to load into, got {self.size} entries")
        entries = checked_entries(
            steps.ids, steps.keys, steps.actions, steps.values, self.key_size, self.n_actions
        )
        if not np.isfinite(steps.rewards).all():
            raise ValueError("expected finite hyper-rewards, got NaN or infinity")
        newest = slice(-self.capacity, None)
        self.size = len(entries.ids[newest])
        self._next = self.size % self.capacity
        filled = slice(self.size)
        self._ids[filled] = entries.ids[newest]
        self._keys[filled] = entries.keys[newest]
        self._actions[filled] = entries.actions[newest]
        self._values[filled] = entries.values[newest]
        self._rewards[filled] = steps.rewards[newest]
        self._ends[filled] = steps.ends[newest]
        self.newest_id = int(entries.ids[-1]) if self.size else -1

    def entries(self) -> Steps:
        """Copies of all entries, the earliest added first."""
        return self._copied(self._slots())

    def entries_after(self, entry_id: int) -> Steps:
        """Copies of the entries with a greater id, the earliest added first."""
        slots = self._slots()
        return self._copied(slots[np.searchsorted(self._ids[slots], entry_id, "right") :])

    def rekeyed(self, entries: Steps) -> Replay:
        """A new replay of the same settings with these entries, for keys of a new encoder."""
        other = Replay(entries.keys.shape[1], self.n_actions, self.capacity)
        other.load(entries)
        return other

    def build_index(self) -> None:
        """Nothing is searched for in a replay."""

    def take_over(self, live: Replay, late_keys: npt.ArrayLike) -> None:
        """Bring this replay, made by `live.rekeyed`, up to what `live` holds now.

        Args:
            live: the replay that went on being filled.
            late_keys: new keys of `live.entries_after(self.newest_id)`.

        Raises:
            ValueError: the keys do not fit.
        """
        late = live.entries_after(self.newest_id)
        for key, action, value, reward, ends, entry_id in zip(
            checked_keys(late_keys, (len(late), self.key_size)),
            late.actions.tolist(), late.values.tolist(), late.rewards.tolist(),
            late.ends.tolist(), late.ids.tolist(), strict=True,
        ):  # fmt: skip
            self.add(key, action, value, reward, ends=ends, entry_id=entry_id)

    def _slots(self) -> Int[np.ndarray, " entries"]:
        """All slots in use, the earliest added first."""
        return np.arange(self._next - self.size, self._next) % self.capacity

    def _copied(self, slots: Int[np.ndarray, " n"]) -> Steps:
        return Steps(
            self._ids[slots], self._keys[slots], self._actions[slots], self._values[slots],
            self._rewards[slots], self._ends[slots],
        )  # fmt: skip
