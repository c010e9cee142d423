"""What an oracle did not understand of a request, or what a report lacks, its answer says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.wire_client import Answer, Wire

from hyperoracle_protocol.codec import BINARY_MEDIA_TYPE, encode_frame

RANDOM = {"strategy": {"name": "random"}}


def report(wire: Wire, job: dict, *, binary: bool, **body) -> Answer:
    """A report as JSON, or the same as a binary body."""
    path = f"/v1/jobs/{job['job_id']}/report"
    body = {"sequence": 2, "credits_through": 1, "env_step": 5, **body}
    if not binary:
        return wire.call("POST", path, body)
    returns = np.array(body.pop("episode_returns", []), "<f8").tobytes()
    frame = encode_frame(json.dumps(body).encode(), "float64", returns)
    return wire.raw("POST", path, frame, BINARY_MEDIA_TYPE)


def started(wire: Wire, name: str, **returns) -> dict:
    wire.study(name, **RANDOM, **({"returns": returns} if returns else {}))
    job = wire.job(name, tensors=[])
    wire.propose(job, 1)
    return job


PLAIN = {"sequence": 2, "status": "applied", "credited": 1, "ask_again": False}


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("kind", "brings", "lacks"),
    [
        ("last_episodes", {"episode_returns": [1.0]}, False),
        ("last_episodes", {"phase_return": 1.0}, True),
        ("last_episodes", {"custom_return": 1.0}, True),
        ("last_episodes", {}, True),
        ("phase_episodes", {"episode_returns": [1.0]}, False),
        ("phase_episodes", {"phase_return": 1.0}, True),
        ("phase_return", {"phase_return": 0.0}, False),
        ("phase_return", {"episode_returns": [1.0]}, True),
        ("custom", {"custom_return": -1.0}, False),
        ("custom", {"phase_return": 1.0, "episode_returns": [1.0]}, True),
        ("custom", {"dropped_returns": {"custom_return": 1}}, False),
        ("last_episodes", {"dropped_returns": {"phase_return": 1}}, True),
    ],
)
def test_a_report_without_a_number_of_the_studys_kind_is_told_so(
    wire, name, kind, brings, lacks, binary
):
    """Seen to fail: 'applied, credited 0' was all that was said."""
    receipt = report(wire, started(wire, name, kind=kind), binary=binary, **brings).json
    assert receipt.get("return_missing", False) is lacks
    assert "unknown_fields" not in receipt


@pytest.mark.parametrize("binary", [False, True])
def test_a_mistyped_field_of_a_report_is_named_in_its_receipt(wire, name, binary):
    """Seen to fail: nothing said that the return was lost."""
    job = started(wire, name, kind="phase_return")
    receipt = report(wire, job, binary=binary, phase_retrun=1.0, episode_return=[1.0]).json
    assert sorted(receipt["unknown_fields"]) == ["episode_return", "phase_retrun"]
    assert receipt["return_missing"] is True
    assert "there is no field 'phase_retrun'; did you mean phase_return" in receipt["note"]
    assert (receipt["status"], receipt["credited"]) == ("applied", 0)


@pytest.mark.parametrize("binary", [False, True])
def test_a_repeated_report_is_told_the_same_and_one_without_faults_nothing_more(wire, name, binary):
    job = started(wire, name)
    assert report(wire, job, binary=binary, episode_returns=[1.0]).json == PLAIN
    typo = {"sequence": 3, "typo": 1}
    first = report(wire, job, binary=binary, **typo).json
    assert first["unknown_fields"] == ["typo"]
    assert report(wire, job, binary=binary, **typo).json == first


def test_a_report_that_waits_is_told_too(wire, name):
    job = started(wire, name, kind="custom")
    receipt = report(wire, job, binary=False, sequence=5, previous_report=4, custom=1.0).json
    assert receipt["status"] == "waiting"
    assert (receipt["unknown_fields"], receipt["return_missing"]) == (["custom"], True)


def test_returns_in_the_metadata_of_a_binary_report_are_no_returns(wire, name):
    job = started(wire, name)
    body = {"sequence": 2, "credits_through": 1, "env_step": 5, "episode_returns": [1.0]}
    frame = encode_frame(json.dumps(body).encode(), "float64", b"")
    path = f"/v1/jobs/{job['job_id']}/report"
    receipt = wire.raw("POST", path, frame, BINARY_MEDIA_TYPE).json
    assert receipt["unknown_fields"] == ["metadata.episode_returns"]
    assert receipt["return_missing"] is True


def test_so_is_a_mistyped_field_of_a_proposal_a_start_and_an_end(wire, name):
    """With its signal mistyped `kl_adaptive` never adapts."""
    wire.study(name, **RANDOM)
    job = wire.job(name, tensors=[], rol="control")
    assert job["unknown_fields"] == ["rol"]
    for sequence, binary in ((1, False), (2, True)):
        proposal = wire.propose(job, sequence, binary=binary, signal={"approx_kl": 0.1}).json
        assert proposal["unknown_fields"] == ["signal"]
        assert (
            proposal == wire.propose(job, sequence, binary=binary, signal={"approx_kl": 0.1}).json
        )
    assert "unknown_fields" not in wire.propose(job, 3).json
    end = wire.call("POST", f"/v1/jobs/{job['job_id']}/finish", {"reson": "failed"})
    assert end.json["unknown_fields"] == ["reson"]


def test_many_and_long_and_odd_names_are_told_within_bounds(wire, name):
    job = started(wire, name)
    odd = {"x" * 1000: 1, "self": 1, "cls": 1, "_fields_set": 1, "model_extra": 1}
    receipt = report(wire, job, binary=False, **odd, **{f"f{n}": n for n in range(100)}).json
    assert len(receipt["unknown_fields"]) == 16
    assert {"x" * 128, "self"} <= {*receipt["unknown_fields"]}
    assert report(wire, job, binary=True, **{**odd, "sequence": 3}).json["status"] == "applied"


def test_a_mistyped_end_of_a_token_is_refused(embedded):
    """Seen to fail: the token was made, and without an end."""
    body = {"name": "x", "scope": "admin", "expires_in_second": 60}
    refused = embedded.call("POST", "/v1/tokens", body)
    assert (refused.status, refused.json["code"]) == (422, "invalid_request")
    assert "expires_in_second" in refused.json["detail"]
