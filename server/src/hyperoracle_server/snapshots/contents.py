"""Do a study's rows make sense to the code that will read them? What a checksum cannot tell.

A snapshot may have been made to do harm: whatever is taken in is answered from, and written on with
everybody's rows. So each value is looked at here as it will be read; the laws of how rows refer to
each other are in `examination`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, get_args

import numpy as np
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, select

from hyperoracle_protocol.base import MAX_COUNT, MAX_RETURN, Finite, Name
from hyperoracle_protocol.hyper_state import HyperStateLayout
from hyperoracle_protocol.jobs import FinishReason, Proposal, Receipt, Report, Role, StartJob
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.ledger import schema as t
from hyperoracle_server.ledger.deletion import MARK
from hyperoracle_server.oracle.credit import MAX_WAITING
from hyperoracle_server.snapshots import documents
from hyperoracle_server.strategies.base import HyperAgent
from hyperoracle_server.strategies.grid import HyperActionGrid
from hyperoracle_server.strategies.registry import grid_of, make_hyper_agent

MOST_NEIGHBOURS = 100_000
_name = TypeAdapter(Name)
_numbers = TypeAdapter(dict[str, Finite])
_CHANCES = 2**30
"""Jobs of one study, at most: the streams of chance are numbered in 64 bits, 32 of them by job."""


class _Study(NamedTuple):
    row: Any
    definition: StudyDefinition
    grid: HyperActionGrid
    agent: HyperAgent[Any]


class _Job(NamedTuple):
    study: _Study
    row: Any
    layout: HyperStateLayout


def senseless(connection: Connection) -> Iterator[str]:
    """What no oracle wrote, a line each; the first of each table's kind only."""
    try:
        studies = {row.id: _study(row) for row in connection.execute(select(t.studies))}
        jobs = {
            row.id: _job(row, studies, connection) for row in connection.execute(select(t.jobs))
        }
    except _Senseless as found:
        yield str(found)
        return
    checks: dict[Any, Callable[[Any], None]] = {
        t.proposals: lambda row: _check_proposal(row, jobs[row.job_id]),
        t.reports: _check_report,
        t.memory_entries: lambda row: _check_entry(row, jobs[row.job_id]),
        t.encoder_versions: lambda row: _check_version(row, studies),
        t.memory_keys: lambda row: _check_finite(row.key, np.float32),
    }
    for table, check in checks.items():
        for row in connection.execute(select(table)):
            try:
                check(row)
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                yield f"a row of {table.name} is not what an oracle writes: {_first_line(error)}"
                break
    yield from _senseless_hyper_states(connection, jobs)


class _Senseless(Exception):
    pass


def _study(row: Any) -> _Study:
    try:
        if not row.name.startswith(MARK):
            _name.validate_python(row.name)
        _within(row.seed, "seed")
        definition = StudyDefinition.model_validate_json(row.definition)
        return _Study(row, definition, grid_of(definition), make_hyper_agent(definition, row.seed))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        what = f"studies: {row.name!r} is not what an oracle writes: {_first_line(error)}"
        raise _Senseless(what) from None


def _job(row: Any, studies: dict[int, _Study], connection: Connection) -> _Job:
    try:
        job = _Job(studies[row.study_id], row, HyperStateLayout.model_validate_json(row.layout))
        _check_job(job, connection)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        what = f"jobs: {str(row.public_id)!r} is not what an oracle writes: {_first_line(error)}"
        raise _Senseless(what) from None
    return job


def _check_job(job: _Job, connection: Connection) -> None:
    row, study = job.row, job.study
    start = {"job_key": row.job_key, "total_env_steps": row.total_env_steps, "role": row.role,
             "base_values": json.loads(row.base_values),
             "metadata": json.loads(row.metadata)}  # fmt: skip
    StartJob.model_validate_json(json.dumps(start))
    ids = row.public_id
    _hold(ids.isascii() and ids.replace("-", "").isalnum(), "public_id")
    reasons = get_args(FinishReason) if row.status == "finished" else (None,)
    _hold(row.finish_reason in reasons, "status and finish_reason")
    _within(row.env_step, "env_step")
    _hold(row.last_return is None or abs(row.last_return) <= MAX_RETURN, "last_return")
    _hold((row.chance_number or 0) <= _CHANCES, "chance_number")
    _hold((job.layout.kind != "none") == study.agent.needs_hyper_states, "layout")
    if row.counts is not None:
        documents.check_counts(row.counts)
    if row.learning_curve is not None:
        documents.check_account(row.learning_curve, row.total_env_steps, study.grid)
    if row.held_decision is not None:
        documents.check_held(row.held_decision, study.grid)
    if row.hyper_agent_notes is not None:
        documents.check_notes(row.hyper_agent_notes, study.agent)
    _check_credit(job, connection)


