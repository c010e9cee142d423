"""Who chooses: the small interface that every hyper-agent keeps.

A hyper-agent decides (`decide`, on the propose path) and learns (`learn`, on the report path). It
knows no HTTP, no store and no clock: what it learned comes back as a `MemoryEffect`, and
what it noted of a job as JSON (`notes`); the study makes both durable, and hands the notes back at
a restart (`restore`). One study has one hyper-agent, and one caller at a time (the study's lock).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from jaxtyping import Bool, Float, Int

    from hyperoracle_protocol.hyper_state import HyperStateLayout, TensorShape
    from hyperoracle_protocol.jobs import Role
    from hyperoracle_server.strategies.evidence.exposure import Avoided
    from hyperoracle_server.strategies.evidence.job_account import Ending
    from hyperoracle_server.strategies.evidence.shareability import SharedRecords


class Moment(NamedTuple):
    """The situation in which a decision is asked for.

    Attributes:
        job_id: the asking job's number in the ledger.
        role: what the job is for.
        env_step: env steps made.
        total_env_steps: planned, > 0.
        layout_signature: of the job's hyper-states.
        features: the hyper-state, None where the layout is `none`.
        sequence: of the request; an outcome names it again.
        signals: training signals of the last update, finite; whatever the job sent.
        task: which jobs it can be compared with: those of the same.
        avoided: bins that a job of this role keeps off because jobs died of them; None: nothing
            is known of any.
    """

    job_id: int
    role: Role
    env_step: int
    total_env_steps: int
    layout_signature: str
    features: Float[np.ndarray, " features"] | None
    sequence: int
    signals: Mapping[str, float]
    task: str = ""
    avoided: Avoided | None = None

    @property
    def progress(self) -> float:
        """Env steps made over env steps planned, in [0, 1]."""
        return min(1.0, self.env_step / self.total_env_steps)


class Evidence(NamedTuple):
    """What a decision was based on, kept for its explanation.

    Attributes:
        q_values: per joint hyper-action, float64.
        known: per joint hyper-action whether the memory knew anything.
        neighbour_ids: memory entries read for the chosen hyper-action, nearest first.
        neighbour_distances: squared Euclidean distances of their keys.
        neighbour_values: their stored hyper-returns.
        record_jobs: of each record that was read whole, where there are no neighbours, the number
            of the job that left it.
    """

    q_values: Float[np.ndarray, " actions"]
    known: Bool[np.ndarray, " actions"]
    neighbour_ids: Int[np.ndarray, " neighbours"]
    neighbour_distances: Float[np.ndarray, " neighbours"]
    neighbour_values: Float[np.ndarray, " neighbours"]
    record_jobs: Int[np.ndarray, " records"] | None = None


class Decision(NamedTuple):
    """A chosen hyper-action.

    Attributes:
        hyper_action: joint index in the study's grid.
        explored: whether chance chose.
        epsilon: the exploration rate; 0 where the hyper-agent has none.
        propensity: with which probability this hyper-action would have been chosen, in (0, 1].
        encoder_version: of the key, None where none was made.
        memory_revision: how many writes the memory had seen.
        key: phi(s), None where none was made.
        evidence: None where no memory was read.
        hold_until_env_step: it is held up to there, whatever the study's hold setting says; None
            leaves it to that.
    """

    hyper_action: int
    explored: bool = False
    epsilon: float = 0.0
    propensity: float = 1.0
    encoder_version: int | None = None
    memory_revision: int = 0
    key: Float[np.ndarray, " key_size"] | None = None
    evidence: Evidence | None = None
    hold_until_env_step: int | None = None


class Outcome(NamedTuple):
    """What came of a decision.

    Attributes:
        entry_id: the number that a new memory entry would get; increasing.
        layout_signature: of the hyper-state.
        hyper_action: joint index.
        hyper_return: greater is better.
        features: the hyper-state, for a key of the present encoder version.
        key: the key that the decision was made with.
        encoder_version: of that key.
        job_id: the job's number in the ledger.
        sequence: of the decision.
        hyper_reward: from the decision to the next credited one of its learning episode, Eq. 1.
        ends_episode: whether it was the last decision of its learning episode; if it was not, the
            job's next outcome is that of the next decision.
    """

    entry_id: int
    layout_signature: str
    hyper_action: int
    hyper_return: float
    features: Float[np.ndarray, " features"] | None
    key: Float[np.ndarray, " key_size"] | None
    encoder_version: int | None
    job_id: int
    sequence: int
    hyper_reward: float = 0.0
    ends_episode: bool = True


MODEL_SECONDS = 0.05
"""About what a model of all jobs takes, to ask it or to fit it: some hundredths of a second."""

LARGEST_RETURN = 1e100
"""To hyper-agents greater returns are this: sums and squares of it are still finite."""


class CurvePoint(NamedTuple):
    """One report's place on the learning curve of its job.

    Attributes:
        env_step: environment steps made.
        value: the return G there, greater is better.
    """

    env_step: int
    value: float

    @classmethod
    def of(cls, env_step: int, value: float) -> CurvePoint:
        """The place of a return that may be any finite number."""
        return cls(env_step, max(-LARGEST_RETURN, min(LARGEST_RETURN, value)))


class MemoryEffect(NamedTuple):
    """What learning changed in the memory.

    Attributes:
        inserted_key: the new entry's key, None if no entry was added.
        encoder_version: of that key.
        updated: (entry id, new value) of entries that moved.
        evicted: entry ids that the capacity pushed out.
    """

    inserted_key: Float[np.ndarray, " key_size"] | None
    encoder_version: int
    updated: list[tuple[int, float]]
    evicted: list[int]


class HyperAgent(Protocol):
    """Chooses hyper-actions and learns from what they led to."""

    def layout_for(self, tensors: list[TensorShape], seed: int) -> HyperStateLayout:
        """The hyper-state that a job with these tensors is to send.

        Raises:
            ValueError: the tensors do not suffice for it.
        """
        ...

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
        ...

    def decide_seconds(self, job_id: int, signature: str) -> float:
        """About how long `decide` takes for a job now, from sizes; called without the lock.

        Args:
            job_id: the job's number in the ledger.
            signature: of its hyper-states.
        """
        ...

    def learn_seconds(self, job_id: int, signature: str, outcomes: int) -> float:
        """About how long taking in a report takes; as `decide_seconds`.

        Args:
            job_id: the job's number in the ledger.
            signature: of its hyper-states.
            outcomes: how many there may be to learn from.
        """
        ...

    def decide(self, moment: Moment, rng: np.random.Generator) -> Decision:
        """Choose a hyper-action; changes nothing but the notes of the asking job."""
        ...

    def learn(self, outcome: Outcome) -> MemoryEffect | None:
        """Take in an outcome; None where nothing is remembered."""
        ...

    def observe(self, job_id: int, curve: Sequence[CurvePoint]) -> None:
        """Take in a job's returns as its reports are applied, before the outcomes they settle."""
        ...

    def not_applied(self, job_id: int, sequences: Sequence[int]) -> None:
        """A job did not use what was decided, but its defaults."""
        ...

    def used_otherwise(self, job_id: int, sequences: Sequence[int]) -> None:
        """A job used other values than was decided, neither these nor its defaults."""
        ...

    def withdraws(self, job_id: int) -> bool:
        """Whether the decision that a job holds should be replaced before its time."""
        ...

    def close(self, job_id: int, ending: Ending) -> None:
        """A job ended, at its planned end or before; it may be resumed."""
        ...

    def reopen(self, job_id: int) -> None:
        """A job that had ended goes on."""
        ...

    def notes(self, job_id: int) -> str | None:
        """All that is noted of a job, as JSON; None where nothing is."""
        ...

    def restore(self, job_id: int, notes: str) -> None:
        """Take `notes` back after a restart; the jobs come in order of their numbers."""
        ...

    def changed_states(self) -> dict[str, bytes]:
        """What was learned beside memory and notes and changed since the last call, by name."""
        ...

    def restore_state(self, name: str, state: bytes) -> None:
        """Take the newest of `changed_states` back after a restart, the memory being there."""
        ...


class GuardState(NamedTuple):
    """What guards did; see the protocol's `GuardReport`."""

    jobs_back_at_default: int
    times_behind: int
    jobs_until_freed: int


@runtime_checkable
class Guarded(Protocol):
    """What a hyper-agent offers beside if it has guards."""

    def guards(self) -> GuardState:
        """What they did so far, and do now."""
        ...


@runtime_checkable
class LeavesSharedRecords(Protocol):
    """What a hyper-agent offers beside if its jobs leave records for each other.

    (The memories of a `KeyedAgent` are read by `diagnosis` itself: the study knows whose an
    entry is.)
    """

    def shared_records(self) -> list[SharedRecords]:
        """What the jobs left, one for each space of keys; arrays of the caller's own."""
        ...
