"""Jobs, proposals and reports: the calls of one training run."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, field_validator

from hyperoracle_protocol.base import Asked, Count, Finite, Message, Name, Positive, Return
from hyperoracle_protocol.errors import Problem
from hyperoracle_protocol.hyper_state import MAX_FEATURES, HyperStateLayout, TensorShape
from hyperoracle_protocol.space import MAX_HYPERPARAMETERS, Hyperparameter, Value

Role = Literal["auto", "explore", "exploit", "control"]
"""What a job is for: `control` stays on the defaults; `auto` lets the study decide."""

FinishReason = Literal["completed", "reached", "interrupted", "failed"]
"""How a job ended: at its planned end; before it because it was good enough; before it for
another reason; or because training broke down."""

ReturnField = Literal["episode_returns", "phase_return", "custom_return"]
"""Where a report may bring returns."""

MAX_EPISODE_RETURNS = 100_000
MAX_APPLIED = 1_000
"""Proposals of which one report can say what was used instead."""

MAX_REPORTS_AT_ONCE = 32
"""Reports that one call brings: their study is at work for some milliseconds with them."""

MAX_NOTICES = 32

LONGEST_NAME = 128
"""Characters of the name of a base value, a training signal or a piece of metadata."""

LONGEST_METADATA = 16_384
"""Characters of a job's metadata, names and texts together."""

Label = Annotated[str, Field(max_length=LONGEST_NAME)]
Numbers = Annotated[dict[Label, Finite], Field(max_length=64)]
Sequences = Annotated[list[Positive], Field(max_length=100_000)]
Signals = Numbers
Notices = Annotated[dict[Name, Count], Field(max_length=MAX_NOTICES)]
"""How often a client noticed each kind of trouble since its start, by a name of the kind."""


UnknownFields = Annotated[
    list[str],
    Field(
        default_factory=list,
        description="Fields of the request that this oracle does not know and has ignored: of a "
        "later release, or mistyped. Empty or absent where there are none.",
    ),
]


class StartJob(Asked):
    """Start a job, or find it again by its `job_key`.

    Attributes:
        job_key: made by the client; the same key in the same study is the same job, so that a
            repeated start (a lost answer, a resumed training run) does not make a second one.
        tensors: the actor-critic's parameters in the model's order; may be empty where the
            study's strategy needs no sketch.
        base_values: what a relative factor multiplies, for the record.
        total_env_steps: the job's planned length.
        role: see `Role`.
        metadata: environment, algorithm, seed, commit, tags, parent job; strings for people.
    """

    job_key: str | None = Field(default=None, min_length=8, max_length=128)
    tensors: list[TensorShape] = Field(default_factory=list, max_length=4096)
    base_values: Numbers = Field(default_factory=dict)
    total_env_steps: Positive
    role: Role = "auto"
    metadata: dict[Label, str] = Field(default_factory=dict, max_length=64)

    @field_validator("metadata")
    @classmethod
    def _check_metadata(cls, metadata: dict[str, str]) -> dict[str, str]:
        length = sum(len(name) + len(text) for name, text in metadata.items())
        if length > LONGEST_METADATA:
            raise ValueError(
                f"expected at most {LONGEST_METADATA} characters in all, got {length}: keep long "
                "texts in a file of your own, and its name here"
            )
        return metadata


class StartedJob(Message):
    """The answer to `StartJob`.

    Attributes:
        job_id: names the job in later calls.
        role: the role that the study gave it.
        layout: the hyper-state that each proposal must bring.
        space: the study's search space.
        lease_seconds: without any call for so long the job counts as stale.
        last_sequence: the highest sequence seen; a resumed job goes on after it.
        last_report: the sequence of the newest report that was applied, 0 if none: a resumed
            job's next report follows it. Absent from an oracle of an earlier release.
        reports_at_once: how many reports one call may bring (`POST /v1/jobs/{job}/reports`); an
            oracle of an earlier release says nothing and takes them one by one.
    """

    job_id: str
    study: Name
    role: Role
    layout: HyperStateLayout
    space: dict[str, Hyperparameter]
    lease_seconds: Finite
    last_sequence: Count
    last_report: Count | None = None
    reports_at_once: Positive = 1
    unknown_fields: UnknownFields


