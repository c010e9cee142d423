"""DQN as the hyper-agent: the paper's parametric rival of the episodic memory.

The Hyper-RL problem is the paper's: a state is the key of a hyper-state, an action a joint
hyper-action, the reward Eq. 1 (0 but at the last update of a phase, there the return G), an episode
a learning episode. So a transition is (key, hyper-action, hyper-reward, key of the job's next
decision within the learning episode, whether the episode ended), and with one phase per episode,
the paper's n = 1, nothing is looked for beyond the report that brings G. Decisions that were not
applied or not credited are no part of it. With `write_every` decisions between those learned from
are stepped over; their hyper-rewards are 0.

Source: Le et al., Episodic Policy Gradient Training, AAAI 2022, section "Why episodic control"
(DQN on the Hyper-RL problem); Mnih et al., Nature 2015.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from hyperoracle_server.keyed.agent import FreshEncoder, KeyedAgent, Recollection
from hyperoracle_server.keyed.cost import (
    FullSize,
    learn_seconds,
    network_bytes,
    pass_seconds,
    remedies,
)
from hyperoracle_server.keyed.dqn.learner import QLearner
from hyperoracle_server.keyed.dqn.replay import Replay, Steps
from hyperoracle_server.strategies.decisions import Evidence, MemoryEffect

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from hyperoracle_protocol.hyper_state import HyperStateLayout
    from hyperoracle_protocol.strategies import DqnStrategy
    from hyperoracle_server.strategies.base import Given
    from hyperoracle_server.strategies.decisions import Decision, Entries, Moment, Outcome
    from hyperoracle_server.strategies.grid import HyperActionGrid

_NO_IDS = np.empty(0, np.int64)
_NO_NUMBERS = np.empty(0, np.float64)


class DqnAgent(KeyedAgent[Replay]):
    """Epsilon-greedy on a Q-network at phi(s); one network per layout, for all jobs of the study.

    The replay is kept as the episodic memory is, entry by entry, and encoded anew with each encoder
    version; the network goes on from its weights and learns the new keys.
    """

    remedies = remedies(
        capacity="strategy.q_learning.replay_capacity",
        learning="strategy.q_learning.gradient_steps, batch_size or hidden_size",
    )

    def __init__(self, grid: HyperActionGrid, strategy: DqnStrategy, seed: int) -> None:
        super().__init__(grid, strategy, seed)
        self._q_learning = strategy.q_learning
        self._learners: dict[str, QLearner] = {}
        self._changed: set[str] = set()

    @classmethod
    def of(cls, given: Given) -> Self:
        """With the study's settings."""
        return cls(given.grid, given.strategy, given.seed)

    @classmethod
    def full_size(cls, strategy: Any, key_size: int, actions: int) -> FullSize:
        """A full replay and the network."""
        setting = strategy.q_learning
        return FullSize(
            capacity=setting.replay_capacity,
            search_seconds=pass_seconds(key_size, actions, setting),
            learn_seconds=learn_seconds(key_size, actions, setting),
            network_bytes=network_bytes(key_size, actions, setting),
        )

    def why_greatest(self, actions: int, known: int) -> str:
        """By the network, which knows of all hyper-actions or of none."""
        trained = "" if known else ", which has not been trained yet"
        return f"the greatest of {actions} values of the Q-network{trained}"

    @property
    def capacity(self) -> int:
        """The most transitions that are kept per layout."""
        return self._q_learning.replay_capacity

    def empty_memory(self, key_size: int) -> Replay:
        """An empty replay."""
        return Replay(key_size, self._grid.joint_count, self.capacity)

    def open_layout(self, layout: HyperStateLayout, fresh: FreshEncoder | None = None) -> None:
        """Make room for a layout, with a fresh network."""
        super().open_layout(layout, fresh)
        if layout.signature not in self._learners:
            self._learners[layout.signature] = QLearner(
                self.recollections[layout.signature].encoder.key_size,
                self._grid.joint_count,
                self._q_learning,
                self._seed,
                layout.signature,
            )

    def load(
        self,
        signature: str,
        entries: Entries,
        hyper_rewards: Float[np.ndarray, " entries"],
        ends_episode: Bool[np.ndarray, " entries"],
    ) -> None:
        """Fill an empty replay."""
        steps = Steps(
            entries.ids, entries.keys, entries.actions, entries.values, hyper_rewards, ends_episode
        )
        self.recollections[signature].memory.load(steps)

    def search_seconds(self, recollection: Recollection[Replay]) -> float:
        """One pass through the network."""
        return self._learners[recollection.layout.signature].pass_seconds

    def learn_seconds(self, job_id: int, signature: str, outcomes: int) -> float:
        """Each outcome earns its gradient steps."""
        del job_id
        recollection = self.recollections.get(signature)
        if recollection is None:
            return 0.0
        key_size = recollection.encoder.key_size
        return outcomes * learn_seconds(key_size, self._grid.joint_count, self._q_learning)

    def decide(self, moment: Moment, rng: np.random.Generator) -> Decision:
        """Ask the network what hyper-actions are worth at the key, and choose epsilon-greedily."""
        recollection, key = self._encoded(moment)
        learner = self._learners[moment.layout_signature]
        q_values = learner.q_values(key)
        decision = self._decision(moment, recollection, key, q_values, rng)
        known = np.full(len(q_values), learner.updates > 0)
        evidence = Evidence(q_values, known, _NO_IDS, _NO_NUMBERS, _NO_NUMBERS)
        return decision._replace(evidence=evidence)

    def learn(self, outcome: Outcome) -> MemoryEffect | None:
        """Put the decision into the replay and make its gradient steps."""
        signature = outcome.layout_signature
        recollection, learner = self.recollections[signature], self._learners[signature]
        key = self._present_key(outcome)
        evicted = recollection.memory.add(
            key,
            outcome.hyper_action,
            outcome.hyper_return,
            outcome.hyper_reward,
            ends=outcome.ends_episode,
            entry_id=outcome.entry_id,
        )
        recollection.revision += 1
        learner.see(outcome.hyper_return)
        learner.learn(recollection.memory)
        self._changed.add(signature)
        return MemoryEffect(
            inserted_key=key,
            encoder_version=recollection.state.version,
            updated=[],
            evicted=evicted,
        )

    def changed_states(self) -> dict[str, bytes]:
        """The networks that learned, with all that their training needs, by layout signature."""
        states = {name: self._learners[name].to_bytes() for name in sorted(self._changed)}
        self._changed.clear()
        return states

    def restore_state(self, name: str, state: bytes) -> None:
        """Take a network back; its layout is open."""
        self._learners[name].restore(state)
