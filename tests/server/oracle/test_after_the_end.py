"""What comes of a job after it was finished: late, or after the end?"""

from __future__ import annotations

import pytest
from support.handles import oracle_of
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport

EPGT = {"strategy": {"name": "epgt"}, "returns": {"kind": "phase_return"}}
BEST = {"strategy": {"name": "best_config"}, "returns": {"kind": "phase_return"}}


def told(wire: Wire, study: str, job: dict) -> tuple:
    """All that a score, a choice or a person sees of the job."""
    described = wire.call("GET", f"/v1/jobs/{job['job_id']}").json
    gain = wire.call("GET", f"/v1/studies/{study}/gain").json
    memory = wire.call("GET", f"/v1/studies/{study}/memory").json
    return (
        {k: described[k] for k in ("status", "env_step", "last_return", "credited_proposals")},
        {k: v for k, v in gain.items() if "gain" in k or "regret" in k or "whole" in k},
        memory,
        wire.call("GET", f"/v1/studies/{study}/schedule").json,
    )


def report(wire: Wire, job: dict, sequence: int, through: int, value: float, **fields) -> dict:
    fields = {"env_step": sequence * 100, **fields}
    return wire.report(job, sequence, through, [], phase_return=value, **fields).json


def finish(wire: Wire, job: dict, **end) -> None:
    assert wire.call("POST", f"/v1/jobs/{job['job_id']}/finish", end).status == 200


def at_work(wire: Wire, name: str, study: dict = EPGT, **start) -> dict:
    """A job with two proposals, the first of which is reported."""
    wire.study(name, **study)
    job = wire.job(name, **start)
    wire.propose(job, 1)
    assert report(wire, job, 2, 1, 10.0)["status"] == "applied"
    return job


@pytest.mark.parametrize("study", [EPGT, BEST], ids=["epgt", "best_config"])
@pytest.mark.parametrize("chained", [{}, {"previous_report": 2}])
def test_a_report_of_after_the_end_is_kept_and_changes_no_score(wire, name, study, chained):
    """Seen to fail: it was applied, and the finished job's scores were others."""
    job = at_work(wire, name, study, role="control")
    wire.propose(job, 3)
    finish(wire, job, env_step=200)
    before = told(wire, name, job)
    receipt = report(wire, job, 4, 3, -999.0, **chained)
    assert (receipt["status"], receipt["credited"]) == ("late", 0)
    assert told(wire, name, job) == before
    assert report(wire, job, 4, 3, -999.0, **chained) == receipt
    assert wire.call("GET", f"/v1/jobs/{job['job_id']}").json["reports"] == 2
    assert report(wire, job, 5, 3, -999.0)["status"] == "late"
    assert told(wire, name, job) == before


@pytest.mark.parametrize("before_the_end", [True, False])
def test_a_report_that_the_end_has_overtaken_counts_once(wire, name, before_the_end):
    """By `last_sequence` the job says what is still on the way."""
    job = at_work(wire, name)
    if before_the_end:
        assert report(wire, job, 3, 1, 30.0, previous_report=2)["status"] == "applied"
    finish(wire, job, last_sequence=3)
    for _ in range(2):
        assert report(wire, job, 3, 1, 30.0, previous_report=2)["status"] == "applied"
    assert wire.call("GET", f"/v1/jobs/{job['job_id']}").json["last_return"] == 30.0
    assert report(wire, job, 4, 1, 99.0, previous_report=3)["status"] == "late"
    assert wire.call("GET", f"/v1/jobs/{job['job_id']}").json["last_return"] == 30.0


def test_so_does_one_whose_successor_was_seen(wire, name):
    """A proposal of a later sequence came before the end, the report between them after it."""
    job = at_work(wire, name)
    wire.propose(job, 4)
    finish(wire, job)
    assert report(wire, job, 3, 1, 30.0, previous_report=2)["status"] == "applied"
    assert wire.call("GET", f"/v1/jobs/{job['job_id']}").json["last_return"] == 30.0


