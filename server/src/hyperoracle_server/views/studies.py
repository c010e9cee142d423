"""What is read of studies and jobs: their counts, what they add up to, each job's schedule."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.inspection import (
    Schedule,
    ScheduleRow,
)
from hyperoracle_protocol.jobs import Job, JobList
from hyperoracle_protocol.space import decode
from hyperoracle_protocol.studies import MemorySearch, Study, StudyList
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.ledger import schema as t
from hyperoracle_server.oracle.job import JobState
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.oracle.services import as_datetime
from hyperoracle_server.oracle.study import StudyRuntime
from hyperoracle_server.oracle.upkeep import status_of
from hyperoracle_server.views.gain import evidence_counts, whole_jobs

if TYPE_CHECKING:
    from hyperoracle_server.ledger.store import Ledger


def describe_study(oracle: Oracle, study: StudyRuntime) -> Study:
    """A study with its counts, as they are now or were a moment ago.

    It waits for no lock: lists and metrics are not to wait for a study that is at work.
    """
    jobs = list(study.jobs.values())
    agent = study.agent
    kept = agent.kept()
    read = sum(job.counts.neighbours_read for job in jobs)
    other = sum(job.counts.neighbours_other for job in jobs)
    return Study(
        name=study.name,
        definition=study.definition,
        seed=study.seed,
        created_at=as_datetime(study.created_at),
        jobs=len(jobs),
        running_jobs=sum(status_of(oracle, job) == "running" for job in jobs),
        proposals=sum(job.counts.proposals for job in jobs),
        reports=sum(job.counts.reports for job in jobs),
        credited_proposals=sum(job.counts.credited for job in jobs),
        memory_size=sum(each.entries for each in kept.values()),
        memory_capacity=agent.capacity,
        encoder_versions={layout: each.encoder_version for layout, each in kept.items()},
        memory_search={
            layout: MemorySearch(graphs=each.graphs, recall=each.recall)
            for layout, each in kept.items()
            if each.graphs is not None
        },
        neighbours_from_other_jobs=other / read if read else None,
    )


def list_studies(oracle: Oracle, is_shown: Callable[[str], bool]) -> StudyList:
    """The studies whose names are shown, by name."""
    shown = [study for study in oracle.studies() if is_shown(study.name)]
    return StudyList(studies=[describe_study(oracle, study) for study in shown])


def describe_job(oracle: Oracle, study: StudyRuntime, job: JobState) -> Job:
    """A job with its counts."""
    return Job(
        job_id=job.public_id,
        study=study.name,
        status=status_of(oracle, job),
        finish_reason=job.finish_reason,
        role=job.role,
        created_at=as_datetime(job.created_at),
        last_seen_at=as_datetime(job.last_seen_at),
        total_env_steps=job.total_env_steps,
        env_step=job.env_step,
        proposals=job.counts.proposals,
        reports=job.counts.reports,
        credited_proposals=job.counts.credited,
        not_applied_proposals=job.counts.not_applied,
        applied_differently_proposals=job.counts.applied_differently,
        proposals_without_signal=job.counts.without_signal,
        reports_without_return=job.counts.without_return,
        notices=job.counts.notices,
        last_return=job.last_return,
        metadata=job.metadata,
    )


def list_jobs(oracle: Oracle, study_name: str) -> JobList:
    """A study's jobs, newest first."""
    study = oracle.found(study_name)
    jobs = sorted(study.jobs.values(), key=lambda job: job.id, reverse=True)
    return JobList(jobs=[describe_job(oracle, study, job) for job in jobs])


def schedule(
    oracle: Oracle, study_name: str, job_id: str | None = None, last: int | None = None
) -> Schedule:
    """What each job of a study was told, and whether it used it, in order of job and sequence.

    Args:
        oracle: the study's.
        study_name: the study.
        job_id: the public id of the only job that is meant; None means all.
        last: how many rows, the last ones; None means all.

    Raises:
        RequestRefused: there is no such study, or no such job in it.
    """
    with oracle.study(study_name) as study:
        jobs = list(study.jobs.values()) if job_id is None else [_job_of(study, job_id)]
        names = {job.id: job.public_id for job in jobs}
    oracle.ledger.writer.flush()
    p = t.proposals.c
    query = (
        select(p.job_id, p.sequence, p.update_step, p.env_step, p.status, p.explored, p.held,
               p.hyper_action, p.hyper_return)
        .where(p.job_id.in_(list(names)))
        .order_by(p.job_id.desc(), p.sequence.desc())
        .limit(last)
    )  # fmt: skip
    with oracle.ledger.reading() as connection:
        rows = connection.execute(query).all()[::-1]
        used = {job.id: used_instead(connection, job) for job in jobs}
    return Schedule(
        study=study_name,
        hyperparameters=list(study.definition.space),
        rows=[
            _schedule_row(study, row, names[row.job_id], used[row.job_id].get(row.sequence))
            for row in rows
        ],
    )


