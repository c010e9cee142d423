from __future__ import annotations

import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from hyperoracle_trainers.runs.processes import (
    ChildFailed,
    Children,
    termination_as_interrupt,
)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe: to open one end waits for the other."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_the_output_and_the_environment_are_those_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMOVED", "1")
    code = "import os, sys; print(os.environ['ADDED'], 'REMOVED' in os.environ, file=sys.stderr)"
    with Children() as children:
        child = children.start(
            "it", python(code), tmp_path / "out", {"ADDED": "a", "REMOVED": None}
        )
        assert child.wait(30)
        child.check()
    assert (tmp_path / "out").read_text() == "a False\n"


def test_a_failing_child_shows_its_last_lines(tmp_path: Path) -> None:
    code = "[print('line', i) for i in range(100)]; raise SystemExit(3)"
    with Children() as children:
        child = children.start("job 7", python(code), tmp_path / "out", {})
        assert child.wait(30)
        with pytest.raises(ChildFailed) as error:
            child.check()
    first, *shown = str(error.value).splitlines()
    assert first.startswith("job 7 ended with exit code 3; the end of ")
    assert shown == [f"  line {i}" for i in range(88, 100)]


def test_a_killed_child_is_told_by_its_signal(tmp_path: Path) -> None:
    with Children() as children:
        code = "import os; os.kill(os.getpid(), 9)"
        child = children.start("it", python(code), tmp_path / "out", {})
        assert child.wait(30)
        with pytest.raises(ChildFailed, match="ended by SIGKILL"):
            child.check()


def test_children_are_asked_to_stop_when_the_block_fails(tmp_path: Path, pipe: Path) -> None:
    code = f"""
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("asked")))
        open({str(pipe)!r}, "w").write("ready")
        time.sleep(100)
    """
    started = []

    def fail_beside_a_child() -> None:
        with Children() as children:
            started.append(children.start("it", python(code), tmp_path / "out", {}))
            assert pipe.read_text() == "ready"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_beside_a_child()
    assert not started[0].is_running
    assert (tmp_path / "out").read_text() == "asked\n"


def test_a_child_that_does_not_stop_is_killed_with_what_it_started(
    tmp_path: Path, pipe: Path
) -> None:
    grandchild = f"""
        import time
        pipe = open({str(pipe)!r}, "w")
        pipe.write("up")
        pipe.flush()
        time.sleep(100)
    """
    code = f"""
        import signal, subprocess, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen({python(grandchild)!r})
        time.sleep(100)
    """
    with Children(grace_seconds=0.1) as children:
        child = children.start("it", python(code), tmp_path / "out", {})
        reader = pipe.open()
        assert reader.read(2) == "up"
    assert not child.is_running
    with reader:
        assert reader.read() == "", "the pipe ends when the last process that holds it has died"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_termination_interrupts_and_the_old_handler_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), termination_as_interrupt():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before
