"""Long answers are the same JSON, whoever makes them."""

from __future__ import annotations

import threading

import pytest

from hyperoracle_protocol.inspection import Schedule, ScheduleRow
from hyperoracle_server.api.routes.studies import listing


def schedule(rows: int) -> Schedule:
    row = ScheduleRow(
        job_id='"rows":[]', sequence=1, update_step=1, env_step=1, applied=True, explored=False,
        hyperparameters={"ä": 0.5, "kind": '"rows":[]'}, hyper_return=None,
    )  # fmt: skip
    return Schedule(study="s", hyperparameters=["ä", "kind"], rows=[row] * rows)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_listing_is_the_messages_json(rows):
    answer = listing(schedule(rows), "rows")
    assert bytes(answer.body) == schedule(rows).model_dump_json().encode()
    assert answer.media_type == "application/json"


@pytest.mark.parametrize("what", ["schedule", "jobs", "memory", "memory/map", ""])
def test_rows_become_json_in_the_thread_of_their_route(embedded, monkeypatch, what):
    embedded.study("s")
    job = embedded.job("s")
    embedded.propose(job, 1)
    embedded.report(job, 2, 1)
    dumped = set()
    kind = "Study" if not what else None
    for row in (ScheduleRow, *_rows(kind)):
        dump = row.model_dump_json

        def noted(self, *, _dump=dump):
            dumped.add(threading.current_thread().name)
            return _dump(self)

        monkeypatch.setattr(row, "model_dump_json", noted)
    path = f"/v1/studies/s/{what}" if what else "/v1/studies"
    assert embedded.call("GET", path).status == 200
    assert dumped
    assert "embedded-oracle" not in dumped  # the loop's


def _rows(kind):
    from hyperoracle_protocol.inspection import MapPoint, MemoryEntry
    from hyperoracle_protocol.jobs import Job
    from hyperoracle_protocol.studies import Study

    return (Study,) if kind else (MapPoint, MemoryEntry, Job)
