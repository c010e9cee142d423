"""What people and scripts read of the oracle: studies, jobs, explanations, memory, schedules."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from sqlalchemy import select

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.inspection import (
    Explanation,
    HyperActionValue,
    MapPoint,
    MemoryEntry,
    MemoryMap,
    MemoryPage,
    Neighbour,
)
from hyperoracle_protocol.jobs import Job, JobList
from hyperoracle_protocol.space import decode
from hyperoracle_protocol.studies import MemorySearch, Study, StudyList
from hyperoracle_server.errors import OracleError
from hyperoracle_server.keyed.agent import KeyedAgent
from hyperoracle_server.keyed.epgt import EpisodicAgent
from hyperoracle_server.ledger import schema as t
from hyperoracle_server.oracle.clock import as_datetime
from hyperoracle_server.oracle.job import JobState
from hyperoracle_server.oracle.leases import status_of
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.oracle.shortcomings import lacks_signal
from hyperoracle_server.oracle.study import StudyRuntime
from hyperoracle_server.strategies.base import HyperAgent
from hyperoracle_server.views.schedules import used_instead


def describe_study(oracle: Oracle, study: StudyRuntime) -> Study:
    """A study with its counts, as they are now or were a moment ago.

    It waits for no lock: lists and metrics are not to wait for a study that is at work.
    """
    jobs = list(study.jobs.values())
    agent = study.agent
    recollections = dict(agent.recollections) if isinstance(agent, KeyedAgent) else {}
    capacity = agent.capacity if isinstance(agent, KeyedAgent) else None
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
        memory_size=sum(r.memory.size for r in recollections.values()),
        memory_capacity=capacity,
        encoder_versions={s: r.state.version for s, r in recollections.items()},
        memory_search=_memory_search(agent),
        neighbours_from_other_jobs=other / read if read else None,
    )


def _memory_search(agent: HyperAgent) -> dict[str, MemorySearch]:
    if not isinstance(agent, EpisodicAgent):
        return {}
    return {
        signature: MemorySearch(graphs=len(memory.graph_efforts), recall=memory.graph_recall)
        for signature, memory in [(s, r.memory) for s, r in list(agent.recollections.items())]
    }


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


def explain(oracle: Oracle, proposal_id: str) -> Explanation:
    """Why a proposal is what it is.

    Raises:
        OracleError: `proposal_not_found`.
    """
    job_id, _, sequence = proposal_id.rpartition(".")
    not_found = OracleError(
        ErrorCode.PROPOSAL_NOT_FOUND,
        f"there is no proposal {proposal_id!r}",
        expected="a proposal_id that propose answered",
        got=proposal_id,
    )
    if not (sequence.isascii() and sequence.isdigit()) or len(sequence) > 18:
        raise not_found
    try:
        with oracle.job(job_id) as (study, job):
            names = {j.id: j.public_id for j in study.jobs.values()}
    except OracleError:
        raise not_found from None
    oracle.ledger.writer.flush()
    with oracle.ledger.reading() as connection:
        p = t.proposals.c
        query = select(t.proposals).where(p.job_id == job.id, p.sequence == int(sequence))
        row = connection.execute(query).first()
        if row is None:
            raise not_found
        neighbours = _neighbours(connection, row, job, names, study)
        used = used_instead(connection, job).get(row.sequence)
    return _explanation(study, job, row, proposal_id, neighbours, used)


def _neighbours(
    connection: Any, row: Any, job: JobState, names: dict[int, str], study: StudyRuntime
) -> list[Neighbour]:
    if row.neighbour_ids is None:
        return []
    ids = np.frombuffer(row.neighbour_ids, np.int64)
    distances = np.frombuffer(row.neighbour_distances, np.float64)
    values = np.frombuffer(row.neighbour_values, np.float64)
    e = t.memory_entries.c
    entries = {
        entry.id: entry
        for entry in connection.execute(select(t.memory_entries).where(e.id.in_(ids.tolist())))
    }
    weights = kernel_shares(distances)
    found = []
    for entry_id, distance, weight, value in zip(
        ids.tolist(), distances.tolist(), weights.tolist(), values.tolist(), strict=True
    ):
        entry = entries.get(entry_id)
        found.append(
            Neighbour(
                entry_id=entry_id,
                job_id="" if entry is None else names.get(entry.job_id, ""),
                age_seconds=0.0 if entry is None else max(0.0, row.created_at - entry.created_at),
                distance=distance,
                weight=weight,
                value=study.sign * value,
                from_other_job=entry is None or entry.job_id != job.id,
            )
        )
    return found


def kernel_shares(squared_distances: np.ndarray) -> np.ndarray:
    """Each neighbour's share of the kernel sum of Eq. 3, float64, shape (neighbours,)."""
    from hyperoracle_server.keyed.memory.kernel import similarity

    weights = similarity(squared_distances)
    return np.asarray(weights / weights.sum() if weights.size else weights)


