from __future__ import annotations

import time
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from support.terminal import Terminal

from hyperoracle_client import Choice, Oracle, cli
from hyperoracle_client.api import OracleApi


def test_backup_and_restore_of_a_study_show_on_a_terminal_how_far_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"embedded:{tmp_path / 'oracle.db'}"
    with Oracle(url, spool_directory=tmp_path / "spool") as oracle:
        space = {"clip_range": Choice([0.1, 0.2], default=0.2)}
        oracle.start_job(study="s", space=space, total_env_steps=10).finish()

    def slowly(call: Any) -> Any:
        def called(api: OracleApi, name: str, file: BinaryIO) -> Any:
            result = call(api, name, file)
            file.flush()
            deadline = time.monotonic() + 10.0
            while " 0.1 MB" not in screen.getvalue() and time.monotonic() < deadline:
                time.sleep(0.001)
            return result

        return called

    monkeypatch.setattr(OracleApi, "take_snapshot", slowly(OracleApi.take_snapshot))
    monkeypatch.setattr(OracleApi, "restore_study", slowly(OracleApi.restore_study))
    backup = str(tmp_path / "backup")
    for arguments in (["backup", "s", backup], ["restore", "again", backup]):
        screen = Terminal(monkeypatch)
        assert cli.main(["--url", url, "study", *arguments]) == 0
        shown = screen.getvalue()
        assert f"{arguments[0]} of {arguments[1]}: 0.1 MB" in shown
        assert shown.endswith("\r\x1b[K")
        quiet = Terminal(monkeypatch)
        assert cli.main(["--url", url, "--json", "study", "list"]) == 0
        assert quiet.getvalue() == ""
