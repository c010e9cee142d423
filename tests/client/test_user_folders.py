"""Without a home, a password entry, or a home that can be written, everything still works."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client.conftest import SPACE, eventually
from client.scripted_oracle import ScriptedOracle

from hyperoracle_client import Oracle, OracleMisconfigured, cli
from hyperoracle_client import settings as client_settings
from hyperoracle_client.job.delivery.spool import read_spool
from hyperoracle_client.settings import load_settings

QUICK = {"circuit_least_seconds": 0.001, "circuit_most_seconds": 0.01}
HOMES = ["neither a home nor a password entry", "a file", "below a file", "read-only", "closed"]


@pytest.fixture(params=HOMES)
def homeless(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """Where temporary folders are; the home is one of `HOMES`, and XDG's variables are not set."""
    for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "HYPERORACLE_SPOOL_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(client_settings, "_temporary", {})
    monkeypatch.setattr(client_settings, "_said", set())
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    if request.param == HOMES[0]:
        monkeypatch.delenv("HOME")

        def nobody(user: int) -> Any:
            raise KeyError(user)

        monkeypatch.setattr(pwd, "getpwuid", nobody)
    elif request.param == "a file":
        home.write_text("")
    elif request.param == "below a file":
        home.write_text("")
        monkeypatch.setenv("HOME", str(home / "me"))
    elif request.param == "read-only":
        home.mkdir()
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: path != home and access(path, mode))
    else:
        _close(home, monkeypatch)
    return temporary


def _close(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing below `home` can be looked for: root's, for anybody else (also where root tests)."""
    for name in ("stat", "lstat", "read_text"):
        method = getattr(Path, name)

        def closed(path: Path, *args: Any, _method: Any = method, **options: Any) -> Any:
            if home in path.parents:
                raise PermissionError(13, "Permission denied", str(path))
            return _method(path, *args, **options)

        monkeypatch.setattr(Path, name, closed)


def test_reports_wait_in_a_temporary_folder_which_is_said_once(
    homeless: Path,
    server: ScriptedOracle,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Seen to fail: RuntimeError without a home, "expected TOML" with a file for one, reports
    kept in memory only elsewhere."""
    jobs = []
    for number in range(2):
        oracle = Oracle(server.url, finish_deadline_seconds=0.05, **QUICK)
        jobs.append(
            oracle.start_job(
                study="s", space=SPACE, total_env_steps=9, job_key=f"job-number-{number}"
            )
        )
    server.die()
    for job in jobs:
        job.report([1.0], env_step=1)
    eventually(lambda: all(job.stats.reports_spooled == 1 for job in jobs))
    (folder,) = homeless.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    files = list((folder / "hyperoracle" / "spool").iterdir())
    assert sorted(read_spool(file).job_key for file in files) == ["job-number-0", "job-number-1"]
    told = [r.getMessage() for r in caplog.records if "spool_directory" in r.getMessage()]
    assert len(told) == 1
    for job in jobs:
        job.end(0.0)


@pytest.mark.usefixtures("homeless")
def test_commands_need_no_home(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = f"embedded:{tmp_path / 'oracle.db'}"
    assert cli.main(["study", "list", "--url", url]) == 0
    assert cli.main(["doctor", "--url", url]) == 0
    assert "temporary because" in capsys.readouterr().out


@pytest.mark.usefixtures("homeless")
def test_a_folder_of_somebody_elses_of_that_name_is_not_used(
    homeless: Path, tmp_path: Path
) -> None:
    (homeless / f"hyperoracle-{os.getuid()}").symlink_to(tmp_path)
    spool = load_settings().spool_directory
    assert tmp_path / "hyperoracle" not in spool.parents
    assert spool.parents[1].parent == homeless
    assert spool.parents[1].stat().st_mode & 0o077 == 0


def test_a_home_is_where_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "to-be-made"))
    expected = tmp_path / "to-be-made" / ".local" / "state" / "hyperoracle" / "spool"
    assert load_settings().spool_directory == expected


def test_a_tilde_is_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Seen to fail: a folder called ~ in the working directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HYPERORACLE_SPOOL_DIRECTORY", "~/reports")
    assert load_settings().spool_directory == tmp_path / "reports"
    with pytest.raises(OracleMisconfigured, match="needs no home"):
        load_settings({"spool_directory": "~nobody-of-that-name/reports"})
    with pytest.raises(OracleMisconfigured, match="expected a path"):
        load_settings({"ca_bundle": "a\0b"})


def test_a_file_of_settings_that_may_not_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is the user's own: that it counts for nothing must not be silent."""

    def refused(path: Path, *args: Any, **options: Any) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "hyperoracle.toml").write_text("")
    monkeypatch.setattr(Path, "read_text", refused)
    config = tmp_path / "config" / "hyperoracle"
    config.mkdir(parents=True)
    (config / "client.toml").write_text("")
    with pytest.raises(OracleMisconfigured, match=r"client\.toml"):
        load_settings()


@pytest.mark.parametrize(
    "study", ["../x", "a/b", "/tmp/x", "..", ".hidden", "", "s" * 129, "ü", "a b", 5, None]
)
def test_a_study_whose_name_is_none_is_told_in_one_line_and_leaves_no_file(
    server: ScriptedOracle, connect: Callable[..., Oracle], tmp_path: Path, study: Any
) -> None:
    """Seen to fail: with the oracle away, reports were spooled outside of the folder."""
    server.die()
    oracle = connect(server.url, start_deadline_seconds=0.02, **QUICK)
    with pytest.raises(OracleMisconfigured, match="expected a study's name") as caught:
        oracle.start_job(study=study, space=SPACE, total_env_steps=9)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "spool").exists()
