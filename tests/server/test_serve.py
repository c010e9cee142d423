"""The command `serve`: what it refuses, each in one line that says what to do."""

import subprocess
import sys

import pytest
from support.oracle_process import OracleProcess


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hyperoracle_server", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "--insecure"),
        (["--port", "99999"], "port"),
        (["--lease-seconds", "-1"], "lease_seconds"),
        (["--store", "."], "directory"),
    ],
)
def test_settings_that_cannot_work_are_one_line_that_says_so(tmp_path, arguments, says):
    if "--store" not in arguments:
        arguments = [*arguments, "--store", str(tmp_path / "oracle.db")]
    ended = serve(*arguments)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert says in ended.stderr


def test_a_second_server_on_the_same_store_says_who_has_it(tmp_path):
    with OracleProcess(tmp_path) as first:
        second = serve("--store", str(first.store), "--port", "0")
        assert second.returncode == 1
        assert f"pid {first.pid}" in second.stderr


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with OracleProcess(tmp_path) as first:
        port = first.url.rpartition(":")[2]
        second = serve("--store", str(tmp_path / "other.db"), "--port", port)
        assert second.returncode == 1
        assert second.stderr.count("\n") == 1
        assert "in use" in second.stderr
