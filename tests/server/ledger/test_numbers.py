"""A store's numbers stay dense, and are made so where a release of before let them run away."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from server.strategies.test_strategies import STRATEGIES, TWO, phase
from support.crafted_snapshots import crafted
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.ledger.numbers import REFERENCES, UP_TO, renumbered
from hyperoracle_server.snapshots.stores import restore_store, verify
from hyperoracle_server.snapshots.taking import take_store, take_study

SNAPSHOT = "application/vnd.hyperoracle.snapshot"


@pytest.fixture
def opened(no_upkeep):
    """Opens stores, and closes them at the end; no encoder trains meanwhile."""
    transports = []

    def open_store(path: Path) -> Wire:
        transports.append(EmbeddedTransport(str(path)))
        return Wire(transport=transports[-1])

    yield open_store
    for transport in transports:
        transport.close()


def highest(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return max(database.execute(f"SELECT max(id) FROM {table}").fetchone()[0]
                   for table in ("studies", "jobs", "proposals", "memory_entries"))  # fmt: skip


def test_restores_number_by_what_they_bring(opened, tmp_path):
    """A job that goes on, its study restored beside it and deleted again: what is new has the
    newest numbers, so the study spans all of them. Seen to fail with numbers shifted by that span:
    they double each time (8,191 after twelve)."""
    wire = opened(tmp_path / "oracle.db")
    wire.study("s", strategy=STRATEGIES["epgt"])
    job = wire.job("s")
    for number in range(12):
        wire.propose(job, 2 * number + 1, seed=number)
        wire.report(job, 2 * number + 2, 2 * number + 1)
        content = wire.call("POST", "/v1/studies/s/snapshots").json
        assert wire.raw("POST", "/v1/studies/copy/restore", content, SNAPSHOT).status == 201
        assert wire.call("DELETE", "/v1/studies/copy").status == 204
    assert highest(tmp_path / "oracle.db") <= 12 + 12 * 13 / 2


def spread(database: sqlite3.Connection, factor: int) -> None:
    """Give a store numbers as many restores of before left them, in the same order."""
    for references in (UP_TO, REFERENCES):
        for table, columns in references.items():
            for column in columns:
                database.execute(f"UPDATE {table} SET {column} = -{column} * {factor}")
                database.execute(f"UPDATE {table} SET {column} = -{column}")
    named = database.execute("SELECT id, neighbour_ids FROM proposals WHERE neighbour_ids NOT NULL")
    for number, ids in named.fetchall():
        far = (np.frombuffer(ids, "<i8") * factor).tobytes()
        database.execute("UPDATE proposals SET neighbour_ids = ? WHERE id = ?", (far, number))
    database.commit()


def work(wire: Wire, first: int, last: int) -> list[list[int]]:
    """Two studies' jobs in turn, so that their numbers interleave; each decision's bins."""
    told = []
    for study in ("s", "t"):
        wire.study(study, TWO, strategy={**STRATEGIES["epgt"], "exploration": {"start": 0.3}},
                   seed=5)  # fmt: skip
    jobs = [wire.job(study, job_key=f"{study}-{n}-its-key") for n in range(2) for study in "st"]
    for number in range(first, last):
        told += [phase(wire, job, number, random.Random(number)) for job in jobs]
    return told


def explained(wire: Wire) -> list[object]:
    found = []
    for study in ("s", "t"):
        jobs = wire.call("GET", f"/v1/studies/{study}/jobs").json["jobs"]
        for job in sorted(jobs, key=lambda job: str(job["job_id"])):
            for number in range(4):
                path = f"/v1/proposals/{job['job_id']}.{2 * number + 1}/explanation"
                explanation = wire.call("GET", path).json
                for neighbour in explanation["neighbours"]:
                    del neighbour["entry_id"], neighbour["age_seconds"]
                found.append(explanation)
    return found


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """One store twice: as it is, and with numbers that have run away."""
    folder = tmp_path_factory.mktemp("stores")
    plain, far = folder / "plain.db", folder / "far.db"
    transport = EmbeddedTransport(str(plain))
    work(Wire(transport=transport), 0, 4)
    transport.close()
    far.write_bytes(plain.read_bytes())
    with closing(sqlite3.connect(far)) as database:
        spread(database, 2**38)
    return plain, far


def test_a_store_whose_numbers_ran_away_is_mended_by_opening_it(opened, stores, tmp_path):
    """Seen to fail without `mend_numbers`: nothing of it can be backed up, restored or verified."""
    plain, far = (tmp_path / store.name for store in stores)
    for store, target in zip(stores, (plain, far), strict=True):
        target.write_bytes(store.read_bytes())
    assert highest(far) > 2**40
    assert "open it once" in " ".join(verify(far)[1])
    one, other = opened(plain), opened(far)
    assert highest(far) == highest(plain)
    assert verify(far) == (None, [])
    assert explained(other) == explained(one)
    assert any(explanation["neighbours"] for explanation in explained(one))
    assert work(other, 4, 6) == work(one, 4, 6)
    content = other.call("POST", "/v1/studies/s/snapshots").json
    assert other.raw("POST", "/v1/studies/copy/restore", content, SNAPSHOT).status == 201
    take_store(far, tmp_path / "backup")
    assert verify(tmp_path / "backup")[1] == []


def test_backups_and_snapshots_of_such_a_store_can_be_restored(opened, stores, tmp_path):
    """They were made by a release of before, and may be all that is left."""
    plain, far = stores
    backup, of_s = tmp_path / "backup", tmp_path / "of-s"
    take_store(far, backup)
    assert verify(backup)[1] == []
    restore_store(backup, tmp_path / "restored.db")
    assert highest(tmp_path / "restored.db") == highest(plain)
    take_study(far, "s", of_s)
    elsewhere = opened(tmp_path / "elsewhere.db")
    assert elsewhere.raw("POST", "/v1/studies/s/restore", of_s.read_bytes(), SNAPSHOT).status == 201
    assert highest(tmp_path / "elsewhere.db") <= highest(plain)


def test_a_trigger_in_such_a_snapshot_is_not_run(opened, stores, tmp_path):
    """Its rows are numbered anew on a copy: only where nothing in it would do something of its own.
    Seen to fail (it is accepted) without the look at strangers before."""
    take_study(stores[1], "s", tmp_path / "of-s")
    endless = """CREATE TRIGGER endless AFTER UPDATE ON jobs BEGIN
        INSERT INTO reports SELECT * FROM reports WHERE job_id < 0; DELETE FROM jobs; END"""
    content = crafted(tmp_path / "of-s", endless)
    answer = opened(tmp_path / "x.db").raw("POST", "/v1/studies/s/restore", content, SNAPSHOT)
    assert answer.status == 422
    assert "trigger" in answer.json["detail"]


def test_numbers_of_no_row_become_none(opened):
    old, new = np.array([3, 5, 9]), np.array([1, 2, 3])
    assert renumbered(np.array([9, 4, 3, 100, -1]), old, new).tolist() == [3, 0, 1, 0, 0]
    nothing = np.array([], np.int64)
    assert renumbered(np.array([9]), nothing, nothing).tolist() == [0]
