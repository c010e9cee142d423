"""What every strategy must keep to: each row of the registry, in this process and over HTTP.

A new row is tested by being one. `test_strategies.py` looks deeper, at settings chosen for each
strategy.
"""

from __future__ import annotations

import json
import math
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from support.handles import oracle_of
from support.oracle_process import OracleProcess
from support.wire_client import Wire

from hyperoracle_protocol.strategies import STRATEGIES
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.strategies.base import HyperAgent
from hyperoracle_server.strategies.cost import CostLimits, check_cost
from hyperoracle_server.strategies.notes import NoNote
from hyperoracle_server.strategies.registry import REGISTRY, make_hyper_agent

TWO = {
    "learning_rate": {"type": "relative", "values": [0.25, 0.5, 1, 2, 4]},
    "clip_range": {"type": "values", "values": [0.1, 0.2, 0.3], "default": 0.2},
}
DEFAULTS = [2, 1]
PHASES = 4
ROOT = Path(__file__).parents[3]
SNAPSHOT = "application/vnd.hyperoracle.snapshot"


@pytest.fixture(params=sorted(REGISTRY))
def row(request):
    return request.param


def strategy_of(row: str, **more: Any) -> dict[str, Any]:
    # No training beside: when a round ends is not the test's to say.
    quiet = {"encoder": {"minimum_samples": 100_000}} if REGISTRY[row].by_keys else {}
    return {"name": row, **quiet, **more}


def defined(row: str) -> StudyDefinition:
    return StudyDefinition.model_validate({"space": TWO, "strategy": strategy_of(row)})


@pytest.fixture
def agent(row) -> HyperAgent[Any]:
    return make_hyper_agent(defined(row), seed=3)


