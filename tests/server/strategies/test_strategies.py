"""What every strategy must keep to, whoever chooses."""

import random
import sqlite3

import pytest
from support.handles import oracle_of
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport

STRATEGIES = {
    "epgt": {"name": "epgt", "encoder": {"minimum_samples": 100_000}},
    "dqn": {
        "name": "dqn",
        "encoder": {"minimum_samples": 100_000},
        "exploration": {"start": 0.5, "end": 0.0},
        "q_learning": {"replay_start": 3, "target_period": 4, "replay_capacity": 12},
    },
    "random": {"name": "random"},
    "fixed": {"name": "fixed"},
    "anchored": {"name": "anchored", "jobs_needed": 1, "caution": 0, "decisions_per_job": 5},
    "best_config": {"name": "best_config", "jobs_needed": 1, "roles": {"exploration_jobs": 4}},
    "cautious_config": {
        "name": "cautious_config",
        "jobs_needed": 1,
        "caution": 0,
        "roles": {"exploration_jobs": 4},
    },
    "kl_adaptive": {"name": "kl_adaptive", "target_kl": 0.012},
    "bandit": {"name": "bandit", "window": 2},
}
TWO = {
    "learning_rate": {"type": "relative", "values": [0.25, 0.5, 1, 2, 4]},
    "clip_range": {"type": "values", "values": [0.1, 0.2, 0.3], "default": 0.2},
}
JOBS, PHASES = 8, 5


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    return STRATEGIES[request.param]


def phase(wire: Wire, job, number: int, chance: random.Random) -> list[int]:
    """One decision and one report of a job; its return depends on what it was told."""
    signals = {"approx_kl": chance.choice([0.001, 0.012, 0.05])}
    told = wire.propose(job, 2 * number + 1, seed=number, env_step=100 * number,
                        signals=signals).json  # fmt: skip
    skipped = [2 * number + 1] if number == 3 else []
    value = told["bins"][0] - 3 * (told["bins"][-1] == 0) + chance.random()
    wire.report(job, 2 * number + 2, 2 * number + 1, [value], env_step=100 * number + 100,
                not_applied=skipped)  # fmt: skip
    return told["bins"]