def _job_of(study: StudyRuntime, job_id: str) -> JobState:
    if job_id not in study.jobs:
        raise RequestRefused(
            ErrorCode.JOB_NOT_FOUND,
            f"study {study.name!r} has no job {job_id!r}; `hyperoracle job list` has its jobs",
        )
    return study.jobs[job_id]


def _schedule_row(
    study: StudyRuntime, row: Any, job_id: str, used: dict[str, Any] | None
) -> ScheduleRow:
    chosen = decode(study.definition.space, list(study.grid.bins(row.hyper_action)))
    return ScheduleRow(
        job_id=job_id,
        sequence=row.sequence,
        update_step=row.update_step,
        env_step=row.env_step,
        applied=row.status != "not_applied" or used is not None,
        as_proposed=used is None,
        explored=row.explored,
        held=row.held,
        hyperparameters=chosen if used is None else {**chosen, **used},
        hyper_return=row.hyper_return,
    )


def schedule_csv(found: Schedule) -> str:
    """A schedule as CSV: one row per decision, one column per hyperparameter."""
    out = io.StringIO()
    fixed = ["job_id", "sequence", "update_step", "env_step", "applied", "explored"]
    writer = csv.writer(out)
    writer.writerow([*fixed, *found.hyperparameters, "hyper_return"])
    for row in found.rows:
        data = json.loads(row.model_dump_json())
        values = [row.hyperparameters[name] for name in found.hyperparameters]
        writer.writerow([*(data[name] for name in fixed), *values, data["hyper_return"]])
    return out.getvalue()


def used_instead(connection: Any, job: JobState) -> dict[int, dict[str, Any]]:
    """What a job said it used instead of what was proposed, by the proposal's sequence."""
    if not job.counts.applied_differently:
        return {}
    r = t.reports.c
    query = (
        select(r.body)
        .where(r.job_id == job.id, r.body.contains('"applied":[{', autoescape=True))
        .order_by(r.sequence)
    )
    return {
        each["sequence"]: each["hyperparameters"]
        for (body,) in connection.execute(query)
        for each in json.loads(body)["applied"]
    }


class Totals(NamedTuple):
    """What all studies and the store add up to, as the metrics show it.

    Attributes:
        totals: by the names of `metrics.TOTALS`.
        whole_jobs: jobs that came to their planned end, by role.
    """

    totals: dict[str, float]
    whole_jobs: dict[str, int]


def totals_of(oracle: Oracle) -> Totals:
    """Count and weigh an oracle's studies and its store; waits for no study."""
    runtimes = oracle.studies()
    studies = [describe_study(oracle, study) for study in runtimes]
    jobs = [job for study in runtimes for job in list(study.jobs.values())]
    read, other, reads, hits = evidence_counts(jobs)
    return Totals(
        {
            "studies": len(studies),
            "jobs_active": sum(s.running_jobs for s in studies),
            "proposals": sum(s.proposals for s in studies),
            "reports_stored": sum(s.reports for s in studies),
            "credited_proposals": sum(s.credited_proposals for s in studies),
            "memory_entries": sum(s.memory_size for s in studies),
            "memory_reads": reads,
            "memory_hits": hits,
            "neighbours_read": read,
            "neighbours_from_other_jobs": other,
            "index_graphs": sum(m.graphs for s in studies for m in s.memory_search.values()),
            "encoder_version": sum(sum(s.encoder_versions.values()) for s in studies),
            **_weight(oracle.ledger),
        },
        {str(role): count for role, count in whole_jobs(jobs).items()},
    )


def _weight(ledger: Ledger) -> dict[str, float]:
    weight: dict[str, float] = {"store_queue": ledger.writer.queued}
    with suppress(OSError):  # numbers of a moment ago are better than none
        weight["store_bytes"] = ledger.size_bytes()
        weight["store_free_bytes"] = ledger.free_bytes()
    return weight