class Life:
    """Jobs of a study, one after the other; each decision's bins."""

    def __init__(self, wire: Wire, study: str) -> None:
        self.wire = wire
        self.study = study
        self.chance = random.Random(3)
        self.told: list[list[int]] = []
        self.job: Any = None
        self.number = 0

    def phase(self) -> None:
        """A decision and a report; its return depends on what was told."""
        if self.number % PHASES == 0:
            role = ("explore", "control", "auto", "exploit", "auto")[self.number // PHASES % 5]
            self.job = self.wire.job(self.study, total=100 * PHASES, role=role)
        n = self.number % PHASES
        signals = {"approx_kl": self.chance.choice([0.001, 0.012, 0.05])}
        answer = self.wire.propose(self.job, 2 * n + 1, seed=self.number, env_step=100 * n,
                                   signals=signals)  # fmt: skip
        assert answer.status == 200, answer
        bins = answer.json["bins"]
        self.told.append(bins)
        value = bins[0] - 3 * (bins[1] == 0) + self.chance.random()
        skipped = [2 * n + 1] if n == 1 else []
        report = self.wire.report(self.job, 2 * n + 2, 2 * n + 1, [value], env_step=100 * n + 100,
                                  not_applied=skipped)  # fmt: skip
        assert report.status == 200, report
        self.number += 1
        if self.number % PHASES == 0:
            path = f"/v1/jobs/{self.job['job_id']}/finish"
            assert self.wire.call("POST", path, {"env_step": 100 * PHASES}).status == 200


def lived(wire: Wire, study: str, row: str, jobs: int = 5, seed: int = 11) -> Life:
    assert wire.study(study, TWO, strategy=strategy_of(row), seed=seed).status == 201
    life = Life(wire, study)
    for _ in range(jobs * PHASES):
        life.phase()
    return life


# -- what a row says ---------------------------------------------------------------------------


def test_the_registry_is_the_protocols_union():
    assert set(REGISTRY) == set(STRATEGIES)


def test_documents_say_when_to_use_each():
    table = [f"| `{name}` | {row.when} |" for name, row in REGISTRY.items()]
    assert "\n".join(table) in (ROOT / "docs" / "protocol.md").read_text()


def test_what_a_row_says_is_so(row, agent):
    said = REGISTRY[row]
    assert agent.needs_hyper_states == said.by_keys
    assert said.when.endswith(".")
    assert 30 < len(said.when) < 100


def test_its_defaults_are_within_the_limits(row):
    check_cost(defined(row), [], CostLimits())


def test_an_empty_note_is_one_of_its_own(agent):
    assert agent.notes(1) is None
    if agent.kind_of_note is not NoNote:
        agent.check_note(agent.kind_of_note())
        agent.restore(1, "{}")
        text = agent.notes(1)
        agent.restore(2, text)
        assert agent.notes(2) == text


# -- deciding ----------------------------------------------------------------------------------


def test_it_decides_and_learns(wire, name, row):
    life = lived(wire, name, row)
    assert all(0 <= a < 5 and 0 <= b < 3 for a, b in life.told)
    study = wire.call("GET", f"/v1/studies/{name}").json
    assert (study["jobs"], study["reports"]) == (5, 5 * PHASES)
    for page in ("gain", "diagnosis", "schedule", "memory", "memory/map"):
        assert wire.call("GET", f"/v1/studies/{name}/{page}").status == 200, page


def test_it_says_why(wire, name, row):
    life = lived(wire, name, row)
    asked = wire.call("GET", f"/v1/proposals/{life.job['job_id']}.1/explanation").json
    assert asked["strategy"] == row
    assert len(asked["why"]) > 10


def test_a_control_job_gets_the_defaults_whatever_was_learned(wire, name, row):
    lived(wire, name, row)
    job = wire.job(name, role="control")
    told = [wire.propose(job, n, seed=n, signals={"approx_kl": 1.0}).json["bins"]
            for n in (1, 2, 3)]  # fmt: skip
    assert told == [DEFAULTS] * 3


def test_two_studies_of_one_seed_decide_alike(wire, name, row):
    assert lived(wire, name, row).told == lived(wire, f"{name}-b", row).told


def test_settings_that_are_none_are_refused_by_name(wire, name, row):
    fields = [field for field in STRATEGIES[row].model_fields if field != "name"]
    for field in (*fields, "no_such_setting"):
        body = {"space": TWO, "strategy": {"name": row, field: {"no_such": "thing"}}}
        answer = wire.call("PUT", f"/v1/studies/{name}", body)
        assert (answer.status, answer.json["code"]) == (422, "invalid_request")
        assert field in answer.json["detail"]
    assert wire.call("GET", f"/v1/studies/{name}").status == 404


# -- harm --------------------------------------------------------------------------------------


def test_poisoned_reports_do_no_harm(wire, name, row):
    lived(wire, name, row)
    bad = wire.job(name, total=100, role="explore")
    path = f"/v1/jobs/{bad['job_id']}/report"
    for sequence in (1, 3, 5, 7, 9):
        assert wire.propose(bad, sequence, seed=sequence, env_step=10 * sequence).status == 200
    # Not a number; one that JSON has but no return may be; the greatest that there are.
    nan = b'{"sequence": 2, "credits_through": 1, "env_step": 20, "episode_returns": [NaN]}'
    assert wire.raw("POST", path, nan).status in (400, 422)
    assert wire.report(bad, 2, 1, [1e308], env_step=20).status == 422
    dropped = wire.report(bad, 2, 1, [], env_step=20, dropped_returns={"episode_returns": 1})
    assert dropped.status == 200
    assert wire.report(bad, 4, 3, [1e100, -1e100], env_step=40).status == 200
    assert wire.report(bad, 6, 5, [-1e100], env_step=60).status == 200
    # Contradictions: other words under a number that was taken, and of one decision two things.
    assert wire.report(bad, 6, 5, [1.0], env_step=60).json["code"] == "sequence_conflict"
    assert wire.report(bad, 8, 99, [1.0], env_step=80).status == 422
    used = [{"sequence": 7, "hyperparameters": {"learning_rate": 0.75}}]
    assert wire.report(bad, 8, 7, [1e100], env_step=5, applied=used, not_applied=[7]).status in (
        200,
        422,
    )
    assert wire.report(bad, 10, 9, [1e100], env_step=10**9).status in (200, 422)
    wire.call("POST", f"/v1/jobs/{bad['job_id']}/finish", {"reason": "failed"})

    life = Life(wire, name)
    for _ in range(5 * PHASES):
        life.phase()
    control = wire.job(name, role="control")
    assert wire.propose(control, 1).json["bins"] == DEFAULTS
    why = wire.call("GET", f"/v1/proposals/{life.job['job_id']}.1/explanation").json
    shown = [each["q"] for each in why["values"] if each["q"] is not None]
    assert all(map(math.isfinite, shown))
    for page in ("gain", "diagnosis", "schedule", "memory", "memory/map"):
        assert wire.call("GET", f"/v1/studies/{name}/{page}").status == 200, page


# -- restarts ----------------------------------------------------------------------------------


class Restartable:
    """An oracle that this test can stop and start again, in-process or in a process of its own."""

    def __init__(self, kind: str, folder) -> None:
        self._process = OracleProcess(folder) if kind == "http" else None
        self.store = folder / "oracle.db"
        self.start()

    def start(self) -> None:
        if self._process is not None:
            self.wire = Wire(url=self._process.start().url)
        else:
            self._transport = EmbeddedTransport(str(self.store))
            self.wire = Wire(transport=self._transport)

    def stop(self) -> None:
        self.wire.close()
        if self._process is not None:
            self._process.terminate()
        else:
            self._transport.close()


@pytest.fixture(params=["embedded", "http"])
def restartable(request, tmp_path):
    oracle = Restartable(request.param, tmp_path)
    yield oracle
    oracle.stop()


def test_after_a_restart_it_answers_as_before(restartable, row):
    straight = lived(restartable.wire, "straight", row).told
    restartable.wire.study("s", TWO, strategy=strategy_of(row), seed=11)
    life = Life(restartable.wire, "s")
    for phase in range(5 * PHASES):
        if phase in (2 * PHASES, 4 * PHASES + 2):  # between jobs, and within one
            restartable.stop()
            restartable.start()
            life.wire = restartable.wire
        life.phase()
    assert life.told == straight


def test_notes_survive(restartable, row):
    lived(restartable.wire, "s", row)
    restartable.stop()
    with sqlite3.connect(restartable.store) as store:
        rows = dict(store.execute("SELECT public_id, hyper_agent_notes FROM jobs"))
    store.close()
    transport = EmbeddedTransport(str(restartable.store))
    with oracle_of(transport).study("s") as study:
        noted = {job.public_id: study.agent.notes(job.id) for job in study.jobs.values()}
        assert any(noted.values()) == (study.agent.kind_of_note is not NoNote)
    transport.close()
    restartable.start()
    assert noted == rows


def test_a_study_taken_elsewhere_goes_on_as_at_home(wire, name, row):
    """What it noted passes what is looked at of a file from elsewhere, a stray job's as well."""
    life = lived(wire, name, row)
    stray = wire.job(name, role="explore")
    wire.propose(stray, 1)
    used = [{"sequence": 1, "hyperparameters": {"learning_rate": 0.75}}]
    assert wire.report(stray, 2, 1, [1.0], applied=used).status == 200
    snapshot = wire.call("POST", f"/v1/studies/{name}/snapshots").json
    restored = wire.raw("POST", f"/v1/studies/{name}-b/restore", snapshot, SNAPSHOT)
    assert restored.status in (200, 201), json.dumps(restored.json)
    there = Life(wire, f"{name}-b")
    there.chance.setstate(life.chance.getstate())
    for each in (life, there):
        each.told.clear()
        each.number = 0
        for _ in range(3 * PHASES):
            each.phase()
    assert there.told == life.told
