"""Two processes never write one store, whatever it is called.

Seen to fail, by hard link and mount, with the lock beside the store alone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from hyperoracle_server.errors import StoreRefused
from hyperoracle_server.ledger import lock
from hyperoracle_server.ledger.store import Ledger
from hyperoracle_server.snapshots.stores import restore_store, verify
from hyperoracle_server.snapshots.taking import take_store


@contextmanager
def another_process_has_open(path: Path | str) -> Iterator[int]:
    """A fork that has the store open until the end; its pid."""
    told_child, tell_parent = os.pipe()
    until_told, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(end)
            Ledger(path)
            os.write(tell_parent, b"!")
            os.read(until_told, 1)
        finally:
            os._exit(0)
    os.close(tell_parent)
    os.close(until_told)
    try:
        assert os.read(told_child, 1) == b"!"
        yield pid
    finally:
        os.close(end)
        os.waitpid(pid, 0)
        os.close(told_child)


def symlink(store: Path) -> Path:
    other = store.with_name("a-link.db")
    other.symlink_to(store.name)
    return other


def link_of_folder(store: Path) -> Path:
    other = store.parent.with_name("another-folder")
    other.symlink_to(store.parent)
    return other / store.name


def hard_link(store: Path) -> Path:
    other = store.parent.with_name("hard.db")
    other.hardlink_to(store)
    return other


def relative(store: Path) -> str:
    return os.path.relpath(store)


@pytest.fixture
def store(tmp_path) -> Path:
    path = tmp_path / "folder" / "oracle.db"
    Ledger(path).close()
    return path


@pytest.mark.slow
@pytest.mark.parametrize("other_name", [symlink, link_of_folder, hard_link, relative])
def test_a_store_that_another_process_has_is_refused_by_any_name(store, tmp_path, other_name):
    name = other_name(store)
    with another_process_has_open(store) as pid:
        with pytest.raises(StoreRefused, match="another process") as refused:
            Ledger(name)
        assert (str(pid) in str(refused.value)) == (other_name is not hard_link)
        assert "\n" not in str(refused.value)
    Ledger(name).close()
    with another_process_has_open(name), pytest.raises(StoreRefused, match="another process"):
        Ledger(store)


@pytest.mark.parametrize("other_name", [symlink, hard_link])
def test_this_process_opens_no_store_twice_and_keeps_sqlites_locks(store, other_name):
    """Closing a descriptor of the store drops SQLite's locks on it: another process would take a
    journal in use for one that was left, and clear it. Seen to fail without `is_open_here`."""
    name = other_name(store)
    ledger = Ledger(store)
    for _ in range(2):
        with pytest.raises(StoreRefused, match="another process"):
            Ledger(name)
    take_store(name, store.with_name("backup")) if other_name is symlink else None
    assert verify(store) == (None, [])
    assert sqlites_locks(store)
    ledger.close()
    assert not lock._open_here


def sqlites_locks(store: Path) -> bool:
    """Whether this process holds what keeps others from clearing the journal, asked by another."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            descriptor = os.open(store, os.O_RDWR)
            shared_first, shared_size = 0x40000002, 510  # SQLite's bytes of a shared lock
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, shared_size, shared_first)
                code = 1
            except OSError:
                code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_hard_link_is_neither_verified_nor_backed_up_past_the_journal(store, tmp_path):
    """The journal lies beside the name by which the server has the store: by the other one all that
    was acknowledged since its last checkpoint would be missing."""
    other = hard_link(store)
    with another_process_has_open(store):
        for look in (lambda: verify(other), lambda: take_store(other, tmp_path / "backup")):
            with pytest.raises(StoreRefused, match="another name"):
                look()
        assert verify(store) == (None, [])
        take_store(store, tmp_path / "backup")
    assert verify(tmp_path / "backup")[1] == []
    assert verify(other) == (None, [])


def test_a_store_is_not_opened_past_the_journal_that_a_crash_left_beside_another_name(tmp_path):
    """In the same folder, where it can be found."""
    store = tmp_path / "oracle.db"
    Ledger(store).close()
    other = tmp_path / "other.db"
    other.hardlink_to(store)
    with closing(sqlite3.connect(store)) as database:
        database.execute("UPDATE alembic_version SET version_num = version_num")
        database.commit()
        left = store.with_name("oracle.db-wal").read_bytes()
    store.with_name("oracle.db-wal").write_bytes(left)
    with pytest.raises(StoreRefused, match=r"oracle\.db-wal"):
        Ledger(other)
    Ledger(store).close()
    Ledger(other).close()


def test_a_restore_replaces_the_file_that_a_link_leads_to(store, tmp_path):
    take_store(store, tmp_path / "backup")
    link = symlink(store)
    moved = restore_store(tmp_path / "backup", link, replace=True)
    assert link.is_symlink()
    assert verify(link) == (None, [])
    assert moved is not None
    assert moved.parent == store.parent


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="takes a mount namespace of its own")
def test_a_mount_of_the_folder_or_the_file_is_the_same_store(store, tmp_path):
    """In a mount namespace of its own, where the machine allows one."""
    folder, file = tmp_path / "mounted", tmp_path / "file.db"
    folder.mkdir()
    file.touch()
    script = (
        f"mount --bind '{store.parent}' '{folder}' && mount --bind '{store}' '{file}' && "
        f"exec '{sys.executable}' - <<'END'\n"
        "from hyperoracle_server.errors import StoreRefused\n"
        "from hyperoracle_server.ledger.store import Ledger\n"
        f"for name in ({str(folder / store.name)!r}, {str(file)!r}):\n"
        "    try:\n        Ledger(name)\n"
        "    except StoreRefused as refused:\n        assert 'another process' in str(refused)\n"
        "    else:\n        raise SystemExit(name)\n"
        "END"
    )
    command = ["unshare", "--mount", "sh", "-c"]
    if subprocess.run(
        [*command, "mount -t tmpfs none /mnt"], capture_output=True, check=False
    ).returncode:
        pytest.skip("no mount may be made here")
    with another_process_has_open(store):
        ended = subprocess.run(
            [*command, script], capture_output=True, text=True, timeout=120, check=False
        )
    assert ended.returncode == 0, ended