class Job(Message):
    """A job as the server knows it.

    Attributes:
        finish_reason: how it ended by its own word; None while it has not said so.
        not_applied_proposals: whose answer the job did not use, but its defaults or other values.
        applied_differently_proposals: of these, for which it said which other values.
        proposals_without_signal: that lacked the signal by which the strategy decides.
        reports_without_return: that brought no number of the study's kind of return.
        notices: what its client noticed, see `Heartbeat`.
    """

    job_id: str
    study: Name
    status: Literal["running", "stale", "finished"]
    finish_reason: FinishReason | None = None
    role: Role
    created_at: datetime
    last_seen_at: datetime
    total_env_steps: Positive
    env_step: Count
    proposals: Count
    reports: Count
    credited_proposals: Count
    not_applied_proposals: Count
    applied_differently_proposals: Count = 0
    proposals_without_signal: Count = 0
    reports_without_return: Count = 0
    notices: Notices = Field(default_factory=dict)
    last_return: Finite | None
    metadata: dict[str, str]


class FinishedJob(Job):
    """The answer to `FinishJob`."""

    unknown_fields: UnknownFields


class JobList(Message):
    """The jobs of a study, newest first."""

    jobs: list[Job]


class HyperStateValues(Message):
    """A hyper-state in a JSON body."""

    signature: str
    values: list[Finite] = Field(max_length=MAX_FEATURES)


class ProposeMetadata(Asked):
    """A proposal's request without its hyper-state: the metadata of a binary body.

    Attributes:
        sequence: one increasing count per job, shared by propose and report, from 1.
        update_step: how many policy updates the job has made.
        env_step: how many environment steps the job has made.
        signature: of the layout that the numbers follow; absent where the layout is `none`.
        not_applied: sequences of earlier proposals whose answer the job did not use.
        signals: training signals of the last update, e.g. `approx_kl`, `entropy`.
        base_values: what relative factors multiply at this update, for the record.
    """

    sequence: Positive
    update_step: Count
    env_step: Count
    signature: str | None = None
    not_applied: Sequences = Field(default_factory=list)
    signals: Signals = Field(default_factory=dict)
    base_values: Numbers = Field(default_factory=dict)


class Propose(ProposeMetadata):
    """A proposal's request as a JSON body."""

    hyper_state: HyperStateValues | None = None


class Proposal(Message):
    """The answer to `Propose`.

    Attributes:
        proposal_id: names it, e.g. for its explanation.
        sequence: the request's.
        hyperparameters: decoded values; of a relative one the factor.
        bins: the hyper-action, one bin index per hyperparameter.
        explored: whether chance chose.
        epsilon: exploration rate at this proposal, 0 where the strategy has none.
        held: whether an earlier decision is still in force.
        valid_for_updates: for how many updates, this one included, the client may use it.
        valid_until_env_step: the client may use it while `env_step` is smaller; null: no
            such bound.
    """

    proposal_id: str
    sequence: Positive
    hyperparameters: dict[str, Value]
    bins: list[Count]
    explored: bool
    epsilon: Finite
    held: bool = False
    valid_for_updates: Positive = 1
    valid_until_env_step: Count | None = None
    unknown_fields: UnknownFields


class AppliedValues(Message):
    """What an update used instead of what was proposed.

    Attributes:
        sequence: the proposal's.
        hyperparameters: the values that differ, by name; of a relative one the factor.
    """

    sequence: Positive
    hyperparameters: dict[Name, Value] = Field(max_length=MAX_HYPERPARAMETERS)


