from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hyperoracle_server.api.access.audit import AuditLog


def test_each_record_is_one_line_of_json_that_is_appended(tmp_path):
    path = tmp_path / "audit.jsonl"
    for call in ("first\nline", "second"):
        audit = AuditLog(path)
        audit.record(call=call, status=200)
        audit.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["call"], line["status"]) for line in lines] == [
        ("first\nline", 200),
        ("second", 200),
    ]
    assert all(line["audit"].endswith("+00:00") for line in lines)


def test_without_a_file_it_goes_to_standard_error(capsys):
    AuditLog().record(call="x")
    assert json.loads(capsys.readouterr().err)["call"] == "x"


def test_a_file_that_cannot_be_written_is_told_at_the_start(tmp_path):
    with pytest.raises(OSError, match="directory"):
        AuditLog(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_full_disk_is_told_in_the_log_and_stops_nothing(caplog):
    audit = AuditLog(Path("/dev/full"))
    for _ in range(2):
        audit.record(call="x")
    audit.close()
    assert caplog.text.count("No space left") == 3


def test_a_file_that_is_moved_away_or_emptied_is_gone_on_with(tmp_path):
    """As logrotate does it, either way. Seen to fail with a plain `FileHandler`."""
    path, moved = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    audit = AuditLog(path)
    audit.record(call="first")
    path.rename(moved)
    audit.record(call="second")
    audit.record(call="third")
    assert [json.loads(line)["call"] for line in moved.read_text().splitlines()] == ["first"]
    assert [json.loads(line)["call"] for line in path.read_text().splitlines()] == [
        "second", "third",
    ]  # fmt: skip
    os.truncate(path, 0)
    audit.record(call="fourth")
    assert json.loads(path.read_text())["call"] == "fourth"
    audit.close()
