"""A study is deleted at once, in parts, and on a full disk."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from server.oracle.test_restart import work
from support.handles import oracle_of
from support.waiting import wait_until
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.ledger import deletion, writer
from hyperoracle_server.ledger.schema import metadata
from hyperoracle_server.ledger.store import Ledger
from hyperoracle_server.snapshots.examination import findings


@pytest.fixture
def ledger(embedded) -> Ledger:
    found: Ledger = oracle_of(embedded).ledger
    return found


def rows(ledger: Ledger) -> dict[str, int]:
    with ledger.reading() as connection:
        return {table: connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
                for table in metadata.tables}  # fmt: skip


def test_nothing_of_a_deleted_study_stays_and_all_of_the_others(
    no_upkeep, embedded, ledger, monkeypatch
):
    """In parts of two rows; after each the store holds together, as any backup would show."""
    work(embedded, "kept", phases=2)
    embedded.call("GET", "/v1/studies/kept/schedule")  # all is written
    before = rows(ledger)
    work(embedded, "s", phases=3)
    monkeypatch.setattr(deletion, "ROWS_AT_ONCE", 2)
    run, wrong, parts = ledger.writer.run, [], []

    def examined(transaction):
        result = run(transaction)
        with ledger.reading() as connection:
            wrong.extend(findings(connection))
        parts.append(result)
        return result

    monkeypatch.setattr(ledger.writer, "run", examined)
    assert embedded.call("DELETE", "/v1/studies/s").status == 204
    assert len(parts) > 10
    assert wrong == []
    assert rows(ledger) == before


def test_a_deletion_that_a_death_cut_short_is_ended_by_the_next_life(tmp_path):
    """The study is gone from the first moment, its name free, and its rows go in the background."""
    path = tmp_path / "oracle.db"
    transport = EmbeddedTransport(str(path))
    work(Wire(transport=transport), "s", phases=2)
    ledger = oracle_of(transport).ledger
    with ledger.reading() as connection:
        number = connection.exec_driver_sql("SELECT id FROM studies").scalar_one()
    transport.close()
    ledger = Ledger(path)
    deletion.mark(ledger, number)
    ledger.close()
    transport = EmbeddedTransport(str(path))
    wire, ledger = Wire(transport=transport), oracle_of(transport).ledger
    assert wire.call("GET", "/v1/studies").json["studies"] == []
    assert wire.study("s").status == 201
    wait_until("its rows are gone", lambda: rows(ledger)["jobs"] == 0)
    wait_until("it is gone", lambda: rows(ledger)["studies"] == 1)
    assert not any(rows(ledger)[table] for table in ("proposals", "reports", "memory_entries"))
    transport.close()


def test_a_full_disk_keeps_no_study_from_being_deleted(no_upkeep, embedded, ledger, monkeypatch):
    """Every write fails until the room that was kept is given up. Seen to fail with `writer.run` in
    the place of `run_with_reserve`: an admin's DELETE gets 503."""
    work(embedded, "s", phases=1)
    reserve = ledger.path.with_name(ledger.path.name + ".reserve")
    assert reserve.stat().st_size == 8 << 20
    write_batch = writer.write_batch

    def on_a_full_disk(*arguments, **options):
        if reserve.exists():
            raise sqlite3.OperationalError("database or disk is full")
        return write_batch(*arguments, **options)

    monkeypatch.setattr(writer, "write_batch", on_a_full_disk)
    assert embedded.call("DELETE", "/v1/studies/s").status == 204
    assert not reserve.exists()
    assert rows(ledger)["proposals"] == 0
    ledger.reserve.fill()
    assert reserve.exists()


def test_no_room_is_kept_where_there_is_too_little_or_nobody_has_the_store_open(
    tmp_path, monkeypatch
):
    path, reserve = tmp_path / "oracle.db", tmp_path / "oracle.db.reserve"
    ledger = Ledger(path)
    assert reserve.exists()
    ledger.close()
    assert not reserve.exists()
    usage = shutil.disk_usage(tmp_path)._replace(free=16 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    ledger = Ledger(path)
    assert not reserve.exists()
    ledger.close()


ON_A_SMALL_DISK = """
import os, sys
sys.path.insert(0, sys.argv[2])
from support.wire_client import Wire
from hyperoracle_server.api.embedded import EmbeddedTransport
disk = sys.argv[1]
transport = EmbeddedTransport(disk + "/oracle.db")
wire = Wire(transport=transport)
for study in ("s", "kept"):
    wire.study(study, strategy={"name": "epgt", "encoder": {"minimum_samples": 100_000}})
tensors = [{"name": "w", "shape": [64, 64]}, {"name": "v", "shape": [64, 64]}]
job, kept = (wire.job(study, tensors=tensors) for study in ("s", "kept"))
def phase(job, number):
    wire.propose(job, 2 * number + 1, seed=number)
    return wire.report(job, 2 * number + 2, 2 * number + 1).status
for number in range(200):
    assert phase(job, number) == 200
assert os.path.exists(disk + "/oracle.db.reserve")
with open(disk + "/filler", "wb", buffering=0) as filler:
    try:
        while True:
            filler.write(bytes(4096))
    except OSError:
        pass
number = 0
while phase(kept, number) == 200:
    number += 1
    assert number < 20_000
answer = wire.call("DELETE", "/v1/studies/s")
assert answer.status == 204, answer
assert [s["name"] for s in wire.call("GET", "/v1/studies").json["studies"]] == ["kept"]
for again in range(number, number + 50):
    assert phase(kept, again) == 200, again
transport.close()
print("all is well")
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="takes a mount namespace of its own")
def test_a_disk_that_is_really_full_has_room_again_once_a_study_is_deleted(tmp_path):
    """On a file system of 96 MB, in a mount namespace of its own, where the machine allows one.

    Seen to fail without the reserve: DELETE gets 503."""
    disk, script = tmp_path / "disk", tmp_path / "script.py"
    disk.mkdir()
    script.write_text(ON_A_SMALL_DISK)
    mount = f"mount -t tmpfs -o size=96m none '{disk}'"
    command = ["unshare", "--mount", "sh", "-c"]
    if subprocess.run([*command, mount], capture_output=True, check=False).returncode:
        pytest.skip("no mount may be made here")
    tests = Path(__file__).parents[2]
    run = f"{mount} && exec '{sys.executable}' '{script}' '{disk}' '{tests}'"
    ended = subprocess.run([*command, run], capture_output=True, text=True, timeout=170,
                           check=False)  # fmt: skip
    assert ended.stdout == "all is well\n", ended.stderr[-3000:]
