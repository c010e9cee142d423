"""What a study has to do and holds now: how long a call will take, what waits, what is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_server.errors import OracleError
from hyperoracle_server.keyed.agent import KeyedAgent
from hyperoracle_server.strategies.cost import most_open_proposals

if TYPE_CHECKING:
    from hyperoracle_server.oracle.job import JobState
    from hyperoracle_server.oracle.study import StudyRuntime

Call = Literal["propose", "report"]
"""The two hot calls."""


SECONDS_PER_JOB = 1e-4
"""Of a look at what a job did and how it ended, where all of a study are looked at."""


def expected_seconds(study: StudyRuntime, call: Call, job_id: str) -> float:
    """About how long a job's call will take, from sizes; the lock need not be held.

    What the hyper-agent has to do counts, and only that: the rest takes about a millisecond.

    Args:
        study: the job's.
        call: which one.
        job_id: the public id; of an unknown job it is 0.
    """
    job = study.jobs.get(job_id)
    if job is None:
        return 0.0
    if call == "propose":
        looking = 0.0 if study.endings.knows_hazards else SECONDS_PER_JOB * len(study.jobs)
        return looking + study.agent.decide_seconds(job.id, job.signature)
    return study.agent.learn_seconds(job.id, job.signature, len(job.open))


def check_open(study: StudyRuntime, job: JobState) -> None:
    """See that the report to come will end in due time, and that what waits for it is bounded.

    Raises:
        OracleError: `invalid_request`.
    """
    most = most_open_proposals(
        study.agent.learn_seconds(job.id, job.signature, 1), job.layout.feature_count
    )
    if len(job.open) >= most:
        raise OracleError(
            ErrorCode.INVALID_REQUEST,
            f"{len(job.open)} proposals of this job wait to be credited, as many as its study "
            "bears: report after fewer updates, or let the study hold its decisions (`hold`)",
            expected=f"fewer than {most} proposals between reports",
            got=len(job.open),
        )


@contextmanager
def locked_within(study: StudyRuntime, seconds: float) -> Iterator[bool]:
    """Hold a study's lock, if it can be had in so many seconds; yields whether it could."""
    is_held = study.lock.acquire(timeout=seconds)
    try:
        yield is_held
    finally:
        if is_held:
            study.lock.release()


def kept_bytes(study: StudyRuntime) -> int:
    """About what a study keeps in the store beside its jobs' decisions and reports.

    The hyper-states in memory, in samples and of open proposals, and encoders; the lock need not
    be held.
    """
    if not isinstance(study.agent, KeyedAgent):
        return 0
    still_open: Counter[str] = Counter()
    for job in list(study.jobs.values()):
        still_open[job.signature] += len(job.open)
    total = 0
    for signature, recollection in list(study.agent.recollections.items()):
        kept = recollection.memory.size + len(study.samples.of(signature))
        width = 2 if recollection.layout.dtype == "float16" else 4
        features = recollection.layout.feature_count * width
        total += (kept + still_open[signature]) * features
        if recollection.state.version:  # what is untrained is not stored
            total += sum(array.nbytes for array in recollection.state.arrays.values())
    return total
