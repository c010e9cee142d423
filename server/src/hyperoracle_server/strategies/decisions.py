"""What passes between a study and its hyper-agent: what is decided, what came of it, what is kept.

A study asks at a `Moment` and gets a `Decision`; later it brings the `Outcome`, and makes durable
what a `MemoryEffect` says. A decision may hold until a later env step.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from jaxtyping import Bool, Float, Int

    from hyperoracle_protocol.jobs import Role
    from hyperoracle_server.strategies.evidence.exposure import Avoided

FOR_EVER = 2**53 - 1
"""An env step that no job reaches: until then holds what holds to a job's end."""

LARGEST_RETURN = 1e100
"""To hyper-agents greater returns are this: sums and squares of it are still finite."""


def end_of_segment(env_step: int, total: int, decisions: int) -> int:
    """The env step at which the next of a job's evenly spread decisions is due."""
    segment = min(decisions - 1, env_step * decisions // total)
    return FOR_EVER if segment == decisions - 1 else -(-(segment + 1) * total // decisions)


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


@dataclass(frozen=True, slots=True)
class Entries:
    """Some of a memory's entries, the earliest added first.

    Attributes:
        ids: int64 [entries], strictly increasing where a memory gave them out in its order.
        keys: float32 [entries, key_size].
        actions: joint hyper-actions, int64 [entries].
        values: approximated hyper-returns M[key, action], float64 [entries].
    """

    ids: Int[np.ndarray, " entries"]
    keys: Float[np.ndarray, "entries key_size"]
    actions: Int[np.ndarray, " entries"]
    values: Float[np.ndarray, " entries"]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> Self:
        return type(self)(*(getattr(self, field.name)[part] for field in fields(self)))
