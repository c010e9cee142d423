"""What a job's calls lack is counted, answered and shown, whoever calls."""

from __future__ import annotations

import pytest

from hyperoracle_server.oracle.receipts import REPORTS_WITHOUT_EPISODE

KL = {"strategy": {"name": "kl_adaptive"}}


def job_of(wire, job):
    return wire.call("GET", f"/v1/jobs/{job['job_id']}").json


@pytest.mark.parametrize(
    ("kind", "field"), [("custom", "custom_return"), ("phase_return", "phase_return")]
)
def test_a_report_of_another_kind_of_return_than_the_studys_is_told(wire, name, kind, field):
    wire.study(name, strategy={"name": "random"}, returns={"kind": kind})
    job = wire.job(name)
    note = wire.report(job, 1, 0, [1.0]).json["note"]
    assert f"return is '{kind}', for which {field} is expected; got episode_returns" in note
    assert "note" not in wire.report(job, 2, 0, [1.0], **{field: 2.0}).json
    assert "note" not in wire.report(job, 3, 0, [], dropped_returns={field: 1}).json
    assert "got no return" in wire.report(job, 4, 0, []).json["note"]
    assert job_of(wire, job)["reports_without_return"] == 2


def test_phases_without_an_episode_are_told_only_where_none_ever_ends(wire, name):
    wire.study(name, strategy={"name": "random"})
    job, lucky = wire.job(name), wire.job(name)
    notes = [wire.report(job, n, 0, [], phase_return=1.0).json.get("note") for n in range(1, 12)]
    assert notes[: REPORTS_WITHOUT_EPISODE - 1] == [None] * (REPORTS_WITHOUT_EPISODE - 1)
    assert "got phase_return" in notes[-1]
    wire.report(lucky, 1, 0, [1.0])
    assert not any("note" in wire.report(lucky, n, 0, []).json for n in range(2, 20))


def test_a_repeated_report_gets_the_same_note(wire, name):
    wire.study(name, strategy={"name": "random"}, returns={"kind": "custom"})
    job = wire.job(name)
    first = wire.report(job, 1, 0, [1.0]).json
    assert wire.report(job, 1, 0, [1.0]).json == first
    assert job_of(wire, job)["reports_without_return"] == 1


def test_a_strategy_without_its_signal_is_counted_and_explained(wire, name):
    wire.study(name, **KL)
    job = wire.job(name)
    wire.propose(job, 1, signals={"approx_kl": 0.1})
    wire.propose(job, 2, signals={"entropy": 0.1})
    assert job_of(wire, job)["proposals_without_signal"] == 1
    whys = [
        wire.call("GET", f"/v1/proposals/{job['job_id']}.{n}/explanation").json["why"]
        for n in (1, 2)
    ]
    assert whys == [
        "the bin nearest to the rate that the KL divergence asked for",
        "the signal that the strategy decides by did not come: the value stays as it was",
    ]


def test_what_a_client_noticed_is_kept_and_only_grows(wire, name):
    wire.study(name)
    job = wire.job(name)
    path = f"/v1/jobs/{job['job_id']}"
    wire.call("POST", f"{path}/heartbeat", {"notices": {"report_dropped": 3}})
    wire.call("POST", f"{path}/heartbeat", {"notices": {"report_dropped": 2}})
    wire.call("POST", f"{path}/heartbeat", {})
    wire.call("POST", f"{path}/finish", {"notices": {"no_return": 1}})
    assert job_of(wire, job)["notices"] == {"report_dropped": 3, "no_return": 1}
    many = {f"n{number}": 1 for number in range(33)}
    assert wire.call("POST", f"{path}/heartbeat", {"notices": many}).status == 422


def test_values_used_instead_are_counted_explained_exported_and_not_credited(wire, name):
    wire.study(name)
    job = wire.job(name)
    for sequence in (1, 2):
        wire.propose(job, sequence, seed=sequence)
    used = [{"sequence": 1, "hyperparameters": {"learning_rate": 0.75}}]
    answer = wire.report(job, 3, 2, [1.0], not_applied=[1], applied=used)
    assert answer.json["credited"] == 1
    found = job_of(wire, job)
    assert found["not_applied_proposals"] == found["applied_differently_proposals"] == 1
    first, second = (
        wire.call("GET", f"/v1/proposals/{job['job_id']}.{n}/explanation").json for n in (1, 2)
    )
    assert (first["applied"], first["used_instead"]) == (False, {"learning_rate": 0.75})
    assert (second["applied"], second["used_instead"]) == (True, None)
    rows = wire.call("GET", f"/v1/studies/{name}/schedule").json["rows"]
    assert [(row["applied"], row["as_proposed"]) for row in rows] == [(True, False), (True, True)]
    assert rows[0]["hyperparameters"] == {"learning_rate": 0.75}


@pytest.mark.parametrize("strategy", ["anchored", "cautious_config"])
def test_a_whole_run_that_strayed_is_no_evidence(wire, name, strategy):
    def run(strays):
        job = wire.job(name, role="control")
        wire.propose(job, 1)
        stray = {"sequence": 1, "hyperparameters": {"learning_rate": 0.75}}
        wire.report(job, 2, 1, [1.0], env_step=500, applied=[stray] if strays else [])
        wire.report(job, 3, 1, [1.0], env_step=1000)
        wire.call("POST", f"/v1/jobs/{job['job_id']}/finish", {"env_step": 1000})

    def known():
        job = wire.job(name, role="control")
        proposal = wire.propose(job, 1).json["proposal_id"]
        return any(v["known"] for v in wire.call("GET", f"/v1/proposals/{proposal}/explanation")
                   .json["values"])  # fmt: skip

    wire.study(name, strategy={"name": strategy})
    for _ in range(3):
        run(strays=True)
    assert not known()
    for _ in range(3):
        run(strays=False)
    assert known()
