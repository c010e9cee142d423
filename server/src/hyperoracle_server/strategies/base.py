"""Who chooses: the base class of all hyper-agents.

A hyper-agent decides (`decide`, on the propose path) and learns (`learn`, on the report path). It
knows no HTTP, no store and no clock: what it learned comes back as a `MemoryEffect`, and what it
noted of a job as JSON (`notes`); the study makes both durable, and hands the notes back at a
restart (`restore`). One study has one hyper-agent, and one caller at a time (the study's lock).

Unless a hyper-agent says otherwise it needs, learns, keeps and does nothing beside its decisions.
The rest of the server asks through these methods only and knows no kind of hyper-agent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Self

from hyperoracle_protocol.hyper_state import HyperStateLayout
from hyperoracle_protocol.space import Categorical, bins_per_hyperparameter
from hyperoracle_protocol.strategies import LearningEpisodeSetting
from hyperoracle_server.strategies.notes import JobNotes, Note

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from jaxtyping import Bool, Float

    from hyperoracle_protocol.hyper_state import TensorShape
    from hyperoracle_protocol.jobs import Role
    from hyperoracle_protocol.studies import StudyDefinition
    from hyperoracle_server.strategies.decisions import (
        CurvePoint,
        Decision,
        Entries,
        MemoryEffect,
        Moment,
        Outcome,
    )
    from hyperoracle_server.strategies.evidence.job_account import Ending
    from hyperoracle_server.strategies.evidence.shareability import SharedRecords
    from hyperoracle_server.strategies.grid import HyperActionGrid
    from hyperoracle_server.telemetry.observer import Stage

MODEL_SECONDS = 0.05
"""About what a model of all jobs takes, to ask it or to fit it: some hundredths of a second."""

SECONDS_PER_HYPER_ACTION = 1.2e-7
"""Of a hyper-action's value at a decision."""

INDEX_RECALL = 0.95
"""The share of true neighbours that search graphs have to find, unless a server says otherwise."""


class Given(NamedTuple):
    """What a hyper-agent is made of.

    Attributes:
        definition: the study's.
        grid: of its search space.
        seed: the study's.
        index_recall: the share of true neighbours that search graphs have to find.
    """

    definition: StudyDefinition
    grid: HyperActionGrid
    seed: int
    index_recall: float = INDEX_RECALL

    @property
    def strategy(self) -> Any:
        """The settings; of the class whose `name` leads to the hyper-agent in the registry."""
        return self.definition.strategy

    @property
    def ordered(self) -> list[bool]:
        """Per hyperparameter whether its bins have an order."""
        return [not isinstance(each, Categorical) for each in self.definition.space.values()]


class StudyCost(NamedTuple):
    """What a study costs at its full size.

    Attributes:
        decide_seconds: of processor time for one proposal.
        learn_seconds: for one credited decision of a report.
        memory_bytes: networks, encoders of all layouts, remembered entries.
        disk_bytes: hyper-states that are kept, encoders, networks; without the rows of decisions
            and reports, which grow with what jobs do.
    """

    decide_seconds: float
    learn_seconds: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0


class Kept(NamedTuple):
    """What is kept under the keys of one hyper-state layout.

    Attributes:
        entries: how many.
        encoder_version: that the keys are of.
        encoder_bytes: of that encoder's state, where it was trained.
        what: names the keys, for people.
        graphs: search graphs that answer; None where there cannot be any.
        recall: the least share of true neighbours that these found when last looked at.
    """

    entries: int
    encoder_version: int
    encoder_bytes: int
    what: str
    graphs: int | None = None
    recall: float = 1.0


class GuardState(NamedTuple):
    """What guards did; see the protocol's `GuardReport`."""

    jobs_back_at_default: int
    times_behind: int
    jobs_until_freed: int


class BackgroundWork(ABC):
    """What is done beside the calls, for the studies whose hyper-agents ask for it.

    It is made with the oracle, once one of its studies wants it; see `HyperAgent.background`.

    Attributes:
        every_seconds: least time between two runs, and before the first; 0 is each look.
    """

    every_seconds: ClassVar[float] = 0.0

    @abstractmethod
    def __init__(self, oracle: Any) -> None: ...

    @abstractmethod
    def run(self, studies: Sequence[Any], stop: threading.Event) -> None:
        """Do what is due; one caller at a time, no lock held.

        Args:
            studies: that want it now, as they are at work; may be none.
            stop: is set once the server ends: what is under way is then given up.
        """

    def close(self) -> None:  # noqa: B027 - what is short need not be given up
        """Give up what is under way, from another thread than that of `run`; may come twice."""


