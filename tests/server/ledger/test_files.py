"""A store's path is a path. Each was seen to fail with `sqlite:///{path}` as the engine's URL, or
with `store_path` left out."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import stat
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.wire_client import Wire

from hyperoracle_client import cli
from hyperoracle_client.settings import ClientSettings
from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.commands import db
from hyperoracle_server.errors import StoreRefused
from hyperoracle_server.ledger.files import store_path

NAMES = ["q?v=2", "50%.db", "a%20b.db", "a#b.db", "a&b=c;d.db", "a b ü.db", "x?mode=memory",
         "folder?x/oracle.db", ":memory:.db", "-begins-so.db", "a'b\"c.db", "x:y.db", "a\\b.db",
         os.fsdecode(b"not-\xff-utf8.db")]  # fmt: skip


@contextmanager
def opened(path):
    transport = EmbeddedTransport(str(path))
    try:
        yield Wire(transport=transport)
    finally:
        transport.close()


def studies_in(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return [name for (name,) in database.execute("SELECT name FROM studies")]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_the_file_that_is_named_is_opened_backed_up_verified_and_restored(tmp_path, name):
    """Beside it lies what a URL would make of the name, which nobody touches."""
    path = tmp_path / name
    others = {tmp_path / cut for cut in (name.split("?")[0], name.replace("%20", " "))} - {path}
    if path.parent == tmp_path:
        for other in others:
            other.write_bytes(b"another's")
    with opened(path) as wire:
        wire.study("s")
        while_open = tmp_path / "while-open.backup"
        assert run_db("backup", while_open, "--store", path) == 0
        assert wire.call("POST", "/v1/studies/s/snapshots").status == 200
    assert studies_in(path) == ["s"]
    backup = tmp_path / "the backup? of 5%"
    assert run_db("backup", backup, "--store", path) == 0
    assert run_db("verify", backup) == 0
    assert run_db("verify", "--store", path) == 0
    assert run_db("restore", backup, f"--store={path}", "--replace") == 0
    assert studies_in(path) == ["s"]
    with opened(path) as wire:
        wire.study("after")
    assert sorted(studies_in(path)) == ["after", "s"]
    if path.parent == tmp_path:
        assert all(other.read_bytes() == b"another's" for other in others)


def run_db(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    db.register(parser.add_subparsers())
    args = parser.parse_args(["db", *map(str, arguments)])
    code: int = args.run(args)
    return code


def test_a_home_folder_and_slashes_are_read_as_a_shell_does(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    real = tmp_path.resolve()
    assert store_path("~/oracle.db") == real / "oracle.db"
    assert store_path("./~/oracle.db") == real / "~" / "oracle.db"
    assert store_path("a~b") == real / "a~b"
    assert store_path("~nobody-of-this-name/x") == real / "~nobody-of-this-name" / "x"
    assert store_path(f"//{str(real)[1:]}//a///b.db") == real / "a" / "b.db"
    assert store_path(f"///{str(real)[1:]}/b.db") == real / "b.db"
    assert store_path("./file:x") == real / "file:x"
    assert store_path("./:memory:") == real / ":memory:"
    with opened("~/oracle.db") as wire:
        wire.study("s")
    assert studies_in(tmp_path / "oracle.db") == ["s"]


@pytest.mark.parametrize(
    "name", ["", ":memory:", "file:x.db", "file:///x.db", "sqlite:///x.db", "x/", "a\0b"]
)
def test_what_is_no_path_is_refused_in_one_line_and_makes_no_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreRefused) as refused:
        EmbeddedTransport(name)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_without_a_home_folder_the_whole_path_is_asked_for(monkeypatch):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(StoreRefused, match="whole path"):
        store_path("~/oracle.db")


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(StoreRefused, match="leads to itself"):
        store_path(tmp_path / "a")


def test_the_client_hands_a_stores_path_on_as_it_is():
    """Seen to fail with all urls losing their last slashes."""
    assert ClientSettings(url="embedded:a?b%20/").embedded_path == "a?b%20/"
    assert ClientSettings(url="http://h:1//").url == "http://h:1"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_a_store_and_whatever_is_made_of_it_is_its_owners_alone(tmp_path, umask, capsys):
    """Seen to fail: all were 0644, and a restored store, too, in the place of one of 0600."""
    former = os.umask(umask)
    try:
        path = tmp_path / "oracle.db"
        with opened(path) as wire:
            wire.study("s")
            assert {p.name for p in tmp_path.iterdir()} == {
                "oracle.db", "oracle.db-wal", "oracle.db-shm", "oracle.db.lock",
                "oracle.db.reserve",
            }  # fmt: skip
            assert {mode(p) for p in tmp_path.iterdir()} == {0o600}
        assert run_db("backup", tmp_path / "backup", "--store", path) == 0
        assert run_db("backup", tmp_path / "of-s", "--study", "s", "--store", path) == 0
        command = ["study", "backup", "s", str(tmp_path / "by-client"), "--url", f"embedded:{path}"]
        assert cli.main([*command, "--json"]) == 0
        assert run_db("restore", tmp_path / "backup", "--store", path, "--replace") == 0
        assert run_db("restore", tmp_path / "backup", "--store", tmp_path / "new.db") == 0
        found = {p.name: mode(p) for p in tmp_path.iterdir()}
        assert set(found.values()) == {0o600}, found
        path.chmod(0o640)  # as somebody chose
        assert run_db("restore", tmp_path / "backup", "--store", path, "--replace") == 0
        assert mode(path) == 0o640
    finally:
        os.umask(former)


def test_the_announcement_of_a_server_and_the_path_are_of_one_file(tmp_path, monkeypatch):
    """`HYPERORACLE_STORE` is a path as well."""
    monkeypatch.setenv("HYPERORACLE_STORE", str(tmp_path / "env?x.db"))
    with opened(tmp_path / "env?x.db") as wire:
        wire.study("s")
    assert run_db("verify") == 0
    assert json.dumps(studies_in(tmp_path / "env?x.db")) == '["s"]'
