"""What is remembered of a study: pages of the memory, and its map."""

from __future__ import annotations

import numpy as np
from sqlalchemy import select

from hyperoracle_protocol.inspection import (
    MapPoint,
    MemoryEntry,
    MemoryMap,
    MemoryPage,
)
from hyperoracle_protocol.space import decode
from hyperoracle_server.ledger import schema as t
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.oracle.services import as_datetime
from hyperoracle_server.views.studies import describe_study


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
        kept = study.agent.kept()
        largest = max(kept, key=lambda layout: kept[layout].entries, default=None)
        if largest is None or kept[largest].entries == 0:
            return MemoryMap(layout=None, points=[], explained_variance=[])
        entries = study.agent.entries(largest)
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
    return MemoryMap(layout=largest, points=points, explained_variance=shares)


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
