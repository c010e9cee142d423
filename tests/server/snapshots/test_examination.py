"""What a store must be to hold together: each law is broken once, in a store that keeps them all.

Each breach is found by its own law and, but where `ALSO` says so, by no other: a law that is taken
out is missed.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from server.oracle.test_restart import work
from sqlalchemy import create_engine
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.snapshots.examination import LAWS, damage, findings

NOBODY = 999_999
COUNTS = "jobs whose counts are not those of their proposals and reports"
BREACHES = {
    "jobs of no study": f"UPDATE jobs SET study_id = {NOBODY} WHERE id = 1",
    "proposals of no job": f"UPDATE proposals SET job_id = {NOBODY} "
    "WHERE id = (SELECT min(id) FROM proposals WHERE status <> 'credited')",
    "reports of no job": f"UPDATE reports SET job_id = {NOBODY} WHERE rowid = 1",
    "hyper-states of no proposal": f"UPDATE hyper_states SET proposal_id = {NOBODY} "
    "WHERE rowid = 1",
    "memory entries of no study": f"UPDATE memory_entries SET study_id = {NOBODY} WHERE rowid = 1",
    "memory entries of no job": f"UPDATE memory_entries SET job_id = {NOBODY} WHERE rowid = 1",
    "hyper-states of no study": f"UPDATE hyper_states SET study_id = {NOBODY} WHERE rowid = 1",
    "encoders of no study": "INSERT INTO encoder_versions VALUES "
    f"({NOBODY}, 'x', 1, x'00', '{{}}', 0, 0)",
    "states of hyper-agents of no study": "INSERT INTO hyper_agent_states VALUES "
    f"({NOBODY}, 'x', x'00')",
    "memory entries whose proposal was not credited": "UPDATE memory_entries SET proposal_id = "
    "(SELECT min(id) FROM proposals WHERE status = 'not_applied') WHERE rowid = 1",
    "proposals that were written to the memory twice": "UPDATE memory_entries SET "
    "(proposal_id, job_id) = (SELECT proposal_id, job_id FROM memory_entries LIMIT 1 OFFSET 1) "
    "WHERE id = (SELECT id FROM memory_entries LIMIT 1)",
    "memory entries without a key": "DELETE FROM memory_keys WHERE entry_id = "
    "(SELECT min(entry_id) FROM memory_keys)",
    "keys of no live memory entry": "UPDATE memory_entries SET evicted = 1 WHERE id = "
    "(SELECT min(entry_id) FROM memory_keys)",
    "proposals of an unknown status": "UPDATE proposals SET status = 'x' WHERE id = "
    "(SELECT min(id) FROM proposals WHERE status = 'not_applied')",
    "reports of an unknown status": "UPDATE reports SET status = 'x' WHERE rowid = 1",
    "jobs of an unknown status": "UPDATE jobs SET status = 'x' WHERE id = 1",
    "proposals whose hyper-return and status disagree": "UPDATE proposals SET hyper_return = 1 "
    "WHERE id = (SELECT min(id) FROM proposals WHERE status <> 'credited')",
    "open proposals of ended jobs": "UPDATE jobs SET status = 'finished' WHERE id = "
    "(SELECT job_id FROM proposals WHERE status = 'open' LIMIT 1)",
    "jobs with more credits acknowledged than proposals credited": "UPDATE reports SET response = "
    "json_set(response, '$.credited', 1000) WHERE rowid = 1",
    COUNTS: "UPDATE jobs SET counts = json_set(counts, '$.reports', 1000) WHERE id = 1",
}
ALSO = {
    "proposals of no job": {COUNTS},
    "reports of no job": {COUNTS},
    "memory entries of no job": {"memory entries whose proposal was not credited"},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """A store with work in it: credited, open and not applied proposals, a memory."""
    path = tmp_path_factory.mktemp("whole") / "oracle.db"
    transport = EmbeddedTransport(str(path))
    wire = Wire(transport=transport)
    work(wire, "s", phases=3)
    job = wire.job("s")
    wire.propose(job, 1, seed=99)
    wire.propose(job, 2, seed=98, not_applied=[1])
    transport.close()
    return path.read_bytes()


def found(path: Path, content: bytes, statement: str | None = None) -> list[str]:
    path.write_bytes(content)
    if statement is not None:
        with closing(sqlite3.connect(path)) as database, database:
            assert database.execute(statement).rowcount != 0, "nothing was broken"
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        wrong = findings(connection)
    engine.dispose()
    return wrong


def test_an_oracles_own_store_breaks_no_law(tmp_path, whole):
    assert found(tmp_path / "oracle.db", whole) == []


def test_every_law_has_its_breach():
    assert list(BREACHES) == list(LAWS)


@pytest.mark.parametrize("law", LAWS)
def test_a_breach_is_found_by_its_law(tmp_path, whole, law):
    wrong = found(tmp_path / "oracle.db", whole, BREACHES[law])
    named = {other for other in LAWS if any(line.endswith(f" {other}") for line in wrong)}
    assert named == {law} | ALSO.get(law, set()), wrong


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("CREATE VIEW v AS SELECT 1", "it has the view v"),
        ("CREATE TABLE photographs (x)", "photographs is not one of a ledger"),
        ("DROP TABLE memory_keys", "the table memory_keys is missing"),
        ("ALTER TABLE jobs ADD COLUMN x", "the column jobs.x is missing, or not one"),
        ("ALTER TABLE jobs DROP COLUMN env_step", "the column jobs.env_step is missing"),
        ("UPDATE studies SET definition = '{'", "1 of studies.definition cannot be read"),
        ("UPDATE jobs SET layout = '{}' WHERE id = 1", "1 of jobs.layout cannot be read"),
        ("UPDATE jobs SET credit_state = 'x' WHERE id = 1", "1 of jobs.credit_state cannot"),
        ("UPDATE reports SET body = '[]' WHERE rowid = 1", "1 of reports.body cannot be read"),
    ],
)
def test_strangers_and_documents_that_cannot_be_read_are_named(tmp_path, whole, statement, says):
    """Seen to fail with `strangers` and `_unreadable` finding nothing."""
    wrong = found(tmp_path / "oracle.db", whole, statement)
    assert any(says in line for line in wrong), wrong


def test_a_page_that_was_written_over_is_damage(tmp_path, whole):
    page = int.from_bytes(whole[16:18], "big")
    path = tmp_path / "oracle.db"
    assert found(path, whole[: 3 * page] + bytes(page) + whole[4 * page :])
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert damage(connection)
        assert damage(connection, quick=True)
    engine.dispose()
