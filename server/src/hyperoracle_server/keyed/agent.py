"""What the hyper-agents that decide by keys of hyper-states share: encoders, and what is kept.

Hyper-states of different layouts (jobs of different architectures) cannot be compared: each layout
has an encoder and a store of entries of its own, a `Recollection`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np

from hyperoracle_protocol.hyper_state import HyperStateLayout, TensorShape, sketch_layout
from hyperoracle_server.keyed.cost import (
    FullSize,
    actions_of,
    encode_seconds,
    key_size_of,
    keyed_cost,
)
from hyperoracle_server.keyed.encoder.architecture import Architecture
from hyperoracle_server.keyed.encoder.serving import ServedEncoder
from hyperoracle_server.keyed.encoder.state import EncoderState, initial_state
from hyperoracle_server.keyed.exploration import EpsilonGreedyChoice, epsilon_at, epsilon_greedy
from hyperoracle_server.strategies.base import HyperAgent, Kept, StudyCost
from hyperoracle_server.strategies.decisions import Decision
from hyperoracle_server.strategies.notes import NoNote

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from jaxtyping import Bool, Float

    from hyperoracle_protocol.strategies import (
        EncoderSetting,
        KeyedStrategy,
        LearningEpisodeSetting,
    )
    from hyperoracle_protocol.studies import StudyDefinition
    from hyperoracle_server.strategies.decisions import Entries, Moment, Outcome
    from hyperoracle_server.strategies.grid import HyperActionGrid


class EntryStore(Protocol):
    """Entries under keys, as recovery, encoder rounds and inspection know them.

    Every call must be the only one at its time, but for `rekeyed` and `build_index` of what that
    gave: they work on copies.
    """

    @property
    def size(self) -> int:
        """How many entries are stored."""
        ...

    @property
    def newest_id(self) -> int:
        """The id of the entry added last, −1 if there is none."""
        ...

    def entries(self) -> Entries:
        """Copies of all entries, the earliest added first."""
        ...

    def entries_after(self, entry_id: int) -> Entries:
        """Copies of the entries with a greater id, the earliest added first."""
        ...

    def rekeyed(self, entries: Any) -> EntryStore:
        """A new store of the same settings with these entries of this one, under other keys."""
        ...

    def build_index(self) -> None:
        """Build what searching needs, if anything."""
        ...

    def take_over(self, live: Any, late_keys: npt.ArrayLike) -> None:
        """Bring this store, made by `live.rekeyed`, up to what `live` holds now.

        Args:
            live: the store that went on being written.
            late_keys: new keys of `live.entries_after(self.newest_id)`.
        """
        ...


Store = TypeVar("Store", bound=EntryStore)


@dataclass
class Recollection(Generic[Store]):
    """Encoder and entries of all jobs whose hyper-states have one layout.

    Attributes:
        layout: the hyper-states' layout.
        state: the encoder's training state at the published version.
        encoder: the published encoder.
        memory: entries under keys of that encoder's version.
        revision: how many outcomes were learned from since the server started.
        samples_through: newest proposal that the published version was trained on.
    """

    layout: HyperStateLayout
    state: EncoderState
    encoder: ServedEncoder
    memory: Store
    revision: int = 0
    samples_through: int = 0


class FreshEncoder(NamedTuple):
    """An encoder with nothing remembered under its keys yet."""

    state: EncoderState
    encoder: ServedEncoder


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


class KeyedAgent(HyperAgent[NoNote], Generic[Store]):
    """The half of a hyper-agent that makes keys of hyper-states and is epsilon-greedy.

    A subclass says what is kept (`empty_memory`, `load`), what hyper-actions are worth at a key
    (`decide`) and what is learned (`learn`).

    Args:
        grid: the joint hyper-actions.
        strategy: the settings.
        seed: the study's.

    Attributes:
        recollections: by layout signature.
    """

    needs_hyper_states: ClassVar[bool] = True
    keeps_records: ClassVar[bool] = True
    background: ClassVar[tuple[str, ...]] = ("hyperoracle_server.keyed.rounds:EncoderRounds",)

    def __init__(self, grid: HyperActionGrid, strategy: KeyedStrategy, seed: int) -> None:
        super().__init__(NoNote)
        self._grid = grid
        self.strategy = strategy
        self._seed = seed
        self.recollections: dict[str, Recollection[Store]] = {}

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

    @property
    def learning_episode(self) -> LearningEpisodeSetting:
        """As the study says."""
        return self.strategy.learning_episode

    @property
    def samples_needed(self) -> int:
        """What a training round draws from."""
        return self.strategy.encoder.replay

    def is_open(self, layout: HyperStateLayout) -> bool:
        """Whether there is an encoder for the layout."""
        return layout.signature in self.recollections

    def fresh_encoder(self, layout: HyperStateLayout) -> FreshEncoder:
        """An untrained encoder for a layout; it may take seconds, and needs no lock."""
        state = initial_state(architecture_of(layout, self.strategy.encoder), self._seed)
        return FreshEncoder(state, ServedEncoder(state))

    def open_layout(self, layout: HyperStateLayout, fresh: FreshEncoder | None = None) -> None:
        """Make room for hyper-states of a layout.

        Args:
            layout: what is open already stays as it is.
            fresh: its encoder, made before or brought back; None makes one now.
        """
        if layout.signature in self.recollections:
            return
        state, encoder = fresh or self.fresh_encoder(layout)
        self.recollections[layout.signature] = Recollection(
            layout, state, encoder, self.empty_memory(encoder.key_size)
        )

    def restore_layout(
        self, layout: HyperStateLayout, encoder: bytes | None, samples_through: int
    ) -> int:
        """Open a layout with the encoder that was published last."""
        fresh = None
        if encoder is not None:
            architecture = architecture_of(layout, self.strategy.encoder)
            state = EncoderState.from_bytes(encoder, architecture)
            fresh = FreshEncoder(state, ServedEncoder(state))
        self.open_layout(layout, fresh)
        recollection = self.recollections[layout.signature]
        recollection.samples_through = samples_through
        return recollection.state.version

    def kept(self) -> dict[str, Kept]:
        """Each layout's entries and the encoder that made their keys."""
        return {name: self._kept(each) for name, each in list(self.recollections.items())}

    def _kept(self, recollection: Recollection[Store]) -> Kept:
        layout, state = recollection.layout, recollection.state
        return Kept(
            entries=recollection.memory.size,
            encoder_version=state.version,
            # What is untrained is not stored.
            encoder_bytes=state.nbytes if state.version else 0,
            what=f"{self.strategy.encoder.kind} encoder version {state.version} of {layout.kind} "
            f"{layout.signature}",
        )

    def entries(self, signature: str) -> Entries:
        """The entries under keys of the present encoder version."""
        return self.recollections[signature].memory.entries()

    @classmethod
    def cost(cls, definition: StudyDefinition, layouts: Sequence[HyperStateLayout]) -> StudyCost:
        """Encoders, and what `full_size` says."""
        strategy: Any = definition.strategy
        full = cls.full_size(strategy, key_size_of(strategy), actions_of(definition))
        return keyed_cost(definition, strategy, layouts, full)

    @classmethod
    @abstractmethod
    def full_size(cls, strategy: Any, key_size: int, actions: int) -> FullSize:
        """What is kept under keys of this size, from the study's settings."""

    def decide_seconds(self, job_id: int, signature: str) -> float:
        """Encoding, and what `search_seconds` says."""
        del job_id
        recollection = self.recollections.get(signature)
        if recollection is None:
            return 0.0
        setting = self.strategy.encoder
        units = 0 if setting.kind == "plain" else setting.hidden_size
        encoding = encode_seconds(recollection.layout.feature_count, units)
        return encoding + self.search_seconds(recollection)

    @abstractmethod
    def search_seconds(self, recollection: Recollection[Store]) -> float:
        """About how long it takes to see what hyper-actions are worth at a key."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """The most entries that are kept per layout."""

    @abstractmethod
    def empty_memory(self, key_size: int) -> Store:
        """Room for entries with keys of this size, with this study's settings."""

    @abstractmethod
    def load(
        self,
        signature: str,
        entries: Entries,
        hyper_rewards: Float[np.ndarray, " entries"],
        ends_episode: Bool[np.ndarray, " entries"],
    ) -> None:
        """Fill the empty memory of a layout with entries of the ledger, the earliest first."""

    def why(self, *, explored: bool, epsilon: float, known: Sequence[bool]) -> str:
        """With the exploration rate where chance chose, else what `why_greatest` says."""
        if explored:
            return f"explored: chance chose, at epsilon {epsilon:.2f}"
        return self.why_greatest(len(known), sum(known))

    @abstractmethod
    def why_greatest(self, actions: int, known: int) -> str:
        """Why the greatest of so many values is what it is, something being known of `known`."""

    def _encoded(self, moment: Moment) -> tuple[Recollection[Store], Float[np.ndarray, " key"]]:
        """What is recalled for the asking job's layout, and the key of its hyper-state."""
        recollection = self.recollections[moment.layout_signature]
        assert moment.features is not None, "a layout of this hyper-agent has features"
        key = recollection.encoder.encode(moment.features)
        self.mark("encode")
        return recollection, key

    def _present_key(self, outcome: Outcome) -> Float[np.ndarray, " key"]:
        """The key of an outcome's hyper-state by the present encoder version."""
        recollection = self.recollections[outcome.layout_signature]
        if outcome.key is not None and outcome.encoder_version == recollection.state.version:
            return outcome.key
        assert outcome.features is not None, "a layout of this hyper-agent has features"
        return recollection.encoder.encode(outcome.features)

    def _decision(
        self,
        moment: Moment,
        recollection: Recollection[Store],
        key: Float[np.ndarray, " key_size"],
        q_values: Float[np.ndarray, " actions"],
        rng: np.random.Generator,
    ) -> Decision:
        """What is chosen epsilon-greedily, without its evidence."""
        choice, epsilon = self._choose(moment, q_values, rng)
        return Decision(
            hyper_action=choice.action,
            explored=choice.explored,
            epsilon=epsilon,
            propensity=choice.propensity,
            encoder_version=recollection.state.version,
            memory_revision=recollection.revision,
            key=key,
        )

    def _choose(
        self, moment: Moment, q_values: Float[np.ndarray, " actions"], rng: np.random.Generator
    ) -> tuple[EpsilonGreedyChoice, float]:
        """A hyper-action, epsilon-greedily; and epsilon. A control job gets the default.

        What jobs of the study died of is left out.
        """
        if moment.role == "control":
            return EpsilonGreedyChoice(
                self._grid.default_joint_index, explored=False, propensity=1.0
            ), 0.0
        epsilon = self._epsilon(moment)
        if not moment.avoided:
            return epsilon_greedy(q_values, epsilon, rng), epsilon
        allowed = np.flatnonzero(moment.avoided.allowed_actions)
        choice = epsilon_greedy(q_values[allowed], epsilon, rng)
        return choice._replace(action=int(allowed[choice.action])), epsilon

    def _epsilon(self, moment: Moment) -> float:
        setting = self.strategy.exploration
        if moment.role == "explore":
            return setting.start
        if moment.role == "exploit":
            return setting.end
        return epsilon_at(moment.progress, setting.start, setting.end, setting.fraction)
