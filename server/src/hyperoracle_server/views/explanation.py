"""Why a proposal is what it is."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from sqlalchemy import select

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.inspection import (
    Explanation,
    HyperActionValue,
    Neighbour,
)
from hyperoracle_protocol.space import decode
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.ledger import schema as t
from hyperoracle_server.oracle.job import JobState
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.oracle.services import as_datetime
from hyperoracle_server.oracle.study import StudyRuntime
from hyperoracle_server.views.studies import used_instead


def explain(oracle: Oracle, proposal_id: str) -> Explanation:
    """Why a proposal is what it is.

    Raises:
        RequestRefused: `proposal_not_found`.
    """
    job_id, _, sequence = proposal_id.rpartition(".")
    not_found = RequestRefused(
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
    except RequestRefused:
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
    from hyperoracle_server.strategies.evidence.kernel import similarity

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


def _why(study: StudyRuntime, row: Any, values: list[HyperActionValue]) -> str:
    if row.held:
        return "an earlier decision is still held"
    if row.role == "control":
        return "a control job stays on the defaults"
    agent = study.agent
    if agent.lacks_signal(json.loads(row.signals)):
        return "the signal that the strategy decides by did not come: the value stays as it was"
    known = [value.known for value in values]
    return agent.why(explored=bool(row.explored), epsilon=row.epsilon, known=known)
