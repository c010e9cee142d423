"""What a job asks of its oracle while it works, whatever the way it asks. Knows no HTTP.

Each call takes the lock of the job's study.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

import numpy as np

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.telemetry.logs import about

if TYPE_CHECKING:
    from hyperoracle_protocol.hyper_state import HyperStateLayout
    from hyperoracle_protocol.jobs import FinishJob, Heartbeat, ProposeMetadata, Report
    from hyperoracle_server.oracle.job import Answer
    from hyperoracle_server.oracle.oracle import Oracle

log = logging.getLogger(__name__)


def propose(
    oracle: Oracle, job_id: str, request: ProposeMetadata, features: np.ndarray | None, body: bytes
) -> Answer:
    """Answer a proposal's request.

    Args:
        oracle: that the job belongs to.
        job_id: the asking job.
        request: the metadata.
        features: the hyper-state as it came, float64 from a JSON body; None if none came.
        body: the request's bytes, for telling a repetition from a conflict.

    Raises:
        RequestRefused: `job_not_found`, `job_finished`, `sequence_conflict`,
            `hyper_state_mismatch`, `store_unavailable`.
    """
    digest = _digest(b"propose", body)
    with oracle.job(job_id) as (study, job):
        oracle.quotas.check_bytes(job.owner)
        features = check_features(job.layout, request.signature, features)
        return study.propose(job, request, features, digest)


def report(oracle: Oracle, job_id: str, message: Report, body: bytes) -> Answer:
    """Take in a report; give the answer only once its future has resolved.

    Raises:
        RequestRefused: `job_not_found`, `sequence_conflict`, `invalid_request`,
            `store_unavailable`.
    """
    digest = _digest(b"report", body)
    with oracle.job(job_id) as (study, job):
        oracle.quotas.check_bytes(job.owner, is_report=True)
        if message.credits_through >= message.sequence:
            raise RequestRefused(
                ErrorCode.INVALID_REQUEST,
                "a report credits proposals made before it",
                expected=f"credits_through < {message.sequence}",
                got=message.credits_through,
            )
        return study.report(job, message, digest)


def heartbeat(oracle: Oracle, job_id: str, beat: Heartbeat) -> None:
    """Keep a job's lease."""
    with oracle.job(job_id) as (study, job):
        job.counts.noticed(beat.notices)
        study.heartbeat(job, beat.env_step)


def finish(oracle: Oracle, job_id: str, end: FinishJob) -> None:
    """End a job; a finished one stays finished."""
    with oracle.job(job_id) as (study, job):
        if job.status == "finished":
            return
        job.counts.noticed(end.notices)
        answered = list(job.answers)
        future = study.finish(job, end)
    future.result()
    with oracle.job(job_id) as (_, job):
        job.forget(answered)  # the ledger has them now
    fields = about(study=oracle.study_of_job(job_id), job=job_id, reason=end.reason)
    log.info("job finished", extra=fields)


def check_features(
    layout: HyperStateLayout, signature: str | None, features: np.ndarray | None
) -> np.ndarray | None:
    """The hyper-state in the layout's dtype.

    Args:
        layout: what the job was asked for at its start.
        signature: the layout that the numbers follow, as the client says.
        features: shape (features,), in the layout's dtype, or float64 from a JSON body.

    Raises:
        RequestRefused: `hyper_state_mismatch`: wrong layout, length, dtype, or a number that is not
            finite in the layout's dtype.
    """
    if layout.kind == "none":
        return None
    mismatch = ErrorCode.HYPER_STATE_MISMATCH
    if signature != layout.signature:
        detail = "the hyper-state follows another layout than the one given at the job's start"
        raise RequestRefused(mismatch, detail, expected=layout.signature, got=signature)
    if features is None or features.size != layout.feature_count:
        detail = "the hyper-state has the wrong number of features"
        got = 0 if features is None else features.size
        raise RequestRefused(mismatch, detail, expected=layout.feature_count, got=got)
    if features.dtype == np.float64:  # from a JSON body
        with np.errstate(over="ignore"):  # what float16 cannot hold is refused below
            features = features.astype(layout.dtype)
    if features.dtype != layout.dtype:
        detail = "the hyper-state has the wrong dtype"
        raise RequestRefused(mismatch, detail, expected=layout.dtype, got=features.dtype)
    if not np.isfinite(features).all():
        detail = "the hyper-state has numbers that are not finite"
        count = int(np.count_nonzero(~np.isfinite(features)))
        raise RequestRefused(
            mismatch, detail, expected="finite numbers only", got=f"{count} that are not"
        )
    return features


def _digest(kind: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16, person=kind).digest()
