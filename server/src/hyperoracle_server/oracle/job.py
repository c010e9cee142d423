"""What the oracle keeps in mind of one job, and what its proposals and reports add up to."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.jobs import MAX_NOTICES
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.ledger.statements import Change
from hyperoracle_server.oracle.decisions_in_force import Held, HeldDurably
from hyperoracle_server.telemetry.observer import ReportOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from jaxtyping import Float

    from hyperoracle_protocol.hyper_state import HyperStateLayout
    from hyperoracle_protocol.jobs import FinishJob, FinishReason, Role
    from hyperoracle_server.oracle.credit import CreditBook
    from hyperoracle_server.oracle.services import Clock
    from hyperoracle_server.strategies.decisions import Evidence
    from hyperoracle_server.strategies.evidence.job_account import Ending, JobAccount
    from hyperoracle_server.strategies.evidence.learning_curve import LearningCurve


@dataclass
class JobCounts:
    """Counts of one job; its study's lock guards them.

    The job's row of the ledger has them as they were when it was last written, so that a start
    adds only the proposals that came after that (`recovery`), however many there were before.

    Attributes:
        proposals: that were answered.
        reports: that were taken in.
        credited: proposals that a report credited.
        not_applied: proposals that the job did not use.
        applied_differently: proposals for which it said what it used instead.
        without_signal: proposals that lacked the signal by which the strategy decides.
        without_return: reports that brought no number of the study's kind of return.
        notices: what its client noticed, and how often.
        neighbours_read: memory entries that decisions looked at.
        neighbours_other: those of them that other jobs left.
        memory_reads: decisions with a look into the memory.
        memory_hits: those for which it knew anything.
        last_sequence: the highest of a proposal or report.
        first_late: the first sequence that the job had not handed out when it ended; 0 while it
            runs.
        store_bytes: about what the job's rows take in the store, without hyper-states.
    """

    proposals: int = 0
    reports: int = 0
    credited: int = 0
    not_applied: int = 0
    applied_differently: int = 0
    without_signal: int = 0
    without_return: int = 0
    notices: dict[str, int] = field(default_factory=dict)
    neighbours_read: int = 0
    neighbours_other: int = 0
    memory_reads: int = 0
    memory_hits: int = 0
    last_sequence: int = 0
    first_late: int = 0
    store_bytes: int = 0

    def saw_evidence(
        self, job_id: int, evidence: Evidence | None, entry_jobs: Mapping[int, int]
    ) -> tuple[int, int, bool | None]:
        """Note what the memory had to say to a decision.

        Args:
            job_id: the number of the job whose counts these are.
            evidence: the decision's.
            entry_jobs: by memory entry, the number of the job that left it.

        Returns:
            How many neighbours the chosen hyper-action had, how many of them other jobs left, and
            whether anything was known of any hyper-action; None where the memory was not read.
        """
        if evidence is None:
            return 0, 0, None
        if evidence.record_jobs is not None:
            owners = evidence.record_jobs.tolist()
        else:
            owners = [entry_jobs.get(i) for i in evidence.neighbour_ids.tolist()]
        other = sum(owner != job_id for owner in owners)
        self.neighbours_read += len(owners)
        self.neighbours_other += other
        hit = bool(evidence.known.any())
        self.memory_reads += 1
        self.memory_hits += hit
        return len(owners), other, hit

    def noticed(self, notices: Mapping[str, int]) -> None:
        """Take in what the job's client noticed: its counts, which only grow while it runs."""
        for name, count in notices.items():
            if name in self.notices or len(self.notices) < MAX_NOTICES:
                self.notices[name] = max(count, self.notices.get(name, 0))

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(vars(self))

    @classmethod
    def load(cls, text: str) -> Self:
        """What `dump` wrote.

        Raises:
            ValueError, TypeError: it did not write this.
        """
        found = cls(**json.loads(text))
        counts = {**vars(found), **found.notices}
        del counts["notices"]
        if not all(isinstance(count, int) and count >= 0 for count in counts.values()):
            raise ValueError("expected counts of a job, got other values")
        return found

    def __add__(self, other: JobCounts) -> JobCounts:
        """Of both; the higher `last_sequence`, and of each notice the higher count."""
        # Only of a job as it was when it ended is `first_late` not 0.
        counts = {name: ours for name, ours in vars(self).items() if name != "notices"}
        sums = {name: ours + getattr(other, name) for name, ours in counts.items()}
        both = JobCounts(**{**sums, "last_sequence": max(self.last_sequence, other.last_sequence)})
        both.noticed(self.notices)
        both.noticed(other.notices)
        return both


REMEMBERED_ANSWERS = 2_048
"""Answers per job kept in mind for repeated requests; older ones are read from the ledger."""

REMEMBERED_GAPS = 2_048
"""Sequences per job that are known to have been left out; of others below, the ledger knows."""


class Answer(NamedTuple):
    """The answer that a sequence got.

    Attributes:
        digest: of the request; a repeated sequence must bring the same.
        body: the JSON answer.
        durable: resolves once the answer may be given; None if at once.
        outcome: how the report was taken in that it answers, None for proposals and for answers
            that the ledger gave back.
    """

    digest: bytes
    body: bytes
    durable: Future[Any] | None = None
    outcome: ReportOutcome | None = None


class OpenProposal(NamedTuple):
    """A proposal that may still be credited."""

    proposal_id: int
    env_step: int
    hyper_action: int
    features: Float[np.ndarray, " features"] | None
    key: Float[np.ndarray, " key_size"] | None
    encoder_version: int | None