def study_at_work(path, strategy, *, restarts: bool) -> list[list[int]]:
    """Jobs in pairs, the two of a pair in turn; each decision's bins."""
    transport = EmbeddedTransport(str(path))
    wire = Wire(transport=transport)
    wire.study("s", TWO, strategy=strategy, seed=11)
    chance, told = random.Random(3), []
    for pair in range(JOBS // 2):
        roles = (("explore", "control"), ("auto", "explore"), ("auto", "exploit"))[min(pair, 2)]
        jobs = [wire.job("s", total=100 * PHASES, role=role) for role in roles]
        for number in range(PHASES):
            for job in jobs:
                told.append(phase(wire, job, number, chance))
                if restarts:
                    transport.close()
                    transport = EmbeddedTransport(str(path))
                    wire = Wire(transport=transport)
        for job in jobs:
            reason = "failed" if pair == 1 else "completed"
            wire.call("POST", f"/v1/jobs/{job['job_id']}/finish", {"reason": reason})
    transport.close()
    return told


@pytest.mark.slow
def test_the_same_decisions_follow_with_and_without_restarts(tmp_path, strategy):
    straight = study_at_work(tmp_path / "straight.db", strategy, restarts=False)
    assert study_at_work(tmp_path / "restarts.db", strategy, restarts=True) == straight
    if strategy["name"] != "fixed":
        assert len({tuple(bins) for bins in straight}) > 1, "else it shows nothing"


def test_a_restart_brings_back_the_notes_exactly(tmp_path, strategy):
    path = str(tmp_path / "oracle.db")
    study_at_work(path, strategy, restarts=False)

    def notes() -> dict[str, str | None]:
        transport = EmbeddedTransport(path)
        with oracle_of(transport).study("s") as study:
            found = {job.public_id: study.agent.notes(job.id) for job in study.jobs.values()}
        transport.close()
        return found

    with sqlite3.connect(path) as store:
        rows = dict(store.execute("SELECT public_id, hyper_agent_notes FROM jobs"))
    store.close()
    assert notes() == rows
    has_notes = strategy["name"] not in ("epgt", "dqn", "random", "fixed")
    assert any(rows.values()) == has_notes


def test_a_control_job_stays_on_the_defaults(tmp_path, strategy):
    transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
    wire = Wire(transport=transport)
    wire.study("s", TWO, strategy=strategy)
    job = wire.job("s", role="control")
    assert [phase(wire, job, n, random.Random(n)) for n in range(8)] == [[2, 1]] * 8
    transport.close()


def test_a_commit_that_fails_leaves_no_trace_in_the_notes(embedded, strategy, monkeypatch):
    embedded.study("s", TWO, strategy=strategy)
    job = embedded.job("s")
    for number in range(3):
        phase(embedded, job, number, random.Random(number))
    embedded.propose(job, 7)
    oracle = oracle_of(embedded)
    oracle.ledger.writer.flush()

    def notes() -> list[str | None]:
        with oracle.study("s") as study:
            return [study.agent.notes(j.id) for j in study.jobs.values()]

    def full(*_args, **_kwargs):
        raise sqlite3.OperationalError("database or disk is full")

    before = notes()
    with monkeypatch.context() as patch:
        patch.setattr("hyperoracle_server.ledger.writer.run_changes", full)
        assert embedded.report(job, 8, 7, [5.0]).status == 503
    assert notes() == before
    assert embedded.report(job, 8, 7, [5.0]).json["status"] == "applied"


def test_why_is_told_for_every_decision(embedded, strategy):
    embedded.study("s", TWO, strategy=strategy)
    for role in ("explore", "exploit", "control", "auto"):
        job = embedded.job("s", role=role)
        for number in range(4):
            phase(embedded, job, number, random.Random(number))
        for number in range(4):
            path = f"/v1/proposals/{job['job_id']}.{2 * number + 1}/explanation"
            answer = embedded.call("GET", path)
            assert answer.status == 200
            assert len(answer.json["why"]) > 10


def test_a_minimised_return_is_minimised(embedded):
    """`best_config` leaves the default for the hyper-action of the least return."""
    embedded.study("s", strategy=STRATEGIES["best_config"], returns={"direction": "minimise"})
    for _ in range(4):
        job = embedded.job("s", role="explore")
        told = embedded.propose(job, 1).json["bins"]
        embedded.report(job, 2, 1, [float(told[0])])
        embedded.call("POST", f"/v1/jobs/{job['job_id']}/finish", {})
    assert embedded.propose(embedded.job("s", role="exploit"), 1).json["bins"] == [0]


@pytest.mark.parametrize("name", ["anchored", "best_config", "cautious_config"])
def test_strategies_that_hold_their_decisions_take_no_hold_setting(embedded, name):
    body = {"space": TWO, "strategy": STRATEGIES[name], "hold": {"decisions_per_job": 4}}
    answer = embedded.call("PUT", "/v1/studies/s", body)
    assert answer.status == 422
    assert "leave it out" in str(answer.json)


def test_a_decision_for_the_whole_job_is_held_to_its_end(embedded):
    embedded.study("s", strategy=STRATEGIES["best_config"])
    job = embedded.job("s", total=100)
    answers = [embedded.propose(job, s + 1, env_step=20 * s).json for s in range(5)]
    assert [a["held"] for a in answers] == [False, True, True, True, True]
    assert len({a["bins"][0] for a in answers}) == 1
    assert answers[0]["valid_until_env_step"] > 100
    # The one that was not applied is asked for again, and is the same.
    again = embedded.propose(job, 6, env_step=90, not_applied=[1]).json
    assert (again["held"], again["bins"]) == (False, answers[0]["bins"])
