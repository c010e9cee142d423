"""A run that was killed goes on from its checkpoint, and its oracle's job with it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.oracle_process import OracleProcess
from support.wire_client import Wire

# Checkpoints at every 256 env steps; it kills itself in the phase after the one with this index,
# before any of that phase is reported.
KILLED = """
import os, signal, sys
from hyperoracle_trainers.runs import planned_run
from hyperoracle_client.cli import main

kill_after = int(sys.argv[1])
original = planned_run.RunLog.record

def record(self, phase):
    original(self, phase)
    if phase.index == kill_after:
        os.kill(os.getpid(), signal.SIGKILL)

planned_run.RunLog.record = record
sys.exit(main(sys.argv[2:]))
"""


def hyperoracle(folder: Path, *arguments: str, kill_after: int = -1) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", KILLED, str(kill_after), *arguments]
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HYPERORACLE_SPOOL_DIRECTORY": str(folder / "spool"),
        "HYPERORACLE_PROPOSE_DEADLINE_SECONDS": "10",
    }
    return subprocess.run(
        command, cwd=folder, env=env, check=False, capture_output=True, text=True, timeout=120
    )


def train_arguments(url: str, study: str, *more: str) -> list[str]:
    return ["train", "ppo", "CartPole-v1", "--oracle", url, "--study", study, "--json", "--out",
            study, "--total-env-steps", "1024", "--set", "rollout_length=64", "--set",
            "number_of_envs=1", "--set", "number_of_minibatches=2", "--set", "epochs=2", "--seed",
            "3", "--checkpoint-every", "256", "--evaluate", "0", "--strategy", "epgt",
            *more]  # fmt: skip


def schedule(folder: Path) -> list[dict[str, str]]:
    with (folder / "schedule.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("options", [(), ("--decisions", "minibatch", "--hold", "3")])
def test_a_killed_run_goes_on_with_its_job_and_nothing_is_counted_twice(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    with OracleProcess(tmp_path, lease_seconds=600) as oracle:
        wire = Wire(url=oracle.url)

        def read(what: str) -> Any:
            return wire.call("GET", f"/v1/studies/{what}").json

        killed = hyperoracle(tmp_path, *train_arguments(oracle.url, "s", *options), kill_after=10)
        assert killed.returncode == -9, killed.stderr
        (job,) = read("s/jobs")["jobs"]
        assert job["status"] == "running"
        before = schedule(tmp_path / "s")

        resumed = hyperoracle(tmp_path, "train", "--resume", "s", "--json")
        assert resumed.returncode == 0, resumed.stderr
        figures = json.loads(resumed.stdout)
        assert figures["oracle"]["stats"]["fallbacks"] == 0
        assert figures["oracle"]["stats"]["reports_dropped"] == 0
        assert figures["env_steps"] == 1024
        (job_after,) = read("s/jobs")["jobs"]
        assert job_after["job_id"] == job["job_id"] == figures["oracle"]["job_id"]
        assert job_after["status"] == "finished"
        assert job_after["reports"] == 16, "one for each phase"

        after = schedule(tmp_path / "s")
        assert after[: len(before)] == before, "what was asked again was answered alike"
        used = {int(row["update_step"]): float(row["clip_range"]) for row in after}
        told = [
            (row["update_step"], row["hyperparameters"]["clip_range"])
            for row in read("s/schedule")["rows"]
        ]
        assert len(told) == len(dict(told)) >= 16, "each update was decided once"
        assert told == [(update_step, used[update_step]) for update_step, _ in told]
        wire.close()
