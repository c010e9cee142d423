"""From the ledger back into memory: a restart brings back exactly what was durable."""

from __future__ import annotations

import gc
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, Select, bindparam, case, func, select

from hyperoracle_protocol.hyper_state import HyperStateLayout
from hyperoracle_protocol.jobs import Report
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.ledger import deletion
from hyperoracle_server.ledger import schema as t
from hyperoracle_server.ledger.rows import ROW_BYTES
from hyperoracle_server.oracle.decisions_in_force import Held
from hyperoracle_server.oracle.job import Answer, JobCounts, JobState, OpenProposal
from hyperoracle_server.oracle.study import StudyRuntime
from hyperoracle_server.strategies.decisions import Entries
from hyperoracle_server.strategies.evidence.job_account import JobAccount

if TYPE_CHECKING:
    from hyperoracle_server.ledger.store import Ledger
    from hyperoracle_server.oracle.services import Services


_BYTES_OF_A_PROPOSAL = (
    ROW_BYTES
    + func.length(t.proposals.c.response)
    + func.length(t.proposals.c.signals)
    + func.length(t.proposals.c.base_values)
    + func.coalesce(func.length(t.proposals.c.q_values), 0)
    + func.coalesce(func.length(t.proposals.c.known), 0)
)

# One statement for all jobs: building it anew takes longer than running it.
_COUNTS_OF_PROPOSALS = select(
    func.coalesce(func.max(t.proposals.c.id), 0),
    func.coalesce(func.max(t.proposals.c.env_step), 0),
    func.count(),
    func.coalesce(func.sum(case((t.proposals.c.status == "credited", 1), else_=0)), 0),
    func.coalesce(func.sum(case((t.proposals.c.status == "not_applied", 1), else_=0)), 0),
    func.coalesce(func.sum(t.proposals.c.neighbours_read), 0),
    func.coalesce(func.sum(t.proposals.c.neighbours_other), 0),
    func.count(t.proposals.c.memory_hit),
    func.coalesce(func.sum(case((t.proposals.c.memory_hit, 1), else_=0)), 0),
    func.coalesce(func.max(t.proposals.c.sequence), 0),
    func.coalesce(func.sum(_BYTES_OF_A_PROPOSAL), 0),
).where(t.proposals.c.job_id == bindparam("job"), t.proposals.c.id > bindparam("counted"))
_OPEN_PROPOSALS = (
    select(t.proposals, t.hyper_states.c.features)
    .join(t.hyper_states, t.hyper_states.c.proposal_id == t.proposals.c.id, isouter=True)
    .where(t.proposals.c.job_id == bindparam("job"), t.proposals.c.status == "open")
)
_WAITING_REPORTS = select(t.reports.c.body).where(
    t.reports.c.job_id == bindparam("job"), t.reports.c.status == "waiting"
)


def load_studies(ledger: Ledger, services: Services) -> dict[str, StudyRuntime]:
    """Every study of the ledger, ready to go on."""
    collects = gc.isenabled()
    gc.disable()  # nothing is garbage here, and looking for it among millions of rows takes long
    try:
        with ledger.reading() as connection:
            there = select(t.studies).where(~t.studies.c.name.startswith(deletion.MARK))
            rows = connection.execute(there.order_by(t.studies.c.id)).all()
            return {row.name: load_study_row(connection, row, services) for row in rows}
    finally:
        if collects:
            gc.enable()


def load_study(ledger: Ledger, services: Services, name: str) -> StudyRuntime | None:
    """One study of the ledger, None if there is none of this name."""
    with ledger.reading() as connection:
        row = connection.execute(select(t.studies).where(t.studies.c.name == name)).first()
        return None if row is None else load_study_row(connection, row, services)


def highest_ids(ledger: Ledger) -> dict[str, int]:
    """The highest number in use per table."""
    tables = {"studies": t.studies, "jobs": t.jobs, "proposals": t.proposals,
              "memory_entries": t.memory_entries}  # fmt: skip
    with ledger.reading() as connection:
        return {
            name: connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one()
            for name, table in tables.items()
        }