class HyperAgent(ABC, Generic[Note]):
    """Chooses hyper-actions and learns from what they led to.

    Args:
        kind_of_note: the dataclass of what it notes of a job; `NoNote` where it notes nothing.

    Attributes:
        kind_of_note: as it was given.
        mark: is told which stage of a decision has just ended.
        needs_hyper_states: whether its jobs send hyper-states, of which it makes keys.
        keeps_records: whether its jobs leave records that others of the study could use.
        background: where the classes of its `BackgroundWork` are ("module:Class"): beside the
            calls its studies need a store, which no hyper-agent knows.
        remedies: which settings to lower where a study costs too much, for each of `StudyCost`.
        why_chosen: why a decision is what it is, where chance had no part in it.
        why_explored: the same where chance chose.
    """

    needs_hyper_states: ClassVar[bool] = False
    keeps_records: ClassVar[bool] = False
    background: ClassVar[tuple[str, ...]] = ()
    remedies: ClassVar[tuple[str, ...]] = ("the number of values in the space",) * 4
    why_chosen: ClassVar[str] = "what the strategy holds to be best"
    why_explored: ClassVar[str] = "explored: chance chose"

    def __init__(self, kind_of_note: type[Note]) -> None:
        self.kind_of_note = kind_of_note
        self._jobs = JobNotes(kind_of_note)
        self.mark: Callable[[Stage], None] = lambda _stage: None

    @classmethod
    @abstractmethod
    def of(cls, given: Given) -> Self:
        """The hyper-agent of a study, without memories."""

    # -- deciding ------------------------------------------------------------------------------

    @abstractmethod
    def decide(self, moment: Moment, rng: np.random.Generator) -> Decision:
        """Choose a hyper-action; changes nothing but the notes of the asking job."""

    def assigned_role(
        self,
        number: int,
        block_stream: Callable[[int], np.random.Generator],
        rng: np.random.Generator,
    ) -> Role:
        """The role of a job that asked for none; `auto` where roles make no difference.

        Args:
            number: how many jobs the study had before.
            block_stream: chance that several jobs share, by number.
            rng: chance of this job.
        """
        del number, block_stream, rng
        return "auto"

    def lacks_signal(self, signals: Mapping[str, float]) -> bool:
        """Whether a proposal's request lacks the signal that it decides by."""
        del signals
        return False

    def why(self, *, explored: bool, epsilon: float, known: Sequence[bool]) -> str:
        """Why a decision is what it is, in a line for people.

        Args:
            explored: whether chance chose.
            epsilon: the exploration rate then.
            known: per joint hyper-action whether anything was known; empty without evidence.
        """
        del epsilon, known
        return self.why_explored if explored else self.why_chosen

    # -- learning ------------------------------------------------------------------------------

    def learn(self, outcome: Outcome) -> MemoryEffect | None:
        """Take in an outcome; None where nothing is remembered."""
        del outcome
        return None

    @property
    def learning_episode(self) -> LearningEpisodeSetting:
        """How returns become hyper-returns."""
        return LearningEpisodeSetting()

    def observe(self, job_id: int, curve: Sequence[CurvePoint]) -> None:
        """Take in a job's returns as its reports are applied, before the outcomes they settle."""

    def not_applied(self, job_id: int, sequences: Sequence[int]) -> None:
        """A job did not use what was decided, but its defaults."""

    def used_otherwise(self, job_id: int, sequences: Sequence[int]) -> None:
        """A job used other values than was decided, neither these nor its defaults."""

    def withdraws(self, job_id: int) -> bool:
        """Whether the decision that a job holds should be replaced before its time."""
        del job_id
        return False

    def close(self, job_id: int, ending: Ending) -> None:
        """A job ended, at its planned end or before; it may be resumed."""

    def reopen(self, job_id: int) -> None:
        """A job that had ended goes on."""

    # -- notes and states ----------------------------------------------------------------------

    def notes(self, job_id: int) -> str | None:
        """All that is noted of a job, as JSON; None where nothing is."""
        return self._jobs.dump(job_id)

    def restore(self, job_id: int, notes: str) -> None:
        """Take `notes` back after a restart; the jobs come in order of their numbers."""
        self._jobs.restore(job_id, notes)

    def check_note(self, note: Note) -> None:
        """Look whether a note, whose types are right, is one that it writes.

        Raises:
            ValueError: it is not; says what is off.
        """

    def counted(self, note: Note) -> Note:
        """A note with 0 for what stands in a number's place and is none, such as −1.

        What remains must be counts and numbers that returns can come to.
        """
        return note

    def changed_states(self) -> dict[str, bytes]:
        """What was learned beside memory and notes and changed since the last call, by name."""
        return {}

    def restore_state(self, name: str, state: bytes) -> None:
        """Take the newest of `changed_states` back after a restart, the memory being there."""

    # -- hyper-states and what is kept under their keys ----------------------------------------

    def layout_for(self, tensors: list[TensorShape], seed: int) -> HyperStateLayout:
        """The hyper-state that a job with these tensors is to send.

        Raises:
            ValueError: the tensors do not suffice for it.
        """
        del tensors, seed
        return HyperStateLayout(kind="none")

    @property
    def samples_needed(self) -> int:
        """How many of a layout's newest hyper-states are kept to learn from, at least 1."""
        return 1

    def is_open(self, layout: HyperStateLayout) -> bool:
        """Whether there is room for hyper-states of a layout already; no lock is needed."""
        del layout
        return True

    def fresh_encoder(self, layout: HyperStateLayout) -> Any:
        """What opening a layout needs; it may take seconds and needs no lock."""
        del layout

    def open_layout(self, layout: HyperStateLayout, fresh: Any = None) -> None:
        """Make room for hyper-states of a layout; what is open already stays as it is.

        Args:
            layout: of a job.
            fresh: what `fresh_encoder` gave for it; None makes it now.
        """

    def restore_layout(
        self, layout: HyperStateLayout, encoder: bytes | None, samples_through: int
    ) -> int:
        """Open a layout after a restart.

        Args:
            layout: of the study's jobs.
            encoder: the state of the newest encoder, None where none was published.
            samples_through: newest proposal that it was trained on.

        Returns:
            The version of the encoder, whose keys `load` brings.
        """
        del layout, encoder, samples_through
        return 0

    def load(
        self,
        signature: str,
        entries: Entries,
        hyper_rewards: Float[np.ndarray, " entries"],
        ends_episode: Bool[np.ndarray, " entries"],
    ) -> None:
        """Fill the empty memory of a layout with entries of the ledger, the earliest first.

        Args:
            signature: of the layout.
            entries: with keys of the present encoder version.
            hyper_rewards: of the outcomes that they come from.
            ends_episode: of the same.
        """

    @property
    def capacity(self) -> int | None:
        """The most entries that are kept per layout; None where none are."""
        return None

    def kept(self) -> dict[str, Kept]:
        """What is kept, by layout signature; the lock need not be held."""
        return {}

    def entries(self, signature: str) -> Entries:
        """Copies of all entries of a layout in `kept`, the earliest added first."""
        raise KeyError(signature)

    def shared_records(self) -> list[SharedRecords]:
        """Records beside `entries` that jobs left, one for each space of keys; copies."""
        return []

    def guards(self) -> GuardState | None:
        """What guards did so far, and do now; None where it has none."""
        return None

    # -- what it costs -------------------------------------------------------------------------

    @classmethod
    def cost(cls, definition: StudyDefinition, layouts: Sequence[HyperStateLayout]) -> StudyCost:
        """What a study costs at its full size, from its definition; see `cost.study_cost`."""
        del layouts
        actions = prod(bins_per_hyperparameter(definition.space))
        return StudyCost(actions * SECONDS_PER_HYPER_ACTION)

    def decide_seconds(self, job_id: int, signature: str) -> float:
        """About how long `decide` takes for a job now, from sizes; called without the lock.

        Args:
            job_id: the job's number in the ledger.
            signature: of its hyper-states.
        """
        del job_id, signature
        return 0.0

    def learn_seconds(self, job_id: int, signature: str, outcomes: int) -> float:
        """About how long a report with so many outcomes takes; as `decide_seconds`."""
        del job_id, signature, outcomes
        return 0.0
