"""Gain over default, in the service: over the wire, after a restart, and in words."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
from support.handles import oracle_of
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.telemetry.metrics import Metrics
from hyperoracle_server.views.studies import totals_of

RANDOM = {"name": "random"}
CUSTOM = {"kind": "custom", "direction": "maximise"}
KNOWING = {"name": "epgt", "encoder": {"minimum_samples": 100_000}}


def run_job(
    wire: Wire, study: str, role: str, levels: list[float], *, reason: str | None = "completed"
) -> None:
    """A job of 100 env steps that reports these returns, evenly spread, and ends."""
    job = wire.job(study, role=role, total=100)
    for i, level in enumerate(levels):
        wire.propose(job, 2 * i + 1, env_step=100 * i // len(levels))
        env_step = 100 * (i + 1) // len(levels)
        report = wire.report(job, 2 * i + 2, 2 * i + 1, [], custom_return=level, env_step=env_step)
        assert report.status == 200, report
    if reason is not None:
        end = {"reason": reason, "env_step": 100}
        wire.call("POST", f"/v1/jobs/{job['job_id']}/finish", end)


def gain(wire: Wire, study: str):
    answer = wire.call("GET", f"/v1/studies/{study}/gain")
    assert answer.status == 200, answer
    return answer.json


def six_and_five(wire: Wire, study: str, **returns: str) -> None:
    wire.study(study, strategy=RANDOM, returns=CUSTOM | returns, seed=5)
    for i in range(6):
        run_job(wire, study, "exploit", [0.0, 20.0 + i])
    for i in range(5):
        run_job(wire, study, "control", [0.0, 10.0 + i])


def test_scores_are_compared_over_whole_jobs_of_both_roles(wire, name):
    six_and_five(wire, name)
    run_job(wire, name, "control", [1e6], reason=None)
    found = gain(wire, name)
    assert found["whole_jobs"] == {"auto": 0, "explore": 0, "exploit": 6, "control": 5}
    final = found["gain_over_default"]["final_return"]
    assert (final["jobs"], final["baseline_jobs"]) == (6, 5)
    # Means of 20 to 25 and of 10 to 14.
    assert (final["mean"], final["baseline_mean"]) == (22.5, 12.0)
    assert final["difference"]["value"] == 10.5
    assert final["difference"]["low"] is final["difference"]["high"] is None, "so few bound nothing"
    assert final["relative"]["value"] == pytest.approx(10.5 / 12)
    improvement = final["probability_of_improvement"]
    assert (improvement["value"], improvement["high"]) == (1.0, 1.0)
    assert 0.3 < improvement["low"] < 0.5, "it may be chance that all are better"
    assert final["verdict"] == "none"
    # Half of the env steps brought 0.
    over_the_job = found["gain_over_default"]["mean_return"]
    assert over_the_job["difference"]["value"] == 5.25
    assert final["in_words"] == (
        "no difference is shown: 6 exploiting against 5 control jobs, +10.5, +87.5% (its interval "
        "takes 20 of each), better with probability 1.00 "
        f"(95 % interval {improvement['low']:.2f} to 1.00)"
    )


def many(wire: Wire, study: str, jobs: dict[str, list[float]], **returns: str) -> None:
    """Jobs of one report each, by role."""
    wire.study(study, strategy=RANDOM, returns=CUSTOM | returns)
    for role, levels in jobs.items():
        for level in levels:
            run_job(wire, study, role, [level])


def test_what_is_shown_is_said_with_its_intervals(embedded, name):
    many(
        embedded,
        name,
        {
            "exploit": [20.0 + i / 10 for i in range(20)],
            "control": [10.0 + i / 10 for i in range(20)],
            "explore": [10.0 + i / 10 for i in range(10)],
        },
    )
    found = gain(embedded, name)
    final = found["gain_over_default"]["final_return"]
    assert final["verdict"] == "better"
    assert final["difference"]["value"] == pytest.approx(10.0)
    assert 0 < final["difference"]["low"] < 8 < 12 < final["difference"]["high"] < 20
    assert 0 < final["relative"]["low"] < final["relative"]["value"] < final["relative"]["high"]
    words = final["in_words"]
    assert words.startswith(
        "exploiting jobs do better: 20 exploiting against 20 control jobs, +10, +91.3% (95 % "
        "interval +"
    )
    assert "better with probability 1.00 (95 % interval 0." in words
    regret = found["regret_of_exploration"]["final_return"]
    assert regret["verdict"] == "none"
    assert "+0.5, +4.8% (its interval takes 20 of each), better with" in regret["in_words"]


def test_a_value_that_sometimes_kills_is_not_called_better(embedded, name):
    """The others are better, so most jobs are; on the mean it is worse."""
    many(embedded, name, {"exploit": [110.0] * 15 + [-500.0] * 3, "control": [100.0] * 15})
    final = gain(embedded, name)["gain_over_default"]["final_return"]
    assert final["verdict"] == "more_often_better"
    assert final["in_words"].startswith(
        "exploiting jobs do better more often, but worse on the mean: 18 exploiting"
    )


def test_where_less_is_better_a_lower_return_is_a_gain(wire, name):
    six_and_five(wire, name, direction="minimise")
    final = gain(wire, name)["gain_over_default"]["final_return"]
    assert (final["mean"], final["baseline_mean"]) == (22.5, 12.0), "as the jobs reported them"
    assert final["difference"]["value"] == -10.5
    assert final["probability_of_improvement"]["value"] == 0.0


def test_where_less_is_better_more_is_called_worse(embedded, name):
    jobs = {"exploit": [20.0 + i for i in range(10)], "control": [1.0 + i for i in range(10)]}
    many(embedded, name, jobs, direction="minimise")
    final = gain(embedded, name)["gain_over_default"]["final_return"]
    assert final["verdict"] == "worse"
    assert final["in_words"].startswith("exploiting jobs do worse: 10 exploiting against 10")


def test_without_enough_whole_jobs_it_says_so(wire, name):
    wire.study(name, strategy=RANDOM, returns=CUSTOM)
    run_job(wire, name, "control", [3.0])
    found = gain(wire, name)
    final = found["gain_over_default"]["final_return"]
    assert final["difference"] is final["probability_of_improvement"] is final["mean"] is None
    assert final["in_words"] == (
        "no evidence yet: 1 control and 0 exploiting jobs have ended; 2 of each are needed"
    )
    assert found["regret_of_exploration"]["mean_return"]["in_words"] == (
        "no evidence yet: 1 control and 0 exploring jobs have ended; 2 of each are needed"
    )
    assert wire.call("GET", f"/v1/studies/{name}-not/gain").json["code"] == "study_not_found"


def test_two_jobs_of_each_make_figures_but_no_verdict(wire, name):
    wire.study(name, strategy=RANDOM, returns=CUSTOM)
    for role, level in (("exploit", 2.0), ("control", 1.0)):
        for i in range(2):
            run_job(wire, name, role, [level + i / 4])
    final = gain(wire, name)["gain_over_default"]["final_return"]
    assert final["difference"] == {"value": 1.0, "low": None, "high": None}
    assert final["verdict"] == "too_few"
    assert final["in_words"] == (
        "too few jobs to tell; 5 of each are needed: 2 exploiting against 2 control jobs, +1 (its "
        "interval takes 20 of each), better with probability 1.00"
    )


def test_the_regret_of_exploration_is_what_exploring_jobs_lack(wire, name):
    wire.study(name, strategy=RANDOM, returns=CUSTOM)
    for i in range(2):
        run_job(wire, name, "control", [10.0 + i])
        run_job(wire, name, "explore", [4.0 + i])
    regret = gain(wire, name)["regret_of_exploration"]
    assert (regret["group"], regret["baseline"]) == ("control", "explore")
    assert regret["mean_return"]["difference"]["value"] == 6.0


def test_a_resumed_job_is_not_whole_until_it_ends_again(wire, name):
    wire.study(name, strategy=RANDOM, returns=CUSTOM)
    job = wire.job(name, role="control", total=100, job_key="a-key-of-a-job")
    wire.report(job, 1, 0, [], custom_return=1.0, env_step=100)
    finish = f"/v1/jobs/{job['job_id']}/finish"
    wire.call("POST", finish)
    assert gain(wire, name)["whole_jobs"]["control"] == 1
    wire.job(name, role="control", total=100, job_key="a-key-of-a-job")
    assert gain(wire, name)["whole_jobs"]["control"] == 0
    wire.report(job, 2, 0, [], custom_return=3.0, env_step=200)
    wire.call("POST", finish)
    assert gain(wire, name)["gain_over_default"]["mean_return"]["baseline_mean"] == 2.0


def test_jobs_of_which_no_return_is_known_are_counted_apart(wire, name):
    wire.study(name, strategy=RANDOM, returns=CUSTOM)
    run_job(wire, name, "control", [])
    found = gain(wire, name)
    assert (found["whole_jobs"]["control"], found["whole_jobs_without_scores"]) == (1, 1)


def test_returns_at_the_edge_of_the_numbers_break_nothing(wire, name):
    wire.study(name, strategy=RANDOM, returns=CUSTOM)
    for role in ("control", "control", "exploit", "exploit", "explore", "explore"):
        run_job(wire, name, role, [1e100, -1e100] if role == "control" else [9e99, -5e-324])
    found = gain(wire, name)
    assert found["gain_over_default"]["final_return"]["baseline_jobs"] == 2
    assert found["gain_over_default"]["final_return"]["jobs"] == 2


def test_the_memory_hit_rate_counts_decisions_for_which_anything_was_known(wire, name):
    wire.study(name, strategy=KNOWING)
    teacher, pupil = wire.job(name), wire.job(name)
    wire.propose(teacher, 1)
    wire.report(teacher, 2, 1, [5.0])
    wire.propose(pupil, 1, seed=1)
    wire.propose(pupil, 1, seed=1)  # the same call again is no second decision
    wire.propose(pupil, 2, seed=2)
    found = gain(wire, name)
    assert found["memory_reads"] == 3
    assert found["memory_hit_rate"] == pytest.approx(2 / 3), "the first read an empty memory"
    assert found["neighbours_from_other_jobs"] in (None, 1.0)
    wire.study(f"{name}-random", strategy=RANDOM)
    wire.propose(wire.job(f"{name}-random"), 1)
    found = gain(wire, f"{name}-random")
    assert (found["memory_reads"], found["memory_hit_rate"]) == (0, None)


def test_held_decisions_are_not_counted_as_reads(wire, name):
    wire.study(name, strategy=KNOWING, hold={"updates": 3})
    job = wire.job(name)
    for sequence in range(1, 7):
        wire.propose(job, sequence, seed=sequence)
    assert gain(wire, name)["memory_reads"] == 2


def test_a_restart_brings_back_exactly_the_same_numbers(tmp_path):
    path = str(tmp_path / "oracle.db")
    transport = EmbeddedTransport(path)
    wire = Wire(transport=transport)
    chance = np.random.default_rng(8)
    wire.study("s", strategy=KNOWING, returns=CUSTOM)
    for role in ("control", "exploit", "explore") * 3:
        run_job(wire, "s", role, (1e3 * chance.normal(size=7)).tolist())
    run_job(wire, "s", "control", [1.0, 2.0, 3.0], reason="interrupted")
    before, metrics = gain(wire, "s"), hyperoracle_lines(transport)
    assert before["memory_hit_rate"] > 0.0
    curves = curves_of(transport)
    transport.close()
    transport = EmbeddedTransport(path)
    wire = Wire(transport=transport)
    assert curves_of(transport) == curves
    assert gain(wire, "s") == before
    assert hyperoracle_lines(transport) == metrics
    transport.close()


def curves_of(transport: EmbeddedTransport):
    with oracle_of(transport).study("s") as study:
        return {job.public_id: job.curve for job in study.jobs.values()}


def hyperoracle_lines(transport: EmbeddedTransport) -> list[str]:
    rendered = Metrics().render(*totals_of(oracle_of(transport))).decode()
    wanted = ("hyperoracle_whole_jobs", "hyperoracle_memory_", "hyperoracle_neighbours_")
    return [line for line in rendered.splitlines() if line.startswith(wanted)]


def test_the_metrics_are_sums_over_studies_without_their_names(tmp_path):
    transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
    wire = Wire(transport=transport)
    for study in ("one", "two"):
        wire.study(study, strategy=KNOWING, returns=CUSTOM)
        run_job(wire, study, "control", [1.0, 2.0])
    lines = hyperoracle_lines(transport)
    assert 'hyperoracle_whole_jobs{role="control"} 2.0' in lines
    assert "hyperoracle_memory_reads 4.0" in lines
    assert "hyperoracle_memory_hits 2.0" in lines
    assert "hyperoracle_neighbours_from_other_jobs 0.0" in lines
    transport.close()


def test_a_store_of_the_second_schema_is_brought_up_to_date_and_its_jobs_have_no_scores(tmp_path):
    path = tmp_path / "oracle.db"
    transport = EmbeddedTransport(str(path))
    wire = Wire(transport=transport)
    wire.study("s", strategy=KNOWING, returns=CUSTOM)
    run_job(wire, "s", "control", [1.0, 2.0])
    running = wire.job("s", role="control", total=100)
    wire.propose(running, 1)
    wire.report(running, 2, 1, [], custom_return=7.0, env_step=50)
    transport.close()
    store = sqlite3.connect(path)
    store.execute("DROP TABLE tokens")
    store.execute("DROP TABLE hyper_agent_states")
    store.execute("ALTER TABLE memory_entries DROP COLUMN hyper_reward")
    store.execute("ALTER TABLE memory_entries DROP COLUMN ends_episode")
    store.execute("ALTER TABLE jobs DROP COLUMN learning_curve")
    store.execute("ALTER TABLE studies DROP COLUMN token_id")
    for column in ("chance_number", "counts", "counted_through", "token_id"):
        store.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
    store.execute("ALTER TABLE proposals DROP COLUMN memory_hit")
    store.execute("UPDATE alembic_version SET version_num = '0002'")
    store.commit()
    store.close()

    transport = EmbeddedTransport(str(path))
    wire = Wire(transport=transport)
    # Half a curve is none: the old job's first half is not known.
    wire.propose(running, 3)
    wire.report(running, 4, 3, [], custom_return=7.0, env_step=100)
    wire.call("POST", f"/v1/jobs/{running['job_id']}/finish")
    run_job(wire, "s", "control", [4.0])
    found = gain(wire, "s")
    assert (found["whole_jobs"]["control"], found["whole_jobs_without_scores"]) == (3, 2)
    assert found["gain_over_default"]["final_return"]["baseline_mean"] == 4.0
    assert (found["memory_reads"], found["memory_hit_rate"]) == (2, 1.0)
    transport.close()