class ReportMetadata(Asked):
    """A report without its episode returns: the metadata of a binary body.

    Attributes:
        sequence: see `ProposeMetadata`.
        credits_through: the last proposal's sequence that this environment phase's policy has
            seen; 0 if none.
        credits_after: proposals up to this sequence belong to earlier reports; by default all
            those that an earlier report has covered.
        previous_report: sequence of this job's report before this one (0: none). With it a
            report that overtook its predecessor waits for it, and credit is the same in whatever
            order reports arrive. Without it a report is applied on arrival.
        not_applied: sequences of proposals whose answer the job did not use.
        applied: what was used instead, where the job knows; a proposal that is to be credited
            nothing is in `not_applied`, too.
        phase_return: raw discounted reward sum per environment over this phase.
        custom_return: the user's own number, for studies whose return is `custom`.
        dropped_returns: how many numbers the client left out because they were not finite (or
            beyond `MAX_RETURN`), by the field that they were meant for. A phase that lost one of
            the study's kind counts as the worst.
        env_step: how many environment steps the job has made.
    """

    sequence: Positive
    credits_through: Count
    credits_after: Count | None = None
    previous_report: Count | None = None
    not_applied: Sequences = Field(default_factory=list)
    applied: list[AppliedValues] = Field(default_factory=list, max_length=MAX_APPLIED)
    phase_return: Return | None = None
    custom_return: Return | None = None
    dropped_returns: dict[ReturnField, Count] = Field(default_factory=dict)
    env_step: Count


class Report(ReportMetadata):
    """What an environment phase brought, as a JSON body.

    Attributes:
        episode_returns: raw, undiscounted returns of the environment episodes that ended in this
            phase; may be empty.
    """

    episode_returns: list[Return] = Field(default_factory=list, max_length=MAX_EPISODE_RETURNS)


class Receipt(Message):
    """The answer to `Report`; sent only once the report is durable.

    Attributes:
        sequence: the report's.
        status: `applied`; `waiting` for an earlier report; `late`, after its learning episode
            was settled without it, or after the job's end: kept, credits nothing.
        credited: how many proposals received a hyper-return by this call.
        ask_again: whether the decision that the job holds was withdrawn: it does better to ask
            at its next update than to wait until the decision's time is over.
        note: what the oracle noticed that the sender may not have meant; left out where there is
            nothing.
    """

    sequence: Positive
    status: Literal["applied", "waiting", "late"]
    credited: Count
    ask_again: bool = False
    note: str | None = None
    unknown_fields: UnknownFields
    return_missing: bool = Field(
        default=False,
        description="Whether the report brought no number of the kind that the study's return is "
        "made of (which a phase in which no episode ended does not). Absent where it did.",
    )


class Receipts(Message):
    """The answer to several reports in one call, each taken in as if it had come alone.

    Attributes:
        receipts: of the first reports, in the order of the request.
        refusal: of the report behind those; the ones behind it were not looked at. Absent where all
            were taken in. Where the first is refused the call itself is.
    """

    receipts: list[Receipt] = Field(max_length=MAX_REPORTS_AT_ONCE)
    refusal: Problem | None = None


class Heartbeat(Asked):
    """Keeps a job's lease while it makes no other call.

    Attributes:
        env_step: how many environment steps the job has made.
        notices: what the job's owner should know, for people: counts that only grow, by name.
    """

    env_step: Count | None = None
    notices: Notices = Field(default_factory=dict)


class FinishJob(Asked):
    """Ends a job; reports that still wait for a missing one are settled without it.

    Attributes:
        last_sequence: the last one that the job has handed out: a report up to it that is still on
            the way counts when it comes. By default the last one that the oracle has seen. A report
            of a later sequence is kept and credits nothing.
        notices: see `Heartbeat`.
    """

    env_step: Count | None = None
    notices: Notices = Field(default_factory=dict)
    last_sequence: Count | None = None
    reason: FinishReason = "completed"
