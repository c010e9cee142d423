"""Real training against a real server process that is killed, and jobs that are killed."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from support.oracle_process import OracleProcess
from support.waiting import wait_until
from support.wire_client import Wire

from hyperoracle_client import Oracle, Scale
from hyperoracle_trainers.algorithms.actor_critic import A2C
from hyperoracle_trainers.algorithms.oracle_source import OracleSource
from hyperoracle_trainers.hyperparameters.presets import default_settings

SPACE = {"learning_rate": Scale([0.5, 1, 2])}
PHASES = 240


def trainer() -> A2C:
    settings = default_settings("a2c", "CartPole-v1", number_of_envs=4, rollout_length=8,
                                total_env_steps=PHASES * 32, seed=3)  # fmt: skip
    return A2C(settings)


def test_training_survives_the_servers_death_and_uses_it_again_after_its_return(
    oracle_process, tmp_path
):
    agent = trainer()
    oracle = Oracle(oracle_process.url, spool_directory=str(tmp_path / "spool"))
    source = OracleSource.start(oracle, agent, study="survival", space=SPACE,
                                strategy="epgt")  # fmt: skip
    job = source.job
    assert job.wait_until_joined(30)
    answered: list[int] = []
    for phase in agent.train(source):
        answered.append(job.stats.proposals)
        if phase.index == PHASES // 3:
            wait_until("reports are delivered", lambda: job.stats.reports_pending == 0)
            oracle_process.kill()
        if phase.index == 2 * PHASES // 3:
            assert answered[-1] == answered[PHASES // 3], "nobody was there to answer"
            oracle_process.start()
            wait_until("the circuit closes", lambda: job.stats.circuit == "closed")
    oracle.close()
    stats = job.stats

    assert phase.index == PHASES - 1, "every update was made"
    assert answered[-1] > answered[2 * PHASES // 3], "the oracle was used again"
    assert stats.fallbacks > 0
    assert stats.reports_dropped == stats.reports_pending == 0
    wire = Wire(url=oracle_process.url)
    (seen,) = wire.call("GET", "/v1/studies/survival/jobs").json["jobs"]
    # Every report arrived exactly once, those of the time without a server too.
    assert seen["reports"] == PHASES
    assert seen["status"] == "finished"
    schedule = wire.call("GET", "/v1/studies/survival/schedule").json["rows"]
    assert len({row["sequence"] for row in schedule}) == len(schedule)
    wire.close()


def test_training_without_any_server_is_training_on_the_defaults(tmp_path):
    agent, alone = trainer(), trainer()
    oracle = Oracle("http://127.0.0.1:9", spool_directory=str(tmp_path))
    source = OracleSource.start(oracle, agent, study="absent", space=SPACE)
    returns = [phase.episode_returns for phase in agent.train(source)]
    oracle.close()
    assert returns == [phase.episode_returns for phase in alone.train()]
    assert source.job.stats.fallbacks == PHASES


JOB = """
    import sys
    from hyperoracle_client import Oracle, Scale
    from hyperoracle_trainers.algorithms.actor_critic import A2C
    from hyperoracle_trainers.algorithms.oracle_source import OracleSource
    from hyperoracle_trainers.hyperparameters.presets import default_settings

    url, spool, seed, steps = sys.argv[1:]
    agent = A2C(default_settings("a2c", "CartPole-v1", total_env_steps=int(steps), seed=int(seed)))
    with Oracle(url, spool_directory=spool) as oracle:
        source = OracleSource.start(oracle, agent, study="shared", strategy="epgt",
                                    space={"learning_rate": Scale([0.5, 1, 2])})
        for phase in agent.train(source):
            if phase.index == 20:
                print("under way", flush=True)
    print("done", flush=True)
"""


def start_job(url: str, spool: str, seed: int, steps: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(JOB), url, spool, str(seed), str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_job_harms_neither_its_study_nor_the_other_job(tmp_path):
    with OracleProcess(tmp_path, lease_seconds=0.5) as oracle:
        doomed = start_job(oracle.url, str(tmp_path / "a"), 1, 10_000_000)
        other = start_job(oracle.url, str(tmp_path / "b"), 2, 6_000)
        assert doomed.stdout.readline() == "under way\n"
        doomed.kill()
        doomed.wait()
        output, _ = other.communicate(timeout=120)
        assert other.returncode == 0
        assert output.endswith("done\n")
        wire = Wire(url=oracle.url)

        def statuses() -> dict[str, str]:
            jobs = wire.call("GET", "/v1/studies/shared/jobs").json["jobs"]
            return {job["metadata"]["seed"]: job["status"] for job in jobs}

        wait_until("the killed job's lease runs out",
                   lambda: statuses() == {"1": "stale", "2": "finished"})  # fmt: skip
        study = wire.call("GET", "/v1/studies/shared").json
        assert study["memory_size"] == study["credited_proposals"] > 0
        doomed.stdout.close()
        wire.close()


@pytest.mark.parametrize("stop", ["kill", "terminate"])
def test_what_was_acknowledged_is_there_after_the_servers_end(oracle_process, stop):
    wire = Wire(url=oracle_process.url)
    wire.study("kept")
    job = wire.job("kept")
    for i in range(30):
        wire.propose(job, 2 * i + 1, seed=i)
        assert wire.report(job, 2 * i + 2, 2 * i + 1, [float(i)]).json["credited"] == 1
    before = wire.call("GET", "/v1/studies/kept/memory").json
    wire.close()
    if stop == "terminate":
        assert oracle_process.terminate() in (0, -15), "uvicorn ends with the signal it was sent"
    else:
        oracle_process.kill()
    oracle_process.start()
    wire = Wire(url=oracle_process.url)
    assert wire.call("GET", "/v1/studies/kept/memory").json == before
    assert wire.report(job, 60, 59, [29.0]).json["credited"] == 1, "the stored answer"
    assert wire.call("GET", "/v1/studies/kept").json["credited_proposals"] == 30
    wire.close()
