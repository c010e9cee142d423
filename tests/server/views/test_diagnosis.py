"""The diagnosis of a study, over the wire."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.handles import oracle_of

from hyperoracle_protocol.codec import BINARY_MEDIA_TYPE, encode_frame
from hyperoracle_server.strategies.baselines import FixedAgent
from hyperoracle_server.strategies.evidence.shareability import SharedRecords

STATISTICS = {
    "name": "epgt",
    "hyper_state": {"kind": "statistics", "dtype": "float32"},
    "encoder": {"kind": "plain", "minimum_samples": 100_000},  # no round: the clipped features
}


def diagnosis(wire, name, **query):
    asked = "&".join(f"{key}={value}" for key, value in query.items())
    answer = wire.call("GET", f"/v1/studies/{name}/diagnosis?{asked}")
    assert answer.status == 200, answer
    return answer.json


def leave(wire, job, features, returns):
    """Leave an entry for each hyper-state, with the return that followed it."""
    layout = job["layout"]
    path = f"/v1/jobs/{job['job_id']}/propose"
    for update, (state, value) in enumerate(zip(features, returns, strict=True)):
        sequence = 2 * update + 1
        meta = {"sequence": sequence, "update_step": update, "env_step": update,
                "signature": layout["signature"]}  # fmt: skip
        values = np.asarray(state, layout["dtype"]).tobytes()
        frame = encode_frame(json.dumps(meta).encode(), layout["dtype"], values)
        assert wire.raw("POST", path, frame, BINARY_MEDIA_TYPE).status == 200
        assert wire.report(job, sequence + 1, sequence, [value]).json["credited"] == 1


def one_hyper_action(wire, name):
    wire.study(name, {"factor": {"type": "relative", "values": [1]}}, strategy=STATISTICS,
               returns={"kind": "phase_episodes"})  # fmt: skip


def test_jobs_in_places_of_their_own_share_nothing(wire, name):
    one_hyper_action(wire, name)
    rng = np.random.default_rng(0)
    for place in (-4.0, 0.0, 4.0):
        job = wire.job(name)
        states = place + 0.1 * rng.normal(size=(8, job["layout"]["feature_count"]))
        leave(wire, job, states, rng.normal(size=8))
    found = diagnosis(wire, name)
    (keys,) = found["keys"]
    assert (keys["records"], keys["jobs"], found["neighbours"]) == (24, 3, 5)
    assert keys["neighbours"]["from_other_jobs"] == 0.0
    assert keys["neighbours"]["expected_by_chance"] == pytest.approx(16 / 23)
    assert keys["neighbours"]["ratio"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert keys["neighbours"]["shared"] is False
    assert "plain" in keys["what"]


def test_jobs_on_one_path_share_it_and_predict_each_other(wire, name):
    one_hyper_action(wire, name)
    progress = np.linspace(-1, 1, 12)
    for shift in (0.0, 0.01, 0.02):
        job = wire.job(name)
        states = np.zeros((12, job["layout"]["feature_count"]))
        states[:, 0] = progress + shift
        leave(wire, job, states, 10 * progress)
    (keys,) = diagnosis(wire, name, neighbours=2)["keys"]
    assert keys["neighbours"]["from_other_jobs"] == 1.0
    assert keys["neighbours"]["shared"] is True
    # By hand: nearest of the others are the same point's, moved by at most 0.02. Values as they
    # were reported: what the memory blends of them (Eq. 4) would not be told this well.
    assert keys["prediction"]["skill"]["value"] > 0.9999
    assert keys["prediction"]["jobs_better"]["value"] == 1.0


def test_a_single_job_has_nothing_to_be_compared_with(wire, name):
    one_hyper_action(wire, name)
    job = wire.job(name)
    leave(wire, job, np.eye(2, job["layout"]["feature_count"]), [1.0, 2.0])
    (keys,) = diagnosis(wire, name)["keys"]
    assert "nothing to compare yet" in keys["note"]
    assert (keys["records"], keys["neighbours"], keys["prediction"]) == (2, None, None)


def test_layouts_are_told_apart_and_returns_that_are_all_equal_predict_nothing(wire, name):
    wire.study(name)
    for seed, rows in enumerate((4, 4, 6)):
        job = wire.job(name, tensors=[{"name": "w", "shape": [rows, 3]}])
        wire.propose(job, 1, seed=seed)
        wire.report(job, 2, 1, [3.0])
    pair, single = diagnosis(wire, name)["keys"]
    assert (pair["jobs"], single["jobs"]) == (2, 1)
    assert pair["neighbours"]["ratio"]["value"] == 1.0
    assert pair["prediction"] is None


@pytest.mark.parametrize("strategy", ["fixed", "random"])
def test_a_strategy_without_records_says_so(wire, name, strategy):
    wire.study(name, strategy={"name": strategy})
    found = diagnosis(wire, name)
    assert found["keys"] == []
    assert found["note"] == f"the strategy {strategy} keeps no records that jobs could share"


def test_an_empty_memory_says_so(wire, name):
    wire.study(name)
    wire.propose(wire.job(name), 1)
    assert "empty" in diagnosis(wire, name)["note"]


def test_what_cannot_be_diagnosed_is_refused(wire, name):
    path = f"/v1/studies/{name}/diagnosis"
    assert wire.call("GET", path).json["code"] == "study_not_found"
    wire.study(name)
    assert wire.call("GET", f"{path}?neighbours=0").json["code"] == "invalid_request"


class Offering(FixedAgent):
    def shared_records(self):
        keys = np.array([[0.0], [0.1], [0.0], [0.1]])
        jobs, values = np.array([1, 1, 2, 2]), np.array([0.0, 1.0, 0.0, 1.0])
        return [SharedRecords(keys, jobs, values, "held decisions")]


def test_a_strategy_may_offer_records_of_its_own(embedded):
    embedded.study("s", strategy={"name": "fixed"})
    with oracle_of(embedded).study("s") as study:
        study.agent = Offering(study.grid)
    (found,) = diagnosis(embedded, "s", neighbours=1)["keys"]
    assert (found["what"], found["records"]) == ("held decisions", 4)
    assert found["neighbours"]["from_other_jobs"] == 1.0
    assert found["prediction"]["skill"]["value"] == 1.0