def stored_answer(ledger: Ledger, job_id: int, sequence: int) -> Answer | None:
    """The answer that a sequence got, from the ledger."""
    with ledger.reading() as connection:
        for table in (t.reports, t.proposals):
            query = select(table.c.request_digest, table.c.response).where(
                table.c.job_id == job_id, table.c.sequence == sequence
            )
            row = connection.execute(query).first()
            if row is not None:
                return Answer(row.request_digest, row.response.encode())
    return None


def load_study_row(connection: Connection, row: Any, services: Services) -> StudyRuntime:
    """The study of a row of `studies`, with all that belongs to it."""
    definition = StudyDefinition.model_validate_json(row.definition)
    study = StudyRuntime(
        row.id, row.name, definition, row.seed, row.created_at, services, row.token_id
    )
    for job in connection.execute(_jobs_of(row.id)):
        state = _load_job(connection, job, study, services)
        study.jobs[state.public_id] = state
        if state.hyper_agent_notes is not None:
            study.agent.restore(state.id, state.hyper_agent_notes)
    if study.agent.needs_hyper_states:
        _load_memories(connection, study)
    _settle_endings(study)
    s = t.hyper_agent_states.c
    for learned in connection.execute(select(s.name, s.state).where(s.study_id == study.number)):
        study.agent.restore_state(learned.name, learned.state)
    return study


def _settle_endings(study: StudyRuntime) -> None:
    """Say what the jobs count for that ended under a release that did not settle it."""
    for job in study.jobs.values():
        if job.status == "finished" and job.ending is None:
            study.endings.settle(job, job.finish_reason or "completed")


def _jobs_of(study_id: int) -> Select[Any]:
    return select(t.jobs).where(t.jobs.c.study_id == study_id).order_by(t.jobs.c.id)


def _load_job(
    connection: Connection, row: Any, study: StudyRuntime, services: Services
) -> JobState:
    layout = HyperStateLayout.model_validate_json(row.layout)
    layout = study.layouts.setdefault(layout.signature, layout)  # one for all jobs: it may be long
    job = JobState(
        id=row.id,
        chance_number=row.id if row.chance_number is None else row.chance_number,
        public_id=row.public_id,
        job_key=row.job_key,
        role=row.role,
        layout=layout,
        total_env_steps=row.total_env_steps,
        base_values=json.loads(row.base_values),
        metadata=json.loads(row.metadata),
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
        credit=study.new_credit_book(),
        account=JobAccount.load(row.total_env_steps, row.learning_curve, study.sign),
        lease_started=services.clock.monotonic(),
        status=row.status,
        finish_reason=row.finish_reason,
        env_step=row.env_step,
        last_return=row.last_return,
        held=None if row.held_decision is None else Held(*json.loads(row.held_decision)),
        hyper_agent_notes=row.hyper_agent_notes,
        owner=row.token_id,
    )
    _load_counts(connection, job, row)
    _load_open(connection, job)
    decisions = [(sequence, proposal.hyper_action) for sequence, proposal in job.open.items()]
    if job.held is not None:
        decisions.append((job.held.sequence, job.held.hyper_action))
    for sequence, action in sorted(decisions):
        job.account.exposure.decide(sequence, action)
    waiting = connection.execute(_WAITING_REPORTS, {"job": job.id}).scalars()
    job.credit.restore(
        json.loads(row.credit_state),
        list(job.open),
        [Report.model_validate_json(body) for body in waiting],
    )
    return job


