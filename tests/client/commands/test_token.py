"""`hyperoracle token`, on the store itself and through the calls of a running oracle."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from client.test_cli import run, run_json
from support.oracle_process import OracleProcess

from hyperoracle_client import OracleMisconfigured
from hyperoracle_client.commands.token import lifetime


def create(capsys: Any, *arguments: str) -> str:
    code, out, err = run(capsys, "token", "create", *arguments)
    assert code == 0
    assert err == "" or "running jobs included" in err  # of the first one
    assert out.startswith("ho_")
    assert out.count("\n") == 1
    return out.strip()


def test_tokens_are_made_listed_and_revoked_on_the_store_while_no_server_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = ("--store", str(tmp_path / "oracle.db"))
    create(capsys, "--name", "admin", "--scope", "admin", *store)
    token = create(
        capsys, "--name", "team", "--scope", "train", "--studies", "cartpole*",
        "--studies", "hopper", "--expires", "90d", *store,
    )  # fmt: skip
    listed, _ = run_json(capsys, "token", "list", *store)["tokens"]
    assert (listed["name"], listed["status"], listed["scope"]) == ("team", "active", "train")
    assert listed["studies"] == ["cartpole*", "hopper"]
    table = run(capsys, "token", "list", *store)[1]
    assert re.search("team +active +train +cartpole\\* hopper ", table)
    assert token[16:] not in table + json.dumps(listed)
    assert run(capsys, "token", "revoke", "team", *store)[1] == "token team is revoked\n"
    assert run_json(capsys, "token", "list", *store)["tokens"][0]["status"] == "revoked"
    code, _, err = run(capsys, "token", "revoke", "team", *store)
    assert (code, err.count("\n")) == (1, 1)
    assert "no token 'team' is in force" in err


@pytest.mark.slow
def test_a_store_that_a_server_has_open_says_so_and_the_servers_calls_do_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ("--store", str(tmp_path / "oracle.db"))
    administrator = create(capsys, "--name", "me", "--scope", "admin", *store)
    with OracleProcess(tmp_path) as process:
        code, _, err = run(capsys, "token", "list", *store)
        assert (code, err.count("\n")) == (1, 1)
        assert "open in another process" in err
        at_server = ("--url", process.url, "--token", administrator)
        token = create(capsys, "--name", "job", "--studies", "mine", *at_server)
        code, _, err = run(capsys, "--url", process.url, "study", "list")
        assert (code, err.count("\n")) == (1, 1)
        assert "HYPERORACLE_TOKEN" in err
        monkeypatch.setenv("HYPERORACLE_TOKEN", token)
        assert run(capsys, "--url", process.url, "study", "list")[0] == 0
        code, _, err = run(capsys, "--url", process.url, "token", "list")
        assert (code, "forbidden" in err) == (1, True)
        findings = run_json(capsys, "--url", process.url, "doctor")
        assert findings[-1]["check"] == "authorised"
        monkeypatch.delenv("HYPERORACLE_TOKEN")
        code, out, _ = run(capsys, "--url", process.url, "doctor")
        assert code == 1
        assert "FAIL  authorised" in out


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90d", 7_776_000), ("12h", 43_200), ("1.5m", 90), ("2w", 1_209_600), ("7s", 7)],
)
def test_lifetimes_are_read(text: str, seconds: float) -> None:
    assert lifetime(text) == seconds


def test_no_lifetime_is_for_ever() -> None:
    assert lifetime(None) is None
    assert lifetime("never") is None


@pytest.mark.parametrize("text", ["90", "d", "-1d", "1 d", "90days", ""])
def test_what_is_no_lifetime_says_what_is(text: str) -> None:
    with pytest.raises(OracleMisconfigured, match="90d"):
        lifetime(text)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--name", "a b"], "name"),
        (["--name", "a", "--expires", "soon"], "--expires"),
        (["--name", "a", "--expires", "0d"], "expires_in_seconds"),
        (["--name", "a", "--studies", "x y"], "studies"),
        (["--name", "a", "--url", "http://127.0.0.1:9"], "not both"),
    ],
)
def test_wrong_arguments_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], told: str
) -> None:
    store = tmp_path / "oracle.db"
    code, out, err = run(capsys, "token", "create", *arguments, "--store", str(store))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert told in err
    assert not store.exists()
