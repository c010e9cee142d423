from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest
from support.terminal import Terminal

from hyperoracle_protocol import terminal


def test_a_terminal_is_told_the_bytes_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal(monkeypatch)
    with terminal.progress("backup", lambda: 12_340_000):
        assert screen.written.wait(10.0)
    shown = screen.getvalue()
    assert shown.startswith("\r\x1b[Kbackup: 12.3 MB, 0 s")
    assert shown.endswith("\r\x1b[K")
    assert "\n" not in shown


def test_a_line_is_never_longer_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "10")
    with terminal.progress("backup of a study", lambda: 0):
        assert screen.written.wait(10.0)
    lines = screen.getvalue().split("\r\x1b[K")
    assert "backup of" in lines
    assert max(map(len, lines)) == 9


def test_a_script_and_a_pipe_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal(monkeypatch)
    with terminal.progress("backup", lambda: 1, quiet=True):
        assert not screen.written.wait(0.05)
    monkeypatch.setattr("sys.stderr", piped := io.StringIO())
    with terminal.progress("backup", lambda: 1):
        assert "hyperoracle-progress" not in {thread.name for thread in threading.enumerate()}
    assert (screen.getvalue(), piped.getvalue()) == ("", "")


def test_the_line_is_cleared_where_the_block_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal(monkeypatch)

    def fail() -> None:
        assert screen.written.wait(10.0)
        raise OSError("full")

    with pytest.raises(OSError, match="full"), terminal.progress("backup", lambda: 1):
        fail()
    assert screen.getvalue().endswith("\r\x1b[K")


def test_files_that_are_not_there_have_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"four")
    assert terminal.size_of(tmp_path / "there", tmp_path / "absent") == 4
