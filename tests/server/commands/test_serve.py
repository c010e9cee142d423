"""The command `serve`: what it refuses, each in one line that says what to do."""

import json
import os
import signal
import subprocess
import sys

import pytest
from support import mother
from support.oracle_process import NEW_INTERPRETER, OracleProcess
from support.signals import as_in_a_terminal, as_in_the_background_of_a_script, as_under_nohup
from support.wire_client import Wire

pytestmark = pytest.mark.slow


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hyperoracle_server", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "--insecure"),
        (["--port", "99999"], "port"),
        (["--lease-seconds", "-1"], "lease_seconds (--lease-seconds or HYPERORACLE_LEASE_SECONDS)"),
        (["--log-level", "loud"], "'debug', 'info', 'warning' or 'error'"),
        (["--store", "."], "directory"),
        (["--tls-key", "key.pem"], "tls_certificate"),
        (["--tls-key", "no.pem", "--tls-certificate", "no.pem"], "cannot read no.pem"),
        (["--tls-key", __file__, "--tls-certificate", __file__], "as PEM"),
        (["--admin-token-file", "no.txt"], "no.txt"),
        (["--admin-token-file", __file__], "openssl rand -hex 32"),
        (["--audit-log", "."], "directory"),
    ],
)
def test_settings_that_cannot_work_are_one_line_that_says_so(tmp_path, arguments, says):
    if "--store" not in arguments:
        arguments = [*arguments, "--store", str(tmp_path / "oracle.db")]
    if "--port" not in arguments:  # the default one may be taken on this machine
        arguments = [*arguments, "--port", "0"]
    if mother.IS_THERE:
        ended = mother.Forked(arguments, tmp_path / "told", dict(os.environ))
        code, told = ended.wait(60), (tmp_path / "told").read_text()
    else:
        ended = serve(*arguments)
        code, told = ended.returncode, ended.stderr
    assert code == 1
    assert told.count("\n") == 1
    assert says in told


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


def test_a_token_makes_an_address_that_others_reach_acceptable(tmp_path):
    secret = tmp_path / "administrator"
    secret.write_text("0123456789abcdef0123456789abcdef")
    with OracleProcess(tmp_path, host="0.0.0.0", admin_token_file=secret) as process:
        assert "add --tls-certificate" in process.log()
        wire = Wire(url=process.url)
        assert wire.call("GET", "/v1/studies").status == 401
        assert wire.call("GET", "/readyz").status == 200
        wire.close()


def test_require_token_asks_for_one_before_there_is_any(tmp_path):
    with OracleProcess(tmp_path, require_token=True) as process:
        wire = Wire(url=process.url)
        assert wire.call("GET", "/v1/studies").status == 401
        wire.close()


def test_the_administrators_token_of_the_environment_may_do_everything(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERORACLE_ADMIN_TOKEN", "0123456789abcdef0123456789abcdef")
    with OracleProcess(tmp_path) as process:
        wire = Wire(url=process.url, token="0123456789abcdef0123456789abcdef")
        assert wire.call("GET", "/v1/tokens").json == {"tokens": []}
        wire.close()


def test_an_empty_administrators_token_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERORACLE_ADMIN_TOKEN", "")
    monkeypatch.setenv("HYPERORACLE_ADMIN_TOKEN_FILE", "")
    with OracleProcess(tmp_path) as process:
        wire = Wire(url=process.url)
        assert wire.call("GET", "/v1/studies").status == 200
        wire.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 0), (signal.SIGINT, 130)])
def test_a_closed_terminal_and_ctrl_c_end_it_in_order(tmp_path, number, code):
    """SIGTERM: `tests/reliability/test_killed_under_load.py`."""
    with as_in_a_terminal(), OracleProcess(tmp_path, program=NEW_INTERPRETER) as process:
        os.kill(process.pid, number)
        assert process.wait() == code
        assert "Application shutdown complete" in process.log()
        assert "Traceback" not in process.log()


def test_under_nohup_a_closed_terminal_does_not_end_it_and_sigterm_does(tmp_path):
    with as_under_nohup(), OracleProcess(tmp_path, program=NEW_INTERPRETER) as process:
        os.kill(process.pid, signal.SIGHUP)
        wire = Wire(url=process.url)
        assert wire.call("GET", "/readyz").status == 200
        wire.close()
        assert process.terminate() == -signal.SIGTERM
        assert "Application shutdown complete" in process.log()


def test_ctrl_c_of_the_script_in_whose_background_it_runs_ends_it_in_order(tmp_path):
    """uvicorn listens to Ctrl-C whatever it was started with; what was ignored has no exit code."""
    with (
        as_in_the_background_of_a_script(),
        OracleProcess(tmp_path, program=NEW_INTERPRETER) as process,
    ):
        os.kill(process.pid, signal.SIGINT)
        assert process.wait() == 0
        assert "Application shutdown complete" in process.log()


def test_a_start_says_what_it_opened(tmp_path):
    with OracleProcess(tmp_path) as process:
        events = {line["event"]: line for line in map(json.loads, _json_lines(process))}
    assert events["store opened"]["store"] == str(tmp_path / "oracle.db")
    assert events["store opened"]["studies"] == 0


def _json_lines(process):
    return [line for line in process.log().splitlines() if line.startswith("{")]


def test_an_oracle_that_was_never_ready_says_so_in_its_log(tmp_path):
    with OracleProcess(tmp_path, disk_headroom_bytes=1 << 62) as process:
        wire = Wire(url=process.url)
        assert [wire.call("GET", "/readyz").status for _ in range(2)] == [503, 503]
        wire.close()
        told = [line for line in _json_lines(process) if "readiness changed" in line]
    assert len(told) == 1