@dataclass
class JobState:
    """One job; its study's lock guards it."""

    id: int
    chance_number: int  # unique in its study; its random numbers are made from it
    public_id: str
    job_key: str | None
    role: Role
    layout: HyperStateLayout
    total_env_steps: int
    base_values: dict[str, float]
    metadata: dict[str, str]
    created_at: float
    last_seen_at: float
    credit: CreditBook
    account: JobAccount
    lease_started: float = 0.0  # on the monotonic clock
    lease_told: bool = False  # that it ran out, since the job was last heard of
    status: Literal["running", "finished"] = "running"
    finish_reason: FinishReason | None = None
    env_step: int = 0
    last_return: float | None = None
    held: Held | None = None
    held_durably: HeldDurably | None = None  # None: since this process began, nothing was decided
    hyper_agent_notes: str | None = None  # JSON
    counts: JobCounts = field(default_factory=JobCounts)
    counted_through: int = 0  # the id of its newest proposal
    owner: str | None = None  # the id of the token that started it, if its quota counts it
    open: dict[int, OpenProposal] = field(default_factory=dict)
    answers: OrderedDict[int, Answer] = field(default_factory=OrderedDict)
    gaps: set[int] = field(default_factory=set)  # below the newest sequence, and never seen yet

    @property
    def signature(self) -> str:
        """Of the job's hyper-state layout."""
        return self.layout.signature

    @property
    def changed_by_proposals(self) -> tuple[Held | None, str | None, int]:
        """What a proposal may change of the job's row, besides what counts and times say."""
        return self.held, self.hyper_agent_notes, self.credit.not_applied_count

    @property
    def curve(self) -> LearningCurve | None:
        """Its returns; None of a job that began under a release that kept none."""
        return self.account.curve

    @property
    def ending(self) -> Ending | None:
        """How it ended, or that it fell silent; None while it runs."""
        return self.account.ending

    @cached_property
    def task(self) -> str:
        """What it is about: jobs are compared with jobs of the same environment and length."""
        return f"{self.metadata.get('environment', '')}@{self.total_env_steps}"

    def end(self, end: FinishJob) -> None:
        """It is over; what it has handed out so far still counts when it comes."""
        self.status = "finished"
        self.finish_reason = end.reason
        self.counts.first_late = 1 + max(self.counts.last_sequence, end.last_sequence or 0)

    def resume(self) -> None:
        """It goes on after it was ended."""
        self.status = "running"
        self.finish_reason = None
        self.counts.first_late = 0

    def ended_before(self, sequence: int) -> bool:
        """Whether a sequence was handed out after the job's end."""
        if self.status != "finished":
            return False
        # An earlier release has not noted where it ended.
        return sequence >= (self.counts.first_late or 1 + self.counts.last_sequence)

    def touch(self, env_step: int, clock: Clock) -> None:
        """It was heard of, and has come so far."""
        self.env_step = max(self.env_step, env_step)
        self.last_seen_at = clock.now()
        self.lease_started = clock.monotonic()
        self.lease_told = False

    def saw(self, sequence: int) -> None:
        """Note the sequence of a new proposal or report; one may have overtaken others."""
        self.gaps.discard(sequence)
        between = range(self.counts.last_sequence + 1, sequence)
        if len(self.gaps) + len(between) > REMEMBERED_GAPS:
            self.gaps.clear()
        else:
            self.gaps.update(between)
        self.counts.last_sequence = max(self.counts.last_sequence, sequence)

    def may_have_seen(self, sequence: int) -> bool:
        """Whether the ledger may hold an answer to a sequence."""
        return sequence <= self.counts.last_sequence and sequence not in self.gaps

    def remember(self, sequence: int, answer: Answer) -> None:
        """Keep an answer for a repeated request."""
        self.answers[sequence] = answer
        if len(self.answers) > REMEMBERED_ANSWERS:
            self.answers.popitem(last=False)

    def forget(self, sequences: Iterable[int]) -> None:
        """Let go of answers that the ledger has."""
        for sequence in sequences:
            self.answers.pop(sequence, None)

    def row(self) -> dict[str, Any]:
        """The job as a row of the ledger."""
        return {
            "id": self.id,
            "chance_number": self.chance_number,
            "public_id": self.public_id,
            "job_key": self.job_key,
            "role": self.role,
            "layout": self.layout.model_dump_json(),
            "total_env_steps": self.total_env_steps,
            "base_values": json.dumps(self.base_values),
            "metadata": json.dumps(self.metadata),
            "created_at": self.created_at,
            "token_id": self.owner,
            **self._changing(),
        }

    def update(self) -> Change:
        """The change that brings the ledger's row up to date."""
        return Change("update_job", {"where_id": self.id, **self._changing()})

    def _changing(self) -> dict[str, Any]:
        return {
            "last_seen_at": self.last_seen_at,
            "status": self.status,
            "finish_reason": self.finish_reason,
            "env_step": self.env_step,
            "last_return": self.last_return,
            "credit_state": json.dumps(self.credit.dump()),
            "held_decision": None if self.held is None else json.dumps(self.held),
            "hyper_agent_notes": self.hyper_agent_notes,
            "learning_curve": self.account.dump(),
            "counts": self.counts.dump(),
            "counted_through": self.counted_through,
        }


def check_repeated(answer: Answer, digest: bytes, sequence: int) -> Answer:
    """The stored answer of a repeated request.

    Raises:
        RequestRefused: `sequence_conflict`, the sequence was used for another request.
    """
    if answer.digest != digest:
        raise RequestRefused(
            ErrorCode.SEQUENCE_CONFLICT,
            f"sequence {sequence} was already used for another request of this job",
            expected=f"the same request again, or a sequence after {sequence}",
            got="the same sequence with another body",
        )
    return answer