def _check_credit(job: _Job, connection: Connection) -> None:
    """The credit book's episode is of open proposals, and what waits can come."""
    credit = documents.CreditState.model_validate_json(job.row.credit_state)
    phases = job.study.agent.learning_episode.phases
    _hold(len(credit.episode) < phases or not credit.episode, "credit_state: its episode")
    _hold(len(credit.recent) <= job.study.definition.returns.count, "credit_state: recent returns")
    p, r = t.proposals.c, t.reports.c
    of_job = select(p.sequence).where(p.job_id == job.row.id, p.status == "open")
    is_open = set(connection.execute(of_job).scalars())
    in_episode = [sequence for sequences, _ in credit.episode for sequence in sequences]
    _hold(is_open.issuperset(in_episode), "credit_state: an episode of what is not open")
    _hold(len(set(in_episode)) == len(in_episode), "credit_state: an episode that repeats")
    _hold(in_episode == sorted(in_episode), "credit_state: an episode without order")
    waiting = connection.execute(
        select(r.body).where(r.job_id == job.row.id, r.status == "waiting")
    ).scalars()
    awaited = [Report.model_validate_json(body).previous_report or 0 for body in waiting]
    _hold(len(set(awaited)) == len(awaited) <= MAX_WAITING, "reports that wait")


def _check_proposal(row: Any, job: _Job) -> None:
    grid = job.study.grid
    _hold(1 <= row.sequence <= MAX_COUNT, "sequence")
    for column in ("update_step", "env_step", "memory_revision", "neighbours_read",
                   "neighbours_other"):  # fmt: skip
        _within(getattr(row, column), column)
    _hold(0 <= row.hyper_action < grid.joint_count, "hyper_action")
    _hold(0.0 <= row.epsilon <= 1.0, "epsilon")
    _hold(0.0 < row.propensity <= 1.0 + 1e-9, "propensity")
    _hold(row.role in get_args(Role), "role")
    _hold(row.strategy == job.study.definition.strategy.name, "strategy")
    _hold(row.encoder_version is None or row.encoder_version >= 0, "encoder_version")
    _hold(row.hyper_return is None or abs(row.hyper_return) <= documents.LARGEST, "hyper_return")
    _hold((row.status == "held") == bool(row.held), "held")
    _numbers.validate_json(row.base_values)
    _numbers.validate_json(row.signals)
    answer = Proposal.model_validate_json(row.response)
    _hold(answer.sequence == row.sequence, "response: its sequence")
    _hold(tuple(answer.bins) == tuple(grid.bins(row.hyper_action)), "response: its bins")
    _check_evidence(row, grid)


def _check_evidence(row: Any, grid: HyperActionGrid) -> None:
    evidence = (row.q_values, row.known, row.neighbour_ids, row.neighbour_distances,
                row.neighbour_values)  # fmt: skip
    if all(each is None for each in evidence):
        return
    _hold(all(each is not None for each in evidence), "evidence that lacks a part")
    _hold(len(row.q_values) == 8 * grid.joint_count, "q_values")
    _check_finite(row.q_values, np.float64)
    _hold(len(row.known) == grid.joint_count and set(row.known) <= {0, 1}, "known")
    size = len(row.neighbour_ids)
    _hold(size == len(row.neighbour_distances) == len(row.neighbour_values), "neighbours")
    _hold(size % 8 == 0 and size <= 8 * MOST_NEIGHBOURS, "neighbours")
    _check_finite(row.neighbour_distances, np.float64)
    _check_finite(row.neighbour_values, np.float64)
    _hold(bool((np.frombuffer(row.neighbour_distances) >= 0).all()), "neighbour_distances")


def _check_report(row: Any) -> None:
    body = Report.model_validate_json(row.body)
    _hold(body.sequence == row.sequence >= 1, "body: its sequence")
    _hold(Receipt.model_validate_json(row.response).sequence == row.sequence,
          "response: its sequence")  # fmt: skip


def _check_entry(row: Any, job: _Job) -> None:
    _hold(row.study_id == job.row.study_id, "study_id")
    _hold(row.layout_signature == job.layout.signature, "layout_signature")
    _hold(0 <= row.hyper_action < job.study.grid.joint_count, "hyper_action")
    _hold(abs(row.value) <= documents.LARGEST, "value")
    _hold(abs(row.hyper_reward or 0.0) <= documents.LARGEST, "hyper_reward")
    _within(row.env_step, "env_step")


def _check_version(row: Any, studies: dict[int, _Study]) -> None:
    _hold(row.study_id in studies, "study_id")
    _hold(0 <= row.version < 2**31, "version")
    _within(row.samples_through, "samples_through")
    _hold(isinstance(json.loads(row.report), dict), "report")


def _senseless_hyper_states(connection: Connection, jobs: dict[int, _Job]) -> Iterator[str]:
    """Hyper-states that their job's layout does not describe."""
    h, p = t.hyper_states.c, t.proposals.c
    rows = connection.execute(
        select(h.study_id, h.layout_signature, h.features, p.job_id).join(
            t.proposals, p.id == h.proposal_id
        )
    )
    for row in rows:
        job = jobs[row.job_id]
        try:
            _hold(row.study_id == job.row.study_id, "study_id")
            _hold(row.layout_signature == job.layout.signature, "layout_signature")
            dtype = np.dtype(job.layout.dtype)
            _hold(len(row.features) == dtype.itemsize * job.layout.feature_count, "features")
            _check_finite(row.features, dtype)
        except (ValueError, TypeError) as error:
            yield f"a row of hyper_states is not what an oracle writes: {_first_line(error)}"
            return


def _check_finite(numbers: bytes, dtype: Any) -> None:
    _hold(bool(np.isfinite(np.frombuffer(numbers, dtype)).all()), "numbers that are not finite")


def _within(value: int, what: str) -> None:
    _hold(0 <= value <= MAX_COUNT, what)


def _hold(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return (str(error).splitlines() or [type(error).__name__])[0]
