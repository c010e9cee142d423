"""EPGT: epsilon-greedy over an episodic memory of hyper-states.

Source: Le et al., Episodic Policy Gradient Training, AAAI 2022, Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hyperoracle_protocol.hyper_state import HyperStateLayout, TensorShape, sketch_layout
from hyperoracle_server.encoder.architecture import Architecture
from hyperoracle_server.encoder.serving import ServedEncoder
from hyperoracle_server.encoder.state import EncoderState, initial_state
from hyperoracle_server.exploration import epsilon_at, epsilon_greedy
from hyperoracle_server.hyper_agents.base import (
    Decision,
    Evidence,
    MemoryEffect,
    Moment,
    Outcome,
)
from hyperoracle_server.hyper_agents.notes import WithoutNotes
from hyperoracle_server.memory.base import MemorySettings, Reading
from hyperoracle_server.memory.episodic import EpisodicMemory

if TYPE_CHECKING:
    from hyperoracle_protocol.studies import EncoderSetting, EpgtStrategy
    from hyperoracle_server.hyper_actions import HyperActionGrid


@dataclass
class Recollection:
    """Encoder and memory of all jobs whose hyper-states have one layout.

    Attributes:
        layout: the hyper-states' layout.
        state: the encoder's training state at the published version.
        encoder: the published encoder.
        memory: keys of that encoder's version.
        revision: how many writes the memory has seen since the server started.
        samples_through: newest proposal that the published version was trained on.
    """

    layout: HyperStateLayout
    state: EncoderState
    encoder: ServedEncoder
    memory: EpisodicMemory
    revision: int = 0
    samples_through: int = 0


def architecture_of(layout: HyperStateLayout, setting: EncoderSetting) -> Architecture:
    """The encoder for hyper-states of this layout."""
    if layout.kind == "statistics":
        return Architecture.of_statistics(
            layout.feature_count, setting.kind, setting.hidden_size, setting.key_size
        )
    blocks = tuple(
        (tensor.rows, layout.width)
        for tensor in layout.tensors
        for _order in range(layout.orders + 1)
    )
    width = min(setting.projected_width, layout.width)
    kind: Literal["vae", "random"] = "random" if setting.kind == "random" else "vae"
    return Architecture.of_sketch(blocks, kind, width, setting.hidden_size, setting.key_size)


class EpisodicAgent(WithoutNotes):
    """Reads the memory at phi(s) (Eq. 3), is epsilon-greedy on it, writes with Eq. 4.

    Hyper-states of different layouts (jobs of different architectures) cannot be compared: each
    layout has an encoder and a memory of its own (`recollections`, by layout signature).
    """

    def __init__(self, grid: HyperActionGrid, strategy: EpgtStrategy, seed: int) -> None:
        self._grid = grid
        self.strategy = strategy
        self._seed = seed
        self.recollections: dict[str, Recollection] = {}

    def layout_for(self, tensors: list[TensorShape], seed: int) -> HyperStateLayout:
        """The sketch layout of the job's last tensors, or the statistics."""
        setting = self.strategy.hyper_state
        if setting.kind == "statistics":
            return HyperStateLayout(kind="statistics", dtype=setting.dtype)
        return sketch_layout(
            tensors,
            seed=seed,
            width=setting.width,
            orders=setting.orders,
            dtype=setting.dtype,
            last_weights=setting.last_weights,
            last_biases=setting.last_biases,
        )

    def open_layout(self, layout: HyperStateLayout, state: EncoderState | None = None) -> None:
        """Make room for hyper-states of a layout, with a stored encoder state or a fresh one."""
        if layout.signature in self.recollections:
            return
        architecture = architecture_of(layout, self.strategy.encoder)
        if state is None:
            state = initial_state(architecture, self._seed)
        encoder = ServedEncoder(state)
        self.recollections[layout.signature] = Recollection(
            layout, state, encoder, self.empty_memory(encoder.key_size)
        )

    def empty_memory(self, key_size: int) -> EpisodicMemory:
        """A memory with this study's settings."""
        setting = self.strategy.memory
        settings = MemorySettings(
            capacity=setting.capacity,
            neighbours_read=setting.neighbours_read,
            neighbours_write=setting.neighbours_write,
            write_rate=setting.write_rate,
            write_rule=setting.write_rule,
            reading=setting.reading,
            unknown=setting.unknown,
            index=setting.index,
        )
        return EpisodicMemory(key_size, self._grid.joint_count, settings)

    def decide(self, moment: Moment, rng: np.random.Generator) -> Decision:
        """Read the memory at the hyper-state's key and choose epsilon-greedily."""
        recollection = self.recollections[moment.layout_signature]
        assert moment.features is not None, "an episodic layout has features"
        key = recollection.encoder.encode(moment.features)
        reading = recollection.memory.read(key)
        if moment.role == "control":
            action, explored, epsilon, propensity = self._grid.default_joint_index, False, 0.0, 1.0
        else:
            epsilon = self._epsilon(moment)
            action, explored, propensity = epsilon_greedy(reading.q_values, epsilon, rng)
        return Decision(
            hyper_action=action,
            explored=explored,
            epsilon=epsilon,
            propensity=propensity,
            encoder_version=recollection.state.version,
            memory_revision=recollection.revision,
            key=key,
            evidence=_evidence(reading, action),
        )

    def _epsilon(self, moment: Moment) -> float:
        setting = self.strategy.exploration
        if moment.role == "explore":
            return setting.start
        if moment.role == "exploit":
            return setting.end
        return epsilon_at(moment.progress, setting.start, setting.end, setting.fraction)

    def learn(self, outcome: Outcome) -> MemoryEffect | None:
        """Write the hyper-return under the key of the present encoder version (Eq. 4)."""
        recollection = self.recollections[outcome.layout_signature]
        version = recollection.state.version
        key = outcome.key
        if key is None or outcome.encoder_version != version:
            assert outcome.features is not None, "an episodic layout has features"
            key = recollection.encoder.encode(outcome.features)
        effect = recollection.memory.write(
            key, outcome.hyper_action, outcome.hyper_return, outcome.entry_id
        )
        recollection.revision += 1
        return MemoryEffect(
            inserted_key=key if effect.inserted else None,
            encoder_version=version,
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
