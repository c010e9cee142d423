"""A terminal for what is written to stderr only where it is one."""

from __future__ import annotations

import io
import threading

import pytest

from hyperoracle_protocol import terminal


class Terminal(io.StringIO):
    """A stderr of 80 columns that says when something was written to it; made in the test itself.

    A fixture is too early: pytest sets stderr anew for the test's call.

    Attributes:
        written: set then.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.written = threading.Event()
        monkeypatch.setattr("sys.stderr", self)
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(terminal, "_SECONDS", 0.001)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        count = super().write(text)
        self.written.set()
        return count
