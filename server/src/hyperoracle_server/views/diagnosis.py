"""Whether what one job of a study remembers can serve another: the figures of its records."""

from __future__ import annotations

import numpy as np
from sqlalchemy import select

from hyperoracle_protocol.inspection import (
    Diagnosis,
    Figure,
    KeyDiagnosis,
    NeighbourFigures,
    PredictionFigures,
)
from hyperoracle_server.ledger import schema as t
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.oracle.study import StudyRuntime
from hyperoracle_server.strategies.evidence.shareability import (
    BootstrapInterval,
    SharedRecords,
    shareability,
)

SHARED_FROM = 0.8
"""Keys count as shared from this ratio of neighbours from other jobs to chance."""

_CHUNK = 500  # proposals asked for at once; SQLite bounds the parameters of a statement


def diagnose(oracle: Oracle, study_name: str, neighbours: int) -> Diagnosis:
    """Whether the keys of a study's records can be shared between its jobs.

    Args:
        oracle: that has the study.
        study_name: which.
        neighbours: K of the K nearest neighbours.

    Raises:
        RequestRefused: `study_not_found`.
    """
    with oracle.study(study_name) as study:
        agent = study.agent
        memories = _memories(study)
        records = agent.shared_records()
    records += [_with_returns(oracle, *memory) for memory in memories]
    keys = [_diagnosed(each, neighbours, study.seed) for each in records if len(each.jobs)]
    strategy = study.definition.strategy.name
    note = None
    if not keys:
        note = f"the strategy {strategy} keeps no records that jobs could share"
        if agent.keeps_records:
            note = "the memory is empty: no return was reported yet"
    return Diagnosis(
        study=study.name, strategy=strategy, neighbours=neighbours, keys=keys, note=note
    )


def _memories(study: StudyRuntime) -> list[tuple[SharedRecords, list[int]]]:
    """Each memory's live entries, with the numbers of the proposals that left them."""
    found = []
    for signature, kept in study.agent.kept().items():
        entries = study.agent.entries(signature)
        ids = entries.ids.tolist()
        jobs = np.array([study.entry_jobs[i] for i in ids], np.int64)
        # Copied: the memory goes on while these are compared.
        records = SharedRecords(
            entries.keys.astype(np.float64), jobs, entries.values.copy(), kept.what
        )
        found.append((records, [study.entry_proposals[i] for i in ids]))
    return found


def _with_returns(oracle: Oracle, records: SharedRecords, proposals: list[int]) -> SharedRecords:
    """The records with the hyper-return that each entry was written with.

    What the memory holds of it now was moved by its neighbours' returns (Eq. 4), also by those of
    the job that is to be held out.
    """
    p = t.proposals.c
    returns: dict[int, float] = {}
    oracle.ledger.writer.flush()
    with oracle.ledger.reading() as connection:
        for start in range(0, len(proposals), _CHUNK):
            chunk = proposals[start : start + _CHUNK]
            query = select(p.id, p.hyper_return).where(p.id.in_(chunk))
            returns.update({row.id: row.hyper_return for row in connection.execute(query)})
    kept = np.array([returns.get(proposal) is not None for proposal in proposals], np.bool_)
    values = np.array([returns[p] for p, keep in zip(proposals, kept, strict=True) if keep])
    return SharedRecords(records.keys[kept], records.jobs[kept], values, records.what)


def _diagnosed(records: SharedRecords, neighbours: int, seed: int) -> KeyDiagnosis:
    found = shareability(records, neighbours, np.random.default_rng(seed))
    jobs = len(np.unique(records.jobs))
    count = len(records.jobs)
    if found is None:
        note = "there is nothing to compare yet: one job left all records"
        return KeyDiagnosis(what=records.what, records=count, jobs=jobs, note=note)
    thinned = None
    if found.records < count:
        thinned = f"{found.records} of the {count} records were compared, drawn at random"
    prediction = None
    if found.skill is not None and found.jobs_better is not None:
        prediction = PredictionFigures(
            skill=_figure(found.skill), jobs_better=_figure(found.jobs_better)
        )
    return KeyDiagnosis(
        what=records.what,
        records=count,
        jobs=jobs,
        note=thinned,
        neighbours=NeighbourFigures(
            from_other_jobs=found.from_other_jobs,
            expected_by_chance=found.expected_by_chance,
            ratio=_figure(found.ratio),
            shared=found.ratio.value >= SHARED_FROM,
        ),
        prediction=prediction,
    )


def _figure(estimate: BootstrapInterval) -> Figure:
    return Figure(value=estimate.value, low=estimate.low, high=estimate.high)
