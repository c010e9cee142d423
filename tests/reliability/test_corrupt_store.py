"""R4: a damaged store at the start is refused with the remedy; never a crash, never silent loss.

A start either ends in exit code 1 with one line that names `hyperoracle db restore`, the damaged
file untouched, or it serves all that was in the store. A bit of a number in a row can be flipped
without anybody's being able to tell: SQLite keeps no checksums of rows (backups do).
"""

from __future__ import annotations

import argparse
import random
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from server.oracle.test_restart import picture, work
from support.handles import oracle_of
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.commands import db
from hyperoracle_server.errors import StoreRefused


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The bytes of a store with work in it."""
    path = tmp_path_factory.mktemp("whole") / "oracle.db"
    transport = EmbeddedTransport(str(path))
    work(Wire(transport=transport), "s", phases=3)
    transport.close()
    return path.read_bytes()


def counts(path: Path) -> list[int]:
    """Rows of each table, read by SQLite alone."""
    tables = ("studies", "jobs", "proposals", "reports", "memory_entries", "memory_keys")
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        found = [database.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables]
    database.close()
    return found


def flipped(content: bytes, place: int, bit: int) -> bytes:
    bits = bytearray(content)
    bits[place] ^= 1 << bit
    return bytes(bits)


def damages(content: bytes) -> dict[str, bytes]:
    """Damage that can be told."""
    page = int.from_bytes(content[16:18], "big")
    pages = len(content) // page
    chance = random.Random(4)
    headers = {
        f"the kind of page {number} flipped": flipped(content, (number - 1) * page, 7)
        for number in chance.sample(range(2, pages + 1), 8)
    }
    overwritten = bytearray(content)
    overwritten[page : 3 * page] = chance.randbytes(2 * page)
    return headers | {
        "empty": b"",
        "a bit of the magic": flipped(content, 3, 2),
        "a bit of the page size": flipped(content, 16, 4),
        "a bit of the first page's kind": flipped(content, 100, 3),
        "half": content[: len(content) // 2],
        "last page missing": content[:-page],
        "the first page only": content[:page],
        "the first 50 bytes": content[:50],
        "two pages overwritten": bytes(overwritten),
        "zeros": bytes(len(content)),
        "text": b"a letter to somebody\n" * 1000,
    }


def refusal(path: Path) -> str:
    with pytest.raises(StoreRefused) as refused:
        EmbeddedTransport(str(path)).close()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_damage_is_refused_with_the_remedy_and_the_file_is_left_as_it_is(tmp_path, whole):
    """Seen to fail with `quick_check` left out (pages overwritten start an oracle that answers
    500), and with the check for an empty file left out (a new store takes its place)."""
    path = tmp_path / "oracle.db"
    for what, content in damages(whole).items():
        path.write_bytes(content)
        said = refusal(path)
        remedy = f"hyperoracle db restore BACKUP --store {shlex.quote(str(path))} --replace"
        assert remedy in said, what
        assert path.read_bytes() == content, what


def opened_or_refused(path: Path) -> EmbeddedTransport | None:
    """None where the store was refused, in one line with a remedy."""
    try:
        return EmbeddedTransport(str(path))
    except StoreRefused as refused:
        said = str(refused)
    assert "hyperoracle" in said
    assert "\n" not in said
    return None


def test_any_bit_may_flip_and_no_row_is_lost_in_silence(tmp_path, whole):
    """16 bits anywhere. Seen to fail with what `_loaded` catches let through."""
    path = tmp_path / "oracle.db"
    path.write_bytes(whole)
    before = counts(path)
    chance = random.Random(9)
    for _ in range(16):
        place, bit = chance.randrange(len(whole)), chance.randrange(8)
        for leftover in tmp_path.glob("oracle.db*"):
            leftover.unlink()
        path.write_bytes(flipped(whole, place, bit))
        transport = opened_or_refused(path)
        if transport is None:
            continue
        wire = Wire(transport=transport)
        assert wire.call("GET", "/v1/studies").status == 200
        assert wire.call("GET", "/readyz").status == 200
        transport.close()
        assert counts(path) == before, (place, bit)


def test_other_versions_and_other_programs_stores_are_refused_and_left_alone(tmp_path, whole):
    """Seen to fail without the look at the tables (our tables came into the other's file), without
    the comparison with the newest schema, and without the look for a schema that says nothing."""
    path = tmp_path / "oracle.db"
    for statement, says in (
        ("UPDATE alembic_version SET version_num = '9999'", "upgrade hyperoracle-server"),
        ("UPDATE alembic_version SET version_num = '0000'", "cannot be brought to"),
        ("UPDATE alembic_version SET version_num = '0002'", "cannot be brought to"),
        ("DELETE FROM alembic_version", "which schema"),
        ("DROP TABLE alembic_version", "another program"),
    ):
        path.write_bytes(whole)
        with sqlite3.connect(path) as database:
            database.execute(statement)
            database.execute("PRAGMA journal_mode=DELETE")
        database.close()
        content = counts(path)
        assert says in refusal(path), statement
        assert counts(path) == content
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE photographs (x)")
    database.close()
    content = path.read_bytes()
    assert "another program" in refusal(path)
    assert path.read_bytes() == content


def test_a_store_that_is_gone_but_for_its_journal_is_not_begun_anew(tmp_path, whole):
    """SQLite would read the journal into a new database. Seen to fail with the look at it left
    out."""
    path = tmp_path / "oracle.db"
    path.with_name("oracle.db-wal").write_bytes(b"journal")
    assert "it is missing" in refusal(path)
    assert not path.exists()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE studies SET definition = '{'",
        "UPDATE jobs SET credit_state = 'x'",
        "UPDATE jobs SET layout = x'ff00ff'",
        "UPDATE memory_keys SET key = x'00'",
        "UPDATE hyper_states SET features = x'00'",
    ],
)
def test_rows_that_cannot_be_loaded_are_refused_with_the_remedy(tmp_path, whole, statement):
    """Seen to fail (a traceback) with what `_loaded` catches let through."""
    path = tmp_path / "oracle.db"
    path.write_bytes(whole)
    with sqlite3.connect(path) as database:
        database.execute(statement)
    database.close()
    assert "hyperoracle db restore BACKUP" in refusal(path)


def test_the_server_says_it_in_one_line_and_the_remedy_works(tmp_path, whole, capsys):
    """End to end: a backup, damage, the refused start, the command that it names, a start."""
    path, backup = tmp_path / "a store" / "oracle.db", tmp_path / "a backup"
    path.parent.mkdir()
    path.write_bytes(whole)
    parser = argparse.ArgumentParser()
    db.register(parser.add_subparsers())

    def hyperoracle_db(*arguments: object) -> int:
        args = parser.parse_args(["db", *map(str, arguments)])
        return args.run(args)

    assert hyperoracle_db("backup", backup, "--store", path) == 0
    path.write_bytes(whole[: len(whole) // 2])
    command = [sys.executable, "-m", "hyperoracle_server", "--store", str(path), "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    remedy = f"db restore BACKUP --store {shlex.quote(str(path))} --replace"
    assert remedy in ended.stderr
    _, *command = shlex.split(remedy)
    assert hyperoracle_db(*(backup if each == "BACKUP" else each for each in command)) == 0
    (kept,) = path.parent.glob("oracle.db.replaced-*Z")
    assert kept.read_bytes() == whole[: len(whole) // 2]
    transport = EmbeddedTransport(str(path))
    assert picture(oracle_of(transport), "s")
    transport.close()
