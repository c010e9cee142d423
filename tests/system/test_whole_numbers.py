"""A hyperparameter whose values are whole numbers is an `int` wherever it arrives."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from hyperoracle_client import Choice, Job, Oracle, Scale
from hyperoracle_client.api import OracleApi
from hyperoracle_protocol.space import search_space_adapter
from hyperoracle_protocol.studies import StudyDefinition

SPACE = {
    "batch_size": Choice([32, 64, 128], default=64),
    "gamma": Choice([0.5, 1], default=1),
    "learning_rate": Scale([1, 2]),
}
KINDS = {"batch_size": int, "gamma": float, "learning_rate": float}
JOB: dict[str, Any] = {"study": "s", "total_env_steps": 1000, "strategy": "random", "seed": 1}


@pytest.fixture(params=["embedded", "http"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "embedded":
        return f"embedded:{tmp_path / 'oracle.db'}"
    return str(request.getfixturevalue("oracle_process").url)


def kinds(values: dict[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in values.items()}


def patient(url: str, tmp_path: Path) -> Oracle:
    return Oracle(url, spool_directory=tmp_path / "spool", propose_deadline_seconds=5.0,
                  on_error="raise")  # fmt: skip


def run(job: Job, steps: range) -> None:
    for env_step in steps:
        assert kinds(job.propose(env_step=env_step)) == KINDS
        job.report([1.0], env_step=env_step + 1)


def test_asked_for_held_resumed_explained_and_exported(url: str, tmp_path: Path) -> None:
    with patient(url, tmp_path) as oracle:
        job = oracle.start_job(space=SPACE, hold=2, **JOB)
        run(job, range(3))
        state = job.state()
        assert job.stats.held == 1
        again = oracle.start_job(space=SPACE, hold=2, **JOB, resume_from=state)
        held = again.propose(env_step=3)
        assert held.source == "held"
        assert kinds(held) == KINDS
        run(again, range(3, 6))
        proposal = again.propose(env_step=6).proposal_id
        again.finish()
        with OracleApi.at(oracle._endpoint) as api:
            assert kinds(api.explanation(proposal).chosen.hyperparameters) == KINDS
            rows = api.schedule("s").rows
            table = list(csv.DictReader(io.StringIO(api.schedule_csv("s"))))
    assert [kinds(row.hyperparameters) for row in rows] == [KINDS] * len(rows)
    assert {row["batch_size"] for row in table} <= {"32", "64", "128"}
    assert {row["gamma"] for row in table} <= {"0.5", "1.0"}


def test_the_defaults_without_an_oracle(tmp_path: Path) -> None:
    oracle = Oracle("http://127.0.0.1:9", spool_directory=tmp_path, start_deadline_seconds=0.0,
                    finish_deadline_seconds=0.0)  # fmt: skip
    with oracle:
        values = oracle.start_job(space=SPACE, **JOB).propose(env_step=0)
    assert values.source == "default"
    assert kinds(values) == KINDS


def test_a_study_whose_definition_has_floats_for_them(url: str, tmp_path: Path) -> None:
    # As an earlier release stored them, and as some other languages write them.
    floats = search_space_adapter.validate_python(
        {
            "batch_size": {"type": "values", "values": [32.0, 64.0, 128.0], "default": 64.0},
            "gamma": SPACE["gamma"],
            "learning_rate": SPACE["learning_rate"],
        }
    )
    definition = StudyDefinition.model_validate(
        {"space": floats, "strategy": {"name": "random"}, "seed": 1}
    )
    with patient(url, tmp_path) as oracle:
        with OracleApi.at(oracle._endpoint) as api:
            api.put_study("s", definition)
        run(oracle.start_job(space=SPACE, **JOB), range(2))
