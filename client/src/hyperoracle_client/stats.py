"""What a job's client has done so far, for people and for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class JobStats:
    """A snapshot of a job's counts.

    Attributes:
        joined: whether the oracle has the job.
        circuit: `open` while the oracle is left alone after a failure.
        proposals: answers of the oracle's that were applied.
        held: updates that used an earlier decision still in force.
        fallbacks: updates that used the defaults because the oracle could not be asked.
        late: of these, because the deadline passed.
        non_finite_hyper_states: of these, because weights or gradients were not finite.
        reports_sent: acknowledged by the oracle.
        reports_pending: waiting for delivery.
        reports_spooled: of these, on disk.
        reports_dropped: refused by the oracle, or more than could wait.
        non_finite_returns: returns that were not finite; the oracle is told how many, not which.
        applied_differently: updates that used other values than were proposed (`Job.applied`).
        notices: how often each kind of trouble was noticed, by the names of `notices.Notice`.
        propose_seconds: spent in `propose` altogether.
        report_seconds: spent in `report` altogether.
        last_error: the latest trouble, None if there was none.
    """

    joined: bool
    circuit: Literal["closed", "open"]
    proposals: int
    held: int
    fallbacks: int
    late: int
    non_finite_hyper_states: int
    reports_sent: int
    reports_pending: int
    reports_spooled: int
    reports_dropped: int
    non_finite_returns: int
    applied_differently: int
    notices: Mapping[str, int]
    propose_seconds: float
    report_seconds: float
    last_error: str | None


@dataclass(slots=True)
class Counts:
    """The counts that the training thread keeps."""

    proposals: int = 0
    held: int = 0
    fallbacks: int = 0
    late: int = 0
    non_finite_hyper_states: int = 0
    non_finite_returns: int = 0
    applied_differently: int = 0
    propose_seconds: float = 0.0
    report_seconds: float = 0.0
    last_error: str | None = None