def _load_counts(connection: Connection, job: JobState, row: Any) -> None:
    """Those of the job's row, and of the proposals that came after it was written.

    Where the row has none (it is of an earlier release, or was restored), all are counted.
    """
    if row.counts is None:
        r = t.reports.c
        reports, last_report, report_bytes = connection.execute(
            select(
                func.count(),
                func.coalesce(func.max(r.sequence), 0),
                func.coalesce(func.sum(ROW_BYTES + func.length(r.body)), 0),
            ).where(r.job_id == job.id)
        ).one()
        known, through = (
            JobCounts(reports=reports, last_sequence=last_report, store_bytes=report_bytes),
            0,
        )
    else:
        known, through = JobCounts.load(row.counts), row.counted_through
    newest, env_step, *counts = connection.execute(
        _COUNTS_OF_PROPOSALS, {"job": job.id, "counted": through}
    ).one()
    names = ("proposals", "credited", "not_applied", "neighbours_read", "neighbours_other",
             "memory_reads", "memory_hits", "last_sequence", "store_bytes")  # fmt: skip
    job.counts = known + JobCounts(**dict(zip(names, counts, strict=True)))
    job.counted_through = max(through, newest)
    job.env_step = max(job.env_step, env_step)


def _load_open(connection: Connection, job: JobState) -> None:
    for row in connection.execute(_OPEN_PROPOSALS, {"job": job.id}):
        features = None if row.features is None else np.frombuffer(row.features, job.layout.dtype)
        # The key is made anew from the features when it is needed.
        job.open[row.sequence] = OpenProposal(
            row.id, row.env_step, row.hyper_action, features, None, None
        )


def _load_memories(connection: Connection, study: StudyRuntime) -> None:
    layouts = {job.signature: job.layout for job in study.jobs.values()}
    for signature, layout in layouts.items():
        newest = _latest_version(connection, study.number, signature)
        version = study.agent.restore_layout(
            layout,
            None if newest is None else newest.state,
            0 if newest is None else newest.samples_through,
        )
        _load_entries(connection, study, signature, version)
        _load_samples(connection, study, signature)


def _latest_version(connection: Connection, study_id: int, signature: str) -> Any:
    v = t.encoder_versions
    return connection.execute(
        select(v)
        .where(v.c.study_id == study_id, v.c.layout_signature == signature)
        .order_by(v.c.version.desc())
        .limit(1)
    ).first()


def _load_entries(
    connection: Connection,
    study: StudyRuntime,
    signature: str,
    version: int,
) -> None:
    e, k = t.memory_entries, t.memory_keys
    query = (
        select(e.c.id, e.c.job_id, e.c.proposal_id, e.c.hyper_action, e.c.value,
               e.c.hyper_reward, e.c.ends_episode, k.c.key)
        .join(k, (k.c.entry_id == e.c.id) & (k.c.encoder_version == version))
        .where(e.c.study_id == study.number, e.c.evicted.is_(False))
        .where(e.c.layout_signature == signature)
        .order_by(e.c.id)
    )  # fmt: skip
    rows = connection.execute(query).all()
    if not rows:
        return
    # By column: at 100,000 entries an attribute of each row would take seconds.
    ids, jobs, proposals, actions, values, hyper_rewards, ends_episode, keys = zip(
        *rows, strict=True
    )
    study.entry_jobs.update(zip(ids, jobs, strict=True))
    study.entry_proposals.update(zip(ids, proposals, strict=True))
    entries = Entries(
        np.array(ids, np.int64),
        np.frombuffer(b"".join(keys), np.float32).reshape(len(rows), -1),
        np.array(actions, np.int64),
        np.array(values, np.float64),
    )
    study.agent.load(
        signature,
        entries,
        np.array(hyper_rewards, np.float64),
        np.array(ends_episode, np.bool_),
    )


def _load_samples(connection: Connection, study: StudyRuntime, signature: str) -> None:
    h = t.hyper_states.c
    newest = connection.execute(
        select(h.proposal_id)
        .where(h.study_id == study.number, h.layout_signature == signature)
        .order_by(h.proposal_id.desc())
        .limit(study.agent.samples_needed)
    ).scalars()
    study.samples.restore(signature, newest)
