from __future__ import annotations

import json

import pytest

from hyperoracle_server.security.audit import AuditLog


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


def test_a_full_disk_is_told_in_the_log_and_stops_nothing(tmp_path, caplog):
    audit = AuditLog(tmp_path / "audit.jsonl")

    class Full:
        def write(self, _line: str) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    audit._file.close()
    audit._file = Full()
    audit.record(call="x")
    assert "No space left" in caplog.text
