"""EPGT: epsilon-greedy over an episodic memory of hyper-states.

Source: Le et al., Episodic Policy Gradient Training, AAAI 2022, Algorithm 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from hyperoracle_server.keyed.agent import KeyedAgent, Recollection
from hyperoracle_server.keyed.cost import SECONDS_PER_STEP, FullSize, remedies, scan_seconds
from hyperoracle_server.keyed.memory.base import MemorySettings, Reading
from hyperoracle_server.keyed.memory.episodic import EpisodicMemory
from hyperoracle_server.keyed.memory.hnsw import HnswSettings
from hyperoracle_server.strategies.base import INDEX_RECALL
from hyperoracle_server.strategies.decisions import Evidence, MemoryEffect

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from hyperoracle_protocol.strategies import EpgtStrategy
    from hyperoracle_server.strategies.base import Given, Kept
    from hyperoracle_server.strategies.decisions import Decision, Entries, Moment, Outcome
    from hyperoracle_server.strategies.grid import HyperActionGrid


WRITE_SECONDS = 2e-4
"""What a write to the memory takes, with the rows that make it durable."""

GRAPH_SECONDS = 2e-5
"""What a search in the graph of one hyper-action takes."""


class EpisodicAgent(KeyedAgent[EpisodicMemory]):
    """Reads the memory at phi(s) (Eq. 3), is epsilon-greedy on it, writes with Eq. 4."""

    background: ClassVar[tuple[str, ...]] = (
        *KeyedAgent.background,
        "hyperoracle_server.keyed.indexes:IndexBuilds",
        "hyperoracle_server.keyed.indexes:RecallSamples",
    )
    remedies = remedies(capacity="strategy.memory.capacity", learning="strategy.memory.capacity")

    def __init__(
        self,
        grid: HyperActionGrid,
        strategy: EpgtStrategy,
        seed: int,
        index_recall: float = INDEX_RECALL,
    ) -> None:
        super().__init__(grid, strategy, seed)
        self._hnsw = HnswSettings(recall=index_recall)
        setting = strategy.memory
        self._settings = MemorySettings(
            capacity=setting.capacity,
            neighbours_read=setting.neighbours_read,
            neighbours_write=setting.neighbours_write,
            write_rate=setting.write_rate,
            write_rule=setting.write_rule,
            reading=setting.reading,
            unknown=setting.unknown,
            index=setting.index,
        )

    @classmethod
    def of(cls, given: Given) -> Self:
        """With the study's settings."""
        return cls(given.grid, given.strategy, given.seed, given.index_recall)

    @classmethod
    def full_size(cls, strategy: Any, key_size: int, actions: int) -> FullSize:
        """A full memory that is scanned."""
        del actions
        capacity = strategy.memory.capacity
        scan = scan_seconds(capacity, key_size)
        return FullSize(capacity, scan, SECONDS_PER_STEP + scan, 0)

    @property
    def capacity(self) -> int:
        """N_mem."""
        return self._settings.capacity

    def empty_memory(self, key_size: int) -> EpisodicMemory:
        """A memory with this study's settings."""
        return EpisodicMemory(key_size, self._grid.joint_count, self._settings, self._hnsw)

    def load(
        self,
        signature: str,
        entries: Entries,
        hyper_rewards: Float[np.ndarray, " entries"],
        ends_episode: Bool[np.ndarray, " entries"],
    ) -> None:
        """Fill an empty memory; it knows hyper-returns only."""
        del hyper_rewards, ends_episode
        memory = self.recollections[signature].memory
        memory.load(entries.ids, entries.keys, entries.actions, entries.values)

    def _kept(self, recollection: Recollection[EpisodicMemory]) -> Kept:
        """With the search graphs."""
        memory = recollection.memory
        graphs = len(memory.graph_efforts)
        return super()._kept(recollection)._replace(graphs=graphs, recall=memory.graph_recall)

    def why_greatest(self, actions: int, known: int) -> str:
        """By what the memory knew."""
        if known == 0:
            return "the memory knew nothing here: ties are broken at random"
        return f"the greatest value among {actions} hyper-actions, {known} of them known"

    def search_seconds(self, recollection: Recollection[EpisodicMemory]) -> float:
        """A scan of all keys, unless there are search graphs."""
        memory = recollection.memory
        if memory.approximate:
            return self._grid.joint_count * GRAPH_SECONDS
        return scan_seconds(memory.size, memory.key_size)

    def learn_seconds(self, job_id: int, signature: str, outcomes: int) -> float:
        """Each outcome is a search among the entries of one hyper-action, and a write."""
        del job_id
        recollection = self.recollections.get(signature)
        if recollection is None:
            return 0.0
        return outcomes * (WRITE_SECONDS + self.search_seconds(recollection))

    def decide(self, moment: Moment, rng: np.random.Generator) -> Decision:
        """Read the memory at the hyper-state's key and choose epsilon-greedily."""
        recollection, key = self._encoded(moment)
        reading = recollection.memory.read(key)
        self.mark("search")
        decision = self._decision(moment, recollection, key, reading.q_values, rng)
        return decision._replace(evidence=_evidence(reading, decision.hyper_action))

    def learn(self, outcome: Outcome) -> MemoryEffect | None:
        """Write the hyper-return under the key of the present encoder version (Eq. 4)."""
        recollection = self.recollections[outcome.layout_signature]
        key = self._present_key(outcome)
        effect = recollection.memory.write(
            key, outcome.hyper_action, outcome.hyper_return, outcome.entry_id
        )
        recollection.revision += 1
        return MemoryEffect(
            inserted_key=key if effect.inserted else None,
            encoder_version=recollection.state.version,
            updated=list(
                zip(effect.updated_ids.tolist(), effect.updated_values.tolist(), strict=True)
            ),
            evicted=np.asarray(effect.evicted_ids).tolist(),
        )


def _evidence(reading: Reading, action: int) -> Evidence:
    """What was read, with the neighbours of the chosen hyper-action, nearest first."""
    present = reading.ids[action] >= 0
    return Evidence(
        q_values=reading.q_values,
        known=reading.known,
        neighbour_ids=reading.ids[action][present],
        neighbour_distances=reading.squared_distances[action][present],
        neighbour_values=reading.values[action][present],
    )