def _explanation(
    study: StudyRuntime, job: JobState, row: Any, proposal_id: str, neighbours: list[Neighbour],
    used: dict[str, Any] | None,
) -> Explanation:  # fmt: skip
    values: list[HyperActionValue] = []
    if row.q_values is not None:
        q = study.sign * np.frombuffer(row.q_values, np.float64)
        known = np.frombuffer(row.known, np.bool_)
        values = [
            _action_value(study, action, float(q[action]), known=bool(known[action]))
            for action in range(q.size)
        ]
        chosen = values[row.hyper_action]
    else:
        chosen = _action_value(study, row.hyper_action, None, known=False)
    return Explanation(
        proposal_id=proposal_id,
        job_id=job.public_id,
        study=study.name,
        sequence=row.sequence,
        created_at=as_datetime(row.created_at),
        role=row.role,
        strategy=row.strategy,
        encoder_version=row.encoder_version,
        memory_revision=row.memory_revision,
        epsilon=row.epsilon,
        explored=row.explored,
        propensity=row.propensity,
        held=row.held,
        chosen=chosen,
        values=values,
        neighbours=neighbours,
        applied=row.status != "not_applied" and used is None,
        used_instead=used,
        hyper_return=row.hyper_return,
        why=_why(study, row, values),
    )


def _action_value(
    study: StudyRuntime, action: int, q: float | None, *, known: bool
) -> HyperActionValue:
    bins = list(study.grid.bins(action))
    return HyperActionValue(
        bins=bins, hyperparameters=decode(study.definition.space, bins), q=q, known=known
    )


_WHY = {
    ("fixed", False): "the strategy `fixed` always gives the defaults",
    ("random", True): "the strategy `random` gives every hyper-action the same chance",
    ("anchored", True): "explored: a sample of what the bins may be worth, one for the whole job",
    ("anchored", False): "the greatest cautious value over the default that enough jobs stand "
    "behind; else the default",
    ("best_config", True): "explored: the least tried near the default or near the best, for the "
    "whole job",
    ("best_config", False): "the best mean over whole jobs, or the default until there are enough",
    (
        "cautious_config",
        True,
    ): "explored: the least tried of what may be better than the default, for the whole job",
    (
        "cautious_config",
        False,
    ): "the greatest cautious score over the default that enough whole jobs "
    "stand behind; else the default",
    ("bandit", True): "several arms were level, untried or with the same bound: chance chose",
    ("bandit", False): "the arm of the greatest upper confidence bound, in the hyperparameter of "
    "the greatest",
    ("kl_adaptive", False): "the bin nearest to the rate that the KL divergence asked for",
}
"""Why a strategy without hyper-states chose, by its name and whether it explored."""


