"""Several reports in one call: each is taken in as if it had come alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.handles import oracle_of
from support.wire_client import Wire

from hyperoracle_protocol.codec import BINARY_MEDIA_TYPE, encode_frame
from hyperoracle_protocol.jobs import MAX_REPORTS_AT_ONCE
from hyperoracle_server.api.embedded import EmbeddedTransport


def frame(sequence: int, through: int, returns=(1.0,), **fields) -> bytes:
    meta = {"sequence": sequence, "credits_through": through, "env_step": sequence, **fields}
    numbers = np.array(returns, "<f8").tobytes()
    return encode_frame(json.dumps(meta).encode(), "float64", numbers)


def send(wire, job, frames, call="reports", media_type=BINARY_MEDIA_TYPE):
    return wire.raw("POST", f"/v1/jobs/{job['job_id']}/{call}", b"".join(frames), media_type)


def phases(wire, job, count: int) -> list[bytes]:
    """So many proposals, and the frame of the report that follows each."""
    for n in range(count):
        wire.propose(job, 2 * n + 1, seed=n)
    return [frame(2 * n + 2, 2 * n + 1, [float(n)], previous_report=2 * n) for n in range(count)]


def everything(wire, study: str, job) -> list:
    return [
        wire.call("GET", path).json
        for path in (f"/v1/studies/{study}/memory", f"/v1/studies/{study}")
    ] + [wire.call("GET", f"/v1/jobs/{job['job_id']}").json["last_return"]]


def test_a_job_is_told_how_many_it_may_bring(wire, name):
    wire.study(name)
    assert wire.job(name)["reports_at_once"] == MAX_REPORTS_AT_ONCE


def test_each_gets_its_receipt_in_order(wire, name):
    wire.study(name)
    job = wire.job(name)
    answer = send(wire, job, phases(wire, job, 3))
    assert answer.status == 200, answer
    # The third phase's reports credit what was proposed before them: one each.
    assert [(r["sequence"], r["status"], r["credited"]) for r in answer.json["receipts"]] == [
        (2, "applied", 1), (4, "applied", 1), (6, "applied", 1),
    ]  # fmt: skip
    assert "refusal" not in answer.json
    values = [e["value"] for e in wire.call("GET", f"/v1/studies/{name}/memory").json["entries"]]
    assert sorted(values) == [0.0, 0.5, 1.0], "means of the returns so far, by hand"


def test_one_that_came_alone_before_is_the_same_report(wire, name):
    """A client that lost an answer may send it again in other company."""
    wire.study(name)
    job = wire.job(name)
    frames = phases(wire, job, 3)
    alone = send(wire, job, frames[:1], "report").json
    together = send(wire, job, frames).json["receipts"]
    assert together[0] == alone
    assert send(wire, job, frames[1:]).json["receipts"] == together[1:]
    assert send(wire, job, frames[2:], "report").json == together[2]
    assert wire.call("GET", f"/v1/jobs/{job['job_id']}").json["reports"] == 3


def test_behind_a_refused_one_none_is_looked_at(wire, name):
    wire.study(name)
    job = wire.job(name)
    frames = phases(wire, job, 4)
    bad = frame(6, 6)  # credits itself
    answer = send(wire, job, [*frames[:2], bad, frames[3]])
    assert answer.status == 200
    assert [receipt["sequence"] for receipt in answer.json["receipts"]] == [2, 4]
    refusal = answer.json["refusal"]
    assert (refusal["status"], refusal["code"]) == (422, "invalid_request")
    assert "credits_through < 6" in refusal["expected"]
    assert wire.call("GET", f"/v1/jobs/{job['job_id']}").json["reports"] == 2
    assert send(wire, job, frames[2:]).json["receipts"][1]["sequence"] == 8


def test_a_refusal_among_them_is_counted_as_any_other(wire, name):
    def refused() -> list[str]:
        metrics = wire.call("GET", "/metrics").json.splitlines()
        wanted = (
            'reports_total{result="rejected"}',
            'rejected_inputs_total{reason="invalid_request"}',
        )
        return [line.rpartition(" ")[2] for each in wanted for line in metrics if each in line]

    wire.study(name)
    job = wire.job(name)
    frames = phases(wire, job, 2)
    before = refused()
    assert "refusal" in send(wire, job, [frames[0], frame(4, 4)]).json
    assert [float(now) - float(then) for now, then in zip(refused(), before, strict=True)] == [1, 1]


def test_where_the_first_is_refused_the_call_is(wire, name):
    wire.study(name)
    job = wire.job(name)
    frames = phases(wire, job, 2)
    for bodies in ([frame(2, 2), frames[1]], [b"HYOR", frames[0]], [frames[0][:-1]], []):
        answer = send(wire, job, bodies)
        assert (answer.status, answer.json["code"]) == (422, "invalid_request"), answer
    assert wire.call("GET", f"/v1/jobs/{job['job_id']}").json["reports"] == 0


def test_too_many_and_json_are_refused_and_change_nothing(wire, name):
    wire.study(name)
    job = wire.job(name)
    many = [frame(n, 0) for n in range(1, MAX_REPORTS_AT_ONCE + 2)]
    answer = send(wire, job, many)
    assert (answer.status, answer.json["code"]) == (422, "invalid_request")
    assert f"at most {MAX_REPORTS_AT_ONCE}" in answer.json["detail"]
    answer = send(wire, job, [b'{"reports": []}'], media_type="application/json")
    assert (answer.status, answer.json["code"]) == (415, "unsupported_media_type")
    assert wire.call("GET", f"/v1/jobs/{job['job_id']}").json["reports"] == 0
    assert len(send(wire, job, many[:-1]).json["receipts"]) == MAX_REPORTS_AT_ONCE


def test_one_of_a_job_that_is_not_there(wire, name):
    answer = send(wire, {"job_id": "job-0000"}, [frame(1, 0), frame(2, 0)])
    assert (answer.status, answer.json["code"]) == (404, "job_not_found")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    transport = EmbeddedTransport(str(tmp_path_factory.mktemp("at-once") / "oracle.db"))
    yield Wire(transport=transport)
    transport.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_together_or_alone_comes_to_the_same(home, sizes):
    """Law: whatever is cut into whatever calls, memory and counts are those of single reports."""
    found = []
    for call in ("report", "reports"):
        study = f"s{len(oracle_of(home).studies())}"
        home.study(study, seed=7)
        job = home.job(study, job_key="the-only-one")
        frames = phases(home, job, sum(sizes))
        if call == "report":
            receipts = [send(home, job, [each], call).json for each in frames]
        else:
            receipts, rest = [], frames
            for size in sizes:
                together, rest = rest[:size], rest[size:]
                receipts += send(home, job, together).json["receipts"]
        entries = home.call("GET", f"/v1/studies/{study}/memory").json["entries"]
        counts = home.call("GET", f"/v1/jobs/{job['job_id']}").json
        found.append((
            receipts,
            [(entry["value"], entry["proposal_id"].rpartition(".")[2]) for entry in entries],
            [counts[n] for n in ("reports", "proposals", "credited_proposals", "last_return")],
        ))  # fmt: skip
    assert found[0] == found[1]
