"""What a job's client has done so far, for people and for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class JobStats:
    """A snapshot of a job's counts.

    Attributes:
        joined: whether the oracle has the job.
        circuit: `open` while the oracle is left alone after a failure.
        circuit_openings: how often that began.
        proposals: answers of the oracle's that were applied.
        held: updates that used an earlier decision still in force.
        fallbacks: updates that used the defaults because the oracle could not be asked.
        late: of these, because the deadline passed.
        non_finite_hyper_states: of these, because weights or gradients were not finite.
        hyper_states_without_gradients: proposals before any gradient was seen.
        reports_sent: acknowledged by the oracle.
        reports_not_applied: of these, those that credit nothing yet, because the oracle has lost
            what came before them.
        reports_pending: waiting for delivery.
        reports_spooled: of these, on disk.
        reports_dropped: refused by the oracle, more than could wait, or not to be made: after the
            job's end, in a process that was forked of the job's, of returns that raise.
        non_finite_returns: returns that were not finite; the oracle is told how many, not which.
        applied_differently: updates that used other values than were proposed (`Job.applied`).
        notices: how often each kind of trouble was noticed, by the names of `notices.Notice`.
        non_finite_signals: signals and base values that were not finite, hence not sent.
        arguments_left_out: what `propose` and `report` were given and could not understand; see the
            log for the first of each kind.
        propose_seconds: spent in `propose` altogether.
        report_seconds: spent in `report` altogether.
        background_seconds: processor time of the thread that joins, sends reports and keeps the
            lease, beside training in the same interpreter.
        last_error: the latest trouble, None if there was none.
    """

    joined: bool
    circuit: Literal["closed", "open"]
    circuit_openings: int
    proposals: int
    held: int
    fallbacks: int
    late: int
    non_finite_hyper_states: int
    hyper_states_without_gradients: int
    reports_sent: int
    reports_not_applied: int
    reports_pending: int
    reports_spooled: int
    reports_dropped: int
    non_finite_returns: int
    applied_differently: int
    notices: Mapping[str, int]
    non_finite_signals: int
    arguments_left_out: int
    propose_seconds: float
    report_seconds: float
    background_seconds: float
    last_error: str | None


_TOLD = {field.name for field in fields(JobStats)} - {"last_error"}


@dataclass(slots=True)
class Counts:
    """The counts that the training thread keeps."""

    proposals: int = 0
    held: int = 0
    fallbacks: int = 0
    late: int = 0
    non_finite_hyper_states: int = 0
    hyper_states_without_gradients: int = 0
    non_finite_returns: int = 0
    applied_differently: int = 0
    non_finite_signals: int = 0
    arguments_left_out: int = 0
    reports_not_made: int = 0
    propose_seconds: float = 0.0
    report_seconds: float = 0.0
    last_error: str | None = None

    def told(self) -> dict[str, Any]:
        """Those that `JobStats` has under the same name."""
        counts = asdict(self)
        return {name: counts[name] for name in counts.keys() & _TOLD}
