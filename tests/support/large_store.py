"""A store of many memory entries, in seconds: real phases of real jobs, told again and again."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from hyperoracle_server.api.embedded import EmbeddedTransport
from support.wire_client import LEARNING_RATE, Wire

JOBS = 20
REAL_PHASES = 8

SMALL = ((4, 3), (4,))
"""Tensors of a tiny model."""

ACTOR_CRITIC = tuple(
    shape
    for outputs in (3, 1)
    for rows, columns in ((64, 11), (64, 64), (outputs, 64))
    for shape in ((rows, columns), (rows,))
)
"""Those of a 64x64 actor-critic: 4,256 features a hyper-state."""


def make_large_store(
    store: Path, entries: int, *, space: Any = None, tensors: tuple[tuple[int, ...], ...] = SMALL,
    index: str = "auto",
) -> list[Any]:  # fmt: skip
    """Make a store whose one study `s` remembers so many entries; returns its jobs' starts.

    Some phases are made by calls. Then each job's last one is copied with new numbers, returns,
    features and keys, until there are enough; what the job's row says of its credit moves along,
    so that every job can go on.

    Args:
        store: the file to make.
        entries: how many, a multiple of `JOBS`; all fit into the memory.
        space: the search space; by default one hyperparameter of three values.
        tensors: shapes of the model's tensors.
        index: the memory's.
    """
    transport = EmbeddedTransport(str(store))
    wire = Wire(transport=transport)
    memory = {"capacity": entries + 1000, "index": index}
    strategy = {"name": "epgt", "memory": memory, "encoder": {"publish_seconds": 86_400},
                "exploration": {"start": 1, "end": 1}}  # fmt: skip
    assert wire.study("s", space or LEARNING_RATE, strategy=strategy).status == 201
    named = [{"name": f"tensor-{i}", "shape": shape} for i, shape in enumerate(tensors)]
    jobs = [wire.job("s", total=10**9, tensors=named, job_key=f"job-number-{n}")
            for n in range(JOBS)]  # fmt: skip
    for phase in range(REAL_PHASES):
        for number, job in enumerate(jobs):
            wire.propose(job, 2 * phase + 1, seed=JOBS * phase + number)
            returns = [float(phase % 3 + number % 5)]
            assert wire.report(job, 2 * phase + 2, 2 * phase + 1, returns).json["credited"] == 1
    transport.close()
    with closing(sqlite3.connect(store)) as database:
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=OFF")  # nothing else knows of this file yet
        _multiply(database, entries // JOBS - REAL_PHASES, jobs[0]["layout"])
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return jobs


def _multiply(database: sqlite3.Connection, copies: int, layout: Any) -> None:
    rng = np.random.default_rng(100)
    last = 2 * REAL_PHASES
    (actions,) = _one(database, "SELECT 1 + max(hyper_action) FROM proposals").values()
    (proposals,) = _one(database, "SELECT max(id) FROM proposals").values()
    (entries,) = _one(database, "SELECT max(id) FROM memory_entries").values()
    for job in database.execute("SELECT * FROM jobs ORDER BY id").fetchall():
        of_phase = "SELECT * FROM {} WHERE job_id = ? AND sequence = ?"
        proposal = _one(database, of_phase.format("proposals"), job["id"], last - 1)
        report = _one(database, of_phase.format("reports"), job["id"], last)
        of_proposal = "SELECT * FROM {} WHERE proposal_id = ?"
        entry = _one(database, of_proposal.format("memory_entries"), proposal["id"])
        state = _one(database, of_proposal.format("hyper_states"), proposal["id"])
        key = _one(database, "SELECT * FROM memory_keys WHERE entry_id = ?", entry["id"])

        asked = range(last + 1, last + 2 * copies, 2)
        told = [sequence + 1 for sequence in asked]
        numbers = range(proposals + 1, proposals + copies + 1)
        entry_ids = range(entries + 1, entries + copies + 1)
        hyper_actions = rng.integers(actions, size=copies).tolist()
        values = rng.normal(size=copies).tolist()
        keys = rng.normal(size=(copies, len(key["key"]) // 4)).astype(np.float32)
        said, body, receipt = (
            json.loads(text) for text in (proposal["response"], report["body"], report["response"])
        )
        _insert(
            database, "proposals", proposal, id=numbers, sequence=asked, env_step=asked,
            update_step=asked, hyper_action=hyper_actions, hyper_return=values,
            response=[
                json.dumps(said | {"proposal_id": f"{job['public_id']}.{s}", "sequence": s})
                for s in asked
            ],
        )  # fmt: skip
        _insert(
            database, "reports", report, sequence=told,
            body=[json.dumps(body | {"sequence": s, "credits_through": s - 1, "env_step": s})
                  for s in told],
            response=[json.dumps(receipt | {"sequence": s}) for s in told],
        )  # fmt: skip
        count, dtype = layout["feature_count"], layout["dtype"]
        # Numbers drawn once and shifted: drawing them all would take longer than all the rest.
        features = rng.normal(size=2 * count).astype(dtype)
        _insert(
            database, "hyper_states", state, proposal_id=numbers,
            features=[np.roll(features, i)[:count].tobytes() for i in range(copies)],
        )  # fmt: skip
        _insert(
            database, "memory_entries", entry, id=entry_ids, proposal_id=numbers,
            hyper_action=hyper_actions, value=values, env_step=asked,
        )  # fmt: skip
        _insert(database, "memory_keys", key, entry_id=entry_ids,
                key=[row.tobytes() for row in keys])  # fmt: skip
        proposals += copies
        entries += copies
        credit = json.loads(job["credit_state"])
        credit |= {"covered_through": asked[-1], "last_applied": told[-1]}
        counts = json.loads(job["counts"])
        for name in ("proposals", "reports", "credited"):
            counts[name] += copies
        for name in ("neighbours_read", "neighbours_other"):
            counts[name] += copies * proposal[name]
        if proposal["memory_hit"] is not None:
            counts["memory_reads"] += copies
            counts["memory_hits"] += copies * proposal["memory_hit"]
        counts["last_sequence"] = told[-1]
        database.execute(
            "UPDATE jobs SET credit_state = ?, env_step = ?, counts = ?, counted_through = ? "
            "WHERE id = ?",
            (json.dumps(credit), told[-1], json.dumps(counts), numbers[-1], job["id"]),
        )


def _one(database: sqlite3.Connection, query: str, *values: Any) -> dict[str, Any]:
    return dict(database.execute(query, values).fetchone())


def _insert(
    database: sqlite3.Connection, table: str, template: dict[str, Any], **varying: Any
) -> None:
    """Copies of a row, but for the columns that vary."""
    columns = (varying.get(name, repeat(value)) for name, value in template.items())
    names, places = ", ".join(template), ", ".join("?" * len(template))
    database.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", zip(*columns))  # noqa: B905 - constants repeat for ever
