"""What each job of a study used: what it was told, or what it says that it used instead."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from sqlalchemy import select

from hyperoracle_protocol.inspection import Schedule, ScheduleRow
from hyperoracle_protocol.space import decode
from hyperoracle_server.ledger import schema as t
from hyperoracle_server.oracle.job import JobState
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.oracle.study import StudyRuntime


def schedule(oracle: Oracle, study_name: str) -> Schedule:
    """What each job of a study was told, and whether it used it, in order of job and sequence."""
    with oracle.study(study_name) as study:
        jobs = list(study.jobs.values())
        names = {job.id: job.public_id for job in jobs}
    oracle.ledger.writer.flush()
    p = t.proposals.c
    query = (
        select(p.job_id, p.sequence, p.update_step, p.env_step, p.status, p.explored,
               p.hyper_action, p.hyper_return)
        .where(p.job_id.in_(list(names)))
        .order_by(p.job_id, p.sequence)
    )  # fmt: skip
    with oracle.ledger.reading() as connection:
        rows = connection.execute(query).all()
        used = {job.id: used_instead(connection, job) for job in jobs}
    return Schedule(
        study=study_name,
        hyperparameters=list(study.definition.space),
        rows=[
            _schedule_row(study, row, names[row.job_id], used[row.job_id].get(row.sequence))
            for row in rows
        ],
    )


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
