"""Which jobs are still heard of, and what follows where one is not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from hyperoracle_server.errors import StoreUnavailable
from hyperoracle_server.oracle.load import locked_within
from hyperoracle_server.telemetry.logs import about

if TYPE_CHECKING:
    from hyperoracle_server.oracle.job import JobState
    from hyperoracle_server.oracle.oracle import Oracle
    from hyperoracle_server.oracle.study import StudyRuntime

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 0.05
"""How long upkeep waits for a study that is at work; it comes again in a second."""


def status_of(oracle: Oracle, job: JobState) -> Literal["running", "stale", "finished"]:
    """`running`, `stale` (its lease ran out) or `finished`."""
    if job.status == "running":
        if job.ending is not None:  # it fell silent before the oracle was started
            return "stale"
        silent_for = oracle.clock.monotonic() - job.lease_started
        return "running" if silent_for < oracle.lease_seconds else "stale"
    return job.status


def note_expired(oracle: Oracle) -> int:
    """Tell of each job whose lease has run out since the last time; how many there were."""
    count = 0
    for study in oracle.studies():
        with locked_within(study, PATIENCE_SECONDS) as is_held:
            for job in study.jobs.values() if is_held else ():
                if not job.lease_told and status_of(oracle, job) == "stale":
                    job.lease_told = True
                    study.lapse(job)
                    count += 1
                    oracle.observer.lease_expired()
                    fields = about(study=study.name, job=job.public_id)
                    log.warning("a job fell silent", extra=fields)
    return count


def end_all(oracle: Oracle) -> None:
    """Count every running job as fallen silent; one that is resumed takes itself back."""
    for study in oracle.studies():
        with study.lock:
            for job in study.jobs.values():
                if job.status == "running" and job.ending is None:
                    job.lease_told = True
                    study.lapse(job)


def forget_answers(oracle: Oracle) -> int:
    """Let go of the answers to jobs that ended or fell silent; how many such jobs had any.

    Only of answers that the ledger has: whoever repeats a request gets the same one from there.
    """
    writer = oracle.ledger.writer
    epoch = writer.epoch
    found: list[tuple[StudyRuntime, JobState, list[int]]] = []
    for study in oracle.studies():
        with locked_within(study, PATIENCE_SECONDS) as is_held:
            found += [
                (study, job, list(job.answers))
                for job in (study.jobs.values() if is_held else ())
                if job.answers and status_of(oracle, job) != "running"
            ]
    if not found:
        return 0
    try:
        writer.submit_durably((), epoch).result()  # it comes after all that was submitted
    except StoreUnavailable:
        return 0  # the studies are loaded again, or the store is busy: another time
    for study, job, answered in found:
        with locked_within(study, PATIENCE_SECONDS) as is_held:
            if is_held:
                job.forget(answered)
    return len(found)