def _why(study: StudyRuntime, row: Any, values: list[HyperActionValue]) -> str:
    if row.held:
        return "an earlier decision is still held"
    if row.role == "control":
        return "a control job stays on the defaults"
    if lacks_signal(study.definition, json.loads(row.signals)):
        return "the signal that the strategy decides by did not come: the value stays as it was"
    if (row.strategy, bool(row.explored)) in _WHY:
        return _WHY[row.strategy, bool(row.explored)]
    known = sum(value.known for value in values)
    if row.explored:
        return f"explored: chance chose, at epsilon {row.epsilon:.2f}"
    if row.strategy == "dqn":
        trained = "" if known else ", which has not been trained yet"
        return f"the greatest of {len(values)} values of the Q-network{trained}"
    if known == 0:
        return "the memory knew nothing here: ties are broken at random"
    return f"the greatest value among {len(values)} hyper-actions, {known} of them known"


def memory_page(oracle: Oracle, study_name: str, after: int, limit: int) -> MemoryPage:
    """Live entries with ids greater than `after`, at most `limit`."""
    with oracle.study(study_name) as study:
        names = {job.id: job for job in study.jobs.values()}
    summary = describe_study(oracle, study)
    oracle.ledger.writer.flush()
    e, p = t.memory_entries, t.proposals
    query = (
        select(e, p.c.sequence)
        .join(p, p.c.id == e.c.proposal_id)
        .where(e.c.study_id == study.number, e.c.evicted.is_(False), e.c.id > after)
        .order_by(e.c.id)
        .limit(limit)
    )
    with oracle.ledger.reading() as connection:
        rows = connection.execute(query).all()
    entries = []
    for row in rows:
        bins = list(study.grid.bins(row.hyper_action))
        job = names[row.job_id]
        entries.append(
            MemoryEntry(
                entry_id=row.id,
                layout=row.layout_signature,
                job_id=job.public_id,
                proposal_id=f"{job.public_id}.{row.sequence}",
                bins=bins,
                hyperparameters=decode(study.definition.space, bins),
                value=study.sign * row.value,
                env_step=row.env_step,
                created_at=as_datetime(row.created_at),
            )
        )
    return MemoryPage(
        entries=entries,
        size=summary.memory_size,
        capacity=summary.memory_capacity,
        next_after=rows[-1].id if len(rows) == limit else None,
    )


def memory_map(oracle: Oracle, study_name: str, limit: int) -> MemoryMap:
    """The newest keys of the largest layout, in the plane of their two main axes (PCA)."""
    with oracle.study(study_name) as study:
        agent = study.agent
        recollections = agent.recollections.values() if isinstance(agent, KeyedAgent) else ()
        largest = max(recollections, key=lambda r: r.memory.size, default=None)
        if largest is None or largest.memory.size == 0:
            return MemoryMap(layout=None, points=[], explained_variance=[])
        entries = largest.memory.entries()
        ids, keys = entries.ids[-limit:].copy(), entries.keys[-limit:].astype(np.float64)
        actions, values = entries.actions[-limit:].copy(), entries.values[-limit:].copy()
        names = {job.id: job.public_id for job in study.jobs.values()}
        owners = [names[study.entry_jobs[i]] for i in ids.tolist()]
    plane, shares = main_plane(keys)
    points = [
        MapPoint(
            entry_id=int(ids[i]),
            job_id=owners[i],
            x=float(plane[i, 0]),
            y=float(plane[i, 1]),
            value=study.sign * float(values[i]),
            bins=list(study.grid.bins(int(actions[i]))),
        )
        for i in range(len(ids))
    ]
    return MemoryMap(layout=largest.layout.signature, points=points, explained_variance=shares)


def main_plane(keys: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Principal components: coordinates (keys, 2) and each axis' share of the variance."""
    centred = keys - keys.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    variance = singular**2
    shares = (variance / variance.sum()).tolist() if variance.sum() > 0 else [0.0] * len(singular)
    plane = np.zeros((len(keys), 2))
    width = min(2, len(axes))
    plane[:, :width] = centred @ axes[:width].T
    return plane, [*shares, 0.0, 0.0][:2]