def test_a_report_that_waited_is_applied_at_the_end_and_the_one_before_it_comes_too_late(
    wire, name
):
    job = at_work(wire, name)
    assert report(wire, job, 4, 1, 40.0, previous_report=3)["status"] == "waiting"
    finish(wire, job)
    assert wire.call("GET", f"/v1/jobs/{job['job_id']}").json["last_return"] == 40.0
    before = told(wire, name, job)
    assert report(wire, job, 3, 1, 30.0, previous_report=2)["status"] == "late"
    assert told(wire, name, job) == before


@pytest.mark.parametrize("reason", ["interrupted", "completed", "failed"])
def test_a_job_that_is_resumed_goes_on(wire, name, reason):
    job = at_work(wire, name, job_key="the-same-job")
    finish(wire, job, reason=reason)
    assert report(wire, job, 3, 1, -999.0)["status"] == "late"
    again = wire.job(name, job_key="the-same-job")
    assert again["last_sequence"] == 3
    assert wire.propose(again, 4).status == 200
    receipt = report(wire, again, 5, 4, 50.0)
    assert (receipt["status"], receipt["credited"]) == ("applied", 1)
    assert wire.call("GET", f"/v1/jobs/{job['job_id']}").json["last_return"] == 50.0
    finish(wire, again)
    assert report(wire, again, 6, 4, -999.0)["status"] == "late"


def test_a_heartbeat_of_after_the_end_changes_nothing(wire, name):
    """Seen to fail: it moved the env step that the job ended at."""
    job = at_work(wire, name)
    finish(wire, job, env_step=300)
    before = told(wire, name, job)
    beat = wire.call("POST", f"/v1/jobs/{job['job_id']}/heartbeat", {"env_step": 1000})
    assert beat.status == 204
    assert told(wire, name, job) == before


def test_where_a_job_ended_is_known_after_a_restart(tmp_path, name):
    store = str(tmp_path / "oracle.db")
    transport = EmbeddedTransport(store)
    wire = Wire(transport=transport)
    job = at_work(wire, name)
    finish(wire, job, last_sequence=4)
    transport.close()
    transport = EmbeddedTransport(store)
    wire = Wire(transport=transport)
    assert report(wire, job, 4, 1, 30.0, previous_report=2)["status"] == "applied"
    assert report(wire, job, 5, 1, -999.0)["status"] == "late"
    transport.close()
    transport = EmbeddedTransport(store)
    wire = Wire(transport=transport)
    assert report(wire, job, 6, 1, -999.0)["status"] == "late"
    assert wire.call("GET", f"/v1/jobs/{job['job_id']}").json["last_return"] == 30.0
    transport.close()


@pytest.mark.parametrize("study", [EPGT, BEST], ids=["epgt", "best_config"])
@pytest.mark.parametrize("reason", ["completed", "failed", "interrupted"])
def test_what_the_end_has_overtaken_counts_in_the_score_as_if_it_had_come_before(
    tmp_path, study, reason
):
    """Seen to fail where the end is not told again: its score lacked the last return."""
    transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
    wire = Wire(transport=transport)
    endings = []
    for name, overtaken in (("in-order", False), ("overtaken", True)):
        job = at_work(wire, name, {**study, "seed": 3}, total=400)
        if overtaken:
            finish(wire, job, reason=reason, env_step=300, last_sequence=3)
        report(wire, job, 3, 1, 30.0, previous_report=2)
        if not overtaken:
            finish(wire, job, reason=reason, env_step=300)
        with oracle_of(transport).job(job["job_id"]) as (_, state):
            endings.append((state.ending, state.curve, state.env_step, state.last_return))
    transport.close()
    assert endings[0] == endings[1]


def test_of_a_job_that_ended_before_its_first_call_all_that_comes_is_late(wire, name):
    wire.study(name, **EPGT)
    job = wire.job(name)
    finish(wire, job)
    for sequence in (3, 2):  # the first to come is seen, and is no proof that the job had got there
        assert report(wire, job, sequence, 0, 30.0)["status"] == "late"
