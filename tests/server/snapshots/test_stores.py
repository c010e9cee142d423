"""`hyperoracle db` on whole stores, `hyperoracle study backup|restore` through an oracle."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from server.oracle.test_restart import picture, work
from support.crafted_snapshots import TO_SCHEMA_0005, crafted
from support.handles import oracle_of
from support.oracle_process import OracleProcess
from support.terminal import Terminal
from support.wire_client import Wire

from hyperoracle_client import cli
from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.commands import db
from hyperoracle_server.ledger.lock import locked
from hyperoracle_server.snapshots import stores


@pytest.fixture
def hyperoracle_db(capsys, monkeypatch):
    """Runs `hyperoracle db ...`; returns exit code, output, errors."""
    monkeypatch.delenv("HYPERORACLE_STORE", raising=False)
    parser = argparse.ArgumentParser()
    parser.add_argument("--url")
    db.register(parser.add_subparsers())

    def run(*arguments: object) -> tuple[int, str, str]:
        args = parser.parse_args(["db", *map(str, arguments)])
        code = args.run(args)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def store(tmp_path) -> Path:
    """A closed store with a study at work and a token."""
    path = tmp_path / "oracle.db"
    transport = EmbeddedTransport(str(path))
    wire = Wire(transport=transport)
    work(wire, "s", phases=2)
    wire.call("POST", "/v1/tokens", {"name": "team", "scope": "admin"})
    transport.close()
    return path


def pictured(path: Path):
    transport = EmbeddedTransport(str(path))
    tokens = Wire(transport=transport).call("GET", "/v1/tokens").json
    found = picture(oracle_of(transport), "s")
    transport.close()
    return found, tokens


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.endswith(".lock")}


def test_a_store_comes_back_from_its_backup_as_it_was(hyperoracle_db, store, tmp_path):
    backup, restored = tmp_path / "backup", tmp_path / "restored.db"
    assert hyperoracle_db("backup", backup, "--store", store)[0] == 0
    assert hyperoracle_db("verify", backup) == (
        0, f"{backup}: a snapshot of a store, nothing is wrong\n", ""
    )  # fmt: skip
    assert hyperoracle_db("restore", backup, "--store", restored)[0] == 0
    assert hyperoracle_db("verify", "--store", restored)[0] == 0
    assert pictured(restored) == pictured(store)


@pytest.mark.slow
def test_a_store_is_backed_up_while_its_server_runs(hyperoracle_db, tmp_path):
    """Seen to fail with a restore that takes no lock of the store."""
    with OracleProcess(tmp_path) as process:
        wire = Wire(url=process.url)
        wire.study("s", strategy={"name": "random"})
        job = wire.job("s", tensors=[])
        for i in range(5):
            wire.propose(job, 2 * i + 1)
            assert wire.report(job, 2 * i + 2, 2 * i + 1).json["credited"] == 1
        assert hyperoracle_db("backup", tmp_path / "b", "--store", process.store)[0] == 0
        assert hyperoracle_db("verify", "--store", process.store)[0] == 0
        code, _, err = hyperoracle_db("restore", tmp_path / "b", "--store", process.store,
                                      "--replace")  # fmt: skip
        assert code == 1
        assert f"pid {process.pid}" in err
        assert wire.call("GET", "/v1/studies/s").json["credited_proposals"] == 5
        wire.close()
    hyperoracle_db("restore", tmp_path / "b", "--store", tmp_path / "new.db")
    with sqlite3.connect(tmp_path / "new.db") as database:
        assert database.execute("SELECT count(*) FROM reports").fetchone() == (5,)
    database.close()


def test_one_study_goes_from_a_store_through_a_file_into_an_oracle(
    hyperoracle_db, store, tmp_path, capsys
):
    file, again = tmp_path / "s.snapshot", tmp_path / "again.snapshot"
    assert hyperoracle_db("backup", file, "--study", "s", "--store", store)[0] == 0
    url = f"embedded:{tmp_path / 'other.db'}"
    assert cli.main(["study", "restore", "t", str(file), "--url", url]) == 0
    assert "study t is restored: 2 jobs" in capsys.readouterr().out
    assert cli.main(["study", "backup", "t", str(again), "--url", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == again.stat().st_size
    assert hyperoracle_db("verify", again)[0] == 0
    assert cli.main(["study", "backup", "t", str(again), "--url", url]) == 1
    assert cli.main(["study", "restore", "t", str(file), "--url", url]) == 1
    assert "another name" in capsys.readouterr().err
    code, _, err = hyperoracle_db("restore", file, "--store", tmp_path / "new.db")
    assert (code, err.count("\n")) == (1, 1)
    assert "hyperoracle study restore" in err
    assert not (tmp_path / "new.db").exists()


def test_a_store_that_is_there_is_refused_or_moved_and_never_lost(hyperoracle_db, store, tmp_path):
    """Seen to fail without the look at what is there, and with the former store not moved away."""
    backup = tmp_path / "backup"
    hyperoracle_db("backup", backup, "--store", store)
    store.write_bytes(b"damaged")
    store.with_name("oracle.db-wal").write_bytes(b"its journal")
    before = files(tmp_path)
    code, _, err = hyperoracle_db("restore", backup, "--store", store)
    assert (code, err.count("\n")) == (1, 1)
    assert "--replace" in err
    assert files(tmp_path) == before
    code, out, _ = hyperoracle_db("restore", backup, "--store", store, "--replace", "--json")
    assert code == 0
    former = Path(json.loads(out)["former"])
    assert former.read_bytes() == b"damaged"
    assert former.with_name(former.name + "-wal").read_bytes() == b"its journal"
    assert hyperoracle_db("verify", "--store", store)[0] == 0


def test_stores_replaced_within_a_second_are_all_kept(hyperoracle_db, store, tmp_path, monkeypatch):
    """Seen to fail (the last takes the others' place) where the second alone makes the name."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(stores, "datetime", Stopped)
    backup = tmp_path / "backup"
    hyperoracle_db("backup", backup, "--store", store)
    formers = []
    for number in range(3):
        store.write_bytes(b"store %d" % number)
        if number == 0:  # a journal is no reason to take the name of the store beside it
            store.with_name("oracle.db-wal").write_bytes(b"its journal")
        code, out, _ = hyperoracle_db("restore", backup, "--store", store, "--replace", "--json")
        assert code == 0
        formers.append(Path(json.loads(out)["former"]))
    assert [former.read_bytes() for former in formers] == [b"store 0", b"store 1", b"store 2"]
    assert formers[0].with_name(formers[0].name + "-wal").read_bytes() == b"its journal"
    assert [former.name.partition("-")[2] for former in formers] == [
        "20260102T030405Z", "20260102T030405Z-2", "20260102T030405Z-3",
    ]  # fmt: skip
    assert hyperoracle_db("verify", "--store", store)[0] == 0


def test_damaged_backups_are_refused_and_leave_the_store_alone(hyperoracle_db, store, tmp_path):
    """Would fail with the comparison of the checksum taken out."""
    backup = tmp_path / "backup"
    hyperoracle_db("backup", backup, "--store", store)
    content = backup.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 4
    for damaged in (b"", content[:-1], content[: len(content) // 2], bytes(flipped), b"text" * 999):
        backup.write_bytes(damaged)
        before = files(tmp_path)
        for arguments in (("restore", backup, "--replace"), ("verify", backup)):
            code, out, err = hyperoracle_db(*arguments, "--store", store)
            assert (code, (out + err).count("\n")) == (1, 1)
            assert "backup" in out + err
        assert files(tmp_path) == before
    for what in (tmp_path, tmp_path / "nowhere"):
        for action in ("restore", "verify"):
            code, _, err = hyperoracle_db(action, what, "--store", store)
            assert (code, err.count("\n")) == (1, 1)


def test_verify_finds_what_the_oracle_relies_on_and_changes_nothing(
    hyperoracle_db, store, tmp_path
):
    with sqlite3.connect(store) as database:
        database.execute("DELETE FROM memory_keys")
        database.execute("UPDATE proposals SET status = 'x' WHERE id = 1")
        database.execute("PRAGMA journal_mode=DELETE")
    database.close()
    before = files(tmp_path)
    code, out, _ = hyperoracle_db("verify", "--store", store)
    assert code == 1
    assert "memory entries without a key" in out
    assert "1 proposals of an unknown status" in out
    assert files(tmp_path) == before


def test_an_address_is_told_where_to_go_and_a_lock_is_heeded(hyperoracle_db, store, capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--url")
    db.register(parser.add_subparsers())
    args = parser.parse_args(["--url", "http://somewhere", "db", "verify"])
    assert args.run(args) == 2
    assert "hyperoracle study backup" in capsys.readouterr().err
    with locked(store):
        code, _, err = hyperoracle_db("restore", store, "--store", store)
    assert code == 1
    assert "snapshot" in err


def test_a_store_in_use_is_not_restored_over_and_the_refusal_says_to_stop_it(
    hyperoracle_db, store, tmp_path
):
    hyperoracle_db("backup", tmp_path / "backup", "--store", store)
    with locked(store):
        before = files(tmp_path)
        code, _, err = hyperoracle_db("restore", tmp_path / "backup", "--store", store, "--replace")
        assert files(tmp_path) == before
    assert code == 1
    assert f"(pid {os.getpid()}): stop it first" in err


def test_a_studys_backup_names_the_command_that_takes_it(hyperoracle_db, store, tmp_path):
    backup = tmp_path / "s.snapshot"
    hyperoracle_db("backup", backup, "--study", "s", "--store", store)
    code, _, err = hyperoracle_db("restore", backup, "--store", tmp_path / "new.db")
    assert code == 1
    assert f"`hyperoracle study restore s {shlex.quote(str(backup))} --url ...`" in err


def test_a_backup_is_written_where_files_have_no_second_names(
    hyperoracle_db, store, tmp_path, monkeypatch
):
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    backup = tmp_path / "backup"
    assert hyperoracle_db("backup", backup, "--store", store)[0] == 0
    assert hyperoracle_db("verify", backup)[0] == 0
    assert not (tmp_path / "backup.partial").exists()
    before = files(tmp_path)
    assert hyperoracle_db("backup", backup, "--store", store)[0] == 1
    assert files(tmp_path) == before


@pytest.mark.parametrize("is_there", [False, True])
def test_what_root_restores_belongs_to_whom_the_store_or_its_folder_belongs_to(
    hyperoracle_db, store, tmp_path, monkeypatch, is_there
):
    """As root in earnest; as another user by what root would be asked to do."""
    given = {}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, *owner: given.update({Path(path).name: owner}))
    folder = tmp_path / "state"
    folder.mkdir()
    hyperoracle_db("backup", tmp_path / "backup", "--store", store)
    target = folder / "oracle.db"
    arguments = ["restore", tmp_path / "backup", "--store", target]
    if is_there:
        assert hyperoracle_db(*arguments)[0] == 0
        arguments.append("--replace")
    assert hyperoracle_db(*arguments)[0] == 0
    like = (target if is_there else folder).stat()
    assert given == dict.fromkeys(
        ("oracle.db.restoring", "oracle.db.lock"), (like.st_uid, like.st_gid)
    )


def test_a_backup_of_an_earlier_release_is_examined_as_a_restore_would(
    hyperoracle_db, store, tmp_path, monkeypatch
):
    backup, restored = tmp_path / "backup", tmp_path / "restored.db"
    hyperoracle_db("backup", backup, "--store", store)
    crafted(backup, TO_SCHEMA_0005, "store", revision="0005")
    before = files(tmp_path)
    assert hyperoracle_db("verify", backup)[0] == 0
    assert files(tmp_path) == before
    assert hyperoracle_db("restore", backup, "--store", restored)[0] == 0
    assert pictured(restored) == pictured(store)
    crafted(backup, "DELETE FROM memory_keys", "store", revision="0005")
    code, out, _ = hyperoracle_db("verify", backup)
    assert code == 1
    assert "without a key" in out
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    code, _, err = hyperoracle_db("verify", backup)
    assert (code, err.count("\n")) == (1, 1)
    assert "TMPDIR" in err


def test_a_restore_that_is_refused_leaves_nothing(hyperoracle_db, store, tmp_path):
    """Seen to fail where `restored` is left."""
    backup = tmp_path / "backup"
    hyperoracle_db("backup", backup, "--store", store)
    crafted(backup, "DELETE FROM memory_keys", "store")
    before = files(tmp_path)
    code, _, err = hyperoracle_db("restore", backup, "--store", store, "--replace")
    assert (code, err.count("\n")) == (1, 1)
    assert "does not hold together" in err
    assert files(tmp_path) == before


@pytest.mark.slow
def test_it_works_where_the_client_is_not_installed(store, tmp_path):
    command = [sys.executable, "-m", "hyperoracle_server", "db", "verify", "--store", str(store)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "nothing is wrong" in ended.stdout


@pytest.mark.parametrize(
    ("revision", "remedy"),
    [("0006", "`hyperoracle serve --store {}`, and verify again"), ("9999", "upgrade hyperoracle")],
)
def test_a_store_of_another_release_is_no_damaged_one(
    hyperoracle_db, store, tmp_path, revision, remedy
):
    """What to do is said, and the exit code is not that of damage."""
    other = tmp_path / "other release.db"
    shutil.copyfile(store, other)
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
    content = other.read_bytes()
    code, out, err = hyperoracle_db("verify", other)
    assert (code, err) == (3, "")
    assert remedy.format(shlex.quote(str(other))) in out
    code, out, _ = hyperoracle_db("verify", other, "--json")
    assert code == 3
    assert json.loads(out)["schema"] == revision
    assert json.loads(out)["findings"] == []
    assert other.read_bytes() == content
    damaged = bytearray(content)
    damaged[4096 * 3 : 4096 * 5] = bytes(8192)
    other.write_bytes(damaged)
    assert hyperoracle_db("verify", other)[0] == 1


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_backup_shows_on_a_terminal_how_far_it_is_unless_a_script_asks(
    hyperoracle_db, store, tmp_path, monkeypatch, options
):
    screen = Terminal(monkeypatch)
    verify = stores.verify

    def slowly(path: Path):
        screen.written.wait(0.2 if options else 10.0)
        return verify(path)

    monkeypatch.setattr(stores, "verify", slowly)
    assert hyperoracle_db("backup", tmp_path / "backup", "--store", store, *options)[0] == 0
    shown = screen.getvalue()
    if options:
        assert shown == ""
    else:
        assert "backup: 0." in shown
        assert shown.endswith("\r\x1b[K")
