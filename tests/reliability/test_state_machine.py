"""R9: studies, jobs, proposals, reports, evictions, crashes and restarts against a plain model.

Seen to fail with each of these taken out, one at a time: a report's future that waits for the
commit; `stored_answer`, which finds repetitions in the ledger; evictions, or changed values, among
a memory write's changes (`records.memory_changes`); the kernel's offset of 1e-3 as in Eq. 4;
waiting reports, or open proposals, among what a restart loads (`recovery._load_job`); what the
thinning of hyper-states leaves alone, those of open proposals (`StudyRuntime._keep_sample`) and
those that are remembered (`thin_hyper_states`). The rule `end_amid_a_phase` is there for
some of these.
"""

from __future__ import annotations

import atexit
import copy
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.crashes import MortalOracle
from support.plain_model import Asked, PlainJob, PlainStudy
from support.wire_client import LEARNING_RATE, hyper_state

from hyperoracle_protocol.hyper_state import HyperStateLayout
from hyperoracle_protocol.strategies import EncoderSetting
from hyperoracle_server.keyed.agent import architecture_of
from hyperoracle_server.keyed.encoder.serving import ServedEncoder
from hyperoracle_server.keyed.encoder.state import initial_state

SEED = 7
IN_MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
"""No disk is waited for where that can be had: losing power is not what is played here."""
TOTAL = 100
TWO = {
    "learning_rate": LEARNING_RATE["learning_rate"],
    "clip": {"type": "values", "values": [0.1, 0.2], "default": 0.2},
}
TENSORS = [
    [{"name": "w", "shape": [2, 3]}],
    [{"name": "w", "shape": [3, 3]}, {"name": "b", "shape": [3]}],
]
ENCODER = {"kind": "random", "key_size": 3, "hidden_size": 4, "minimum_samples": 100_000,
           "replay": 1}  # fmt: skip
MEMORY = {"capacity": 5, "neighbours_write": 2, "write_rate": 0.5, "write_rule": "average",
          "index": "exact"}  # fmt: skip
LAST_THREE = {"kind": "last_episodes", "count": 3}


def epgt(phases: int = 1, **memory: Any) -> dict[str, Any]:
    return {
        "name": "epgt",
        "hyper_state": {"width": 2, "orders": 0},
        "encoder": ENCODER,
        "learning_episode": {"phases": phases},
        "memory": MEMORY | memory,
    }


DEFINITIONS: list[dict[str, Any]] = [
    {"space": space, "strategy": strategy, "returns": returns, "seed": SEED, **more}
    for space, strategy, returns, more in [
        (LEARNING_RATE, epgt(), LAST_THREE, {}),
        (LEARNING_RATE, epgt(2, write_rule="max"), {"kind": "phase_episodes"}, {}),
        (TWO, epgt(reading="shared", capacity=2),
         {"kind": "phase_return", "direction": "minimise"}, {}),
        (LEARNING_RATE, epgt(), {"kind": "phase_return"}, {"hold": {"updates": 3}}),
        (TWO, {"name": "best_config"}, LAST_THREE, {}),
        (TWO, {"name": "anchored"}, LAST_THREE, {}),
        (LEARNING_RATE, {"name": "bandit"}, {"kind": "phase_episodes"}, {}),
        (TWO, {"name": "random"}, LAST_THREE, {"hold": {"decisions_per_job": 3}}),
        (TWO, {"name": "fixed"}, LAST_THREE, {}),
    ]
]  # fmt: skip

names = st.sampled_from(["a", "b"])
whichever = st.integers(0, 7)
seldom = st.sampled_from([False, False, False, True])
seeds = st.lists(st.integers(0, 4), min_size=1, max_size=4)
returns = st.lists(st.integers(-9, 9).map(float), max_size=3)


@cache
def encoder_of(layout: str) -> ServedEncoder:
    """Keys are the server's own; what is remembered under them is for the model to say."""
    architecture = architecture_of(HyperStateLayout.model_validate_json(layout),
                                   EncoderSetting(**ENCODER))  # fmt: skip
    return ServedEncoder(initial_state(architecture, SEED))


@cache
def empty_store() -> Path:
    """A new store, made once."""
    folder = Path(tempfile.mkdtemp(prefix="state-machine-"))
    atexit.register(shutil.rmtree, folder)
    MortalOracle(folder).close()
    return folder / "0.db"


class OracleAgainstPlainModel(RuleBasedStateMachine):
    """Random lives of a small server; after each step it must know what the model knows.

    `studies` is what must be known now, `durable` what a crash must leave.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=IN_MEMORY, prefix="state-machine-"))
        shutil.copy(empty_store(), self.folder / "0.db")
        self.oracle = MortalOracle(self.folder)
        self.studies: dict[str, PlainStudy] = {}
        self.started: dict[str, Any] = {}  # answers to the starts of jobs, by id
        self.owed: dict[str, list[Any]] = {}  # reports that others overtook
        self.durable = self._now()
        self.calls = 0

    @initialize(which=whichever, role=st.sampled_from(["auto", "explore"]))
    def begin(self, which: int, role: str) -> None:
        """There is something to look at from the first step on."""
        self.create_study("a", which)
        for key in (None, "the-first-run"):
            self.start_job("a", key, TENSORS[0], role)

    def _now(self) -> Any:
        return copy.deepcopy((self.studies, self.owed))

    def _is_durable(self) -> None:
        self.durable = self._now()

    def teardown(self) -> None:
        try:
            self.everything_is_there()
        finally:
            self.oracle.close()
            shutil.rmtree(self.folder)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        self.calls += method != "GET"
        return self.oracle.wire.call(method, path, body)

    def _job(self, which: int) -> tuple[PlainStudy, PlainJob, str]:
        jobs = [(study, job, job_id) for study in self.studies.values()
                for job_id, job in study.jobs.items()]  # fmt: skip
        return jobs[which % len(jobs)]

    def _last_sequence(self, job_id: str, job: PlainJob) -> int:
        """What the job counted to, reports under way included."""
        return max([0, *job.asked, *(body["sequence"] for body in self.owed[job_id])])

    def has_lived(self) -> bool:
        """Whether enough has happened since the last look at everything."""
        return self.calls >= 10

    def has_jobs(self) -> bool:
        return any(study.jobs for study in self.studies.values())

    # -- studies and jobs ----------------------------------------------------------------------

    @rule(name=names, which=st.integers(0, len(DEFINITIONS) - 1))
    def create_study(self, name: str, which: int) -> None:
        definition = DEFINITIONS[which]
        there = self.studies.get(name)
        answer = self._call("PUT", f"/v1/studies/{name}", definition)
        if there is None:
            assert answer.status == 201, answer
            self.studies[name] = PlainStudy(definition)
            self._is_durable()
        else:
            assert answer.status == (200 if there.definition == definition else 409)

    @rule(name=names, really=seldom)
    def delete_study(self, name: str, really: bool) -> None:
        if not really:
            return
        there = self.studies.pop(name, None)
        status = self._call("DELETE", f"/v1/studies/{name}").status
        assert status == (404 if there is None else 204)
        if there is not None:
            for job_id in there.jobs:
                assert self._call("GET", f"/v1/jobs/{job_id}").status == 404
            self._is_durable()

    @rule(
        name=names,
        key=st.sampled_from([None, "the-first-run", "the-second-run"]),
        tensors=st.sampled_from(TENSORS),
        role=st.sampled_from(["auto", "auto", "explore", "exploit", "control"]),
    )
    def start_job(self, name: str, key: str | None, tensors: Any, role: str) -> None:
        body = {"job_key": key, "tensors": tensors, "total_env_steps": TOTAL, "role": role}
        answer = self._call("POST", f"/v1/studies/{name}/jobs", body)
        if name not in self.studies:
            assert answer.status == 404
            return
        assert answer.status == 201, answer
        study = self.studies[name]
        again = {j: job for j, job in study.jobs.items() if key is not None and job.key == key}
        job_id = answer.json["job_id"]
        if again:
            assert [job_id] == list(again)
            assert answer.json["last_sequence"] == max(again[job_id].asked, default=0)
            if again[job_id].is_running:
                return  # nothing was written
            again[job_id].is_running = True
        else:
            assert job_id not in self.started, "an id was used twice"
            assert answer.json["last_sequence"] == 0
            assert role in ("auto", answer.json["role"])
            layout = HyperStateLayout.model_validate(answer.json["layout"]).model_dump_json()
            study.jobs[job_id] = PlainJob(key, answer.json["role"], layout, TOTAL)
            self.owed[job_id] = []
        self.started[job_id] = answer.json
        self._is_durable()

    @precondition(has_jobs)
    @rule(
        which=whichever,
        reason=st.sampled_from(["completed", "interrupted", "failed"]),
        really=seldom,
    )
    def finish(self, which: int, reason: str, really: bool) -> None:
        if not really:
            return
        study, job, job_id = self._job(which)
        was_running, env_step = job.is_running, job.env_step + 1
        answer = self._call("POST", f"/v1/jobs/{job_id}/finish",
                            {"reason": reason, "env_step": env_step})  # fmt: skip
        assert (answer.status, answer.json["status"]) == (200, "finished")
        if was_running:
            study.finished(job_id, env_step, reason)
            self._is_durable()

    @precondition(has_jobs)
    @rule(which=whichever, further=st.integers(0, 20))
    def heartbeat(self, which: int, further: int) -> None:
        _, job, job_id = self._job(which)
        env_step = job.env_step + further
        answer = self._call("POST", f"/v1/jobs/{job_id}/heartbeat", {"env_step": env_step})
        if job.is_running:  # a job that has ended has no lease to keep
            job.env_step = env_step
        assert answer.status == 204

    # -- proposals -----------------------------------------------------------------------------

    @precondition(has_jobs)
    @rule(
        which=whichever,
        gap=st.sampled_from([1, 1, 1, 2, 3]),
        seed=st.integers(0, 4),
        further=st.integers(0, 15),
        unused=st.sets(st.integers(1, 3), max_size=2),
    )
    def propose(self, which: int, gap: int, seed: int, further: int, unused: set[int]) -> None:
        _, job, job_id = self._job(which)
        sequence = self._last_sequence(job_id, job) + gap
        self._propose(which, sequence, seed, further, unused)

    @precondition(has_jobs)
    @rule(which=whichever, sequence=st.integers(1, 6), seed=st.integers(0, 4))
    def propose_late(self, which: int, sequence: int, seed: int) -> None:
        """A request that took its time: its sequence may lie before others that were answered."""
        _, job, job_id = self._job(which)
        if sequence not in {*job.asked, *(body["sequence"] for body in self.owed[job_id])}:
            self._propose(which, sequence, seed, 0, set())

    def _propose(
        self, which: int, sequence: int, seed: int, further: int, unused: set[int]
    ) -> None:
        study, job, job_id = self._job(which)
        env_step = job.env_step + further
        body = {"sequence": sequence, "update_step": sequence, "env_step": env_step, "seed": seed,
                "not_applied": sorted(sequence - u for u in unused if sequence > u)}  # fmt: skip
        answer = self._ask(job_id, body)
        if not job.is_running:
            assert (answer.status, answer.json["code"]) == (409, "job_finished")
            return
        assert answer.status == 200, answer
        self._check_decision(study, job, body, answer.json)
        layout = self.started[job_id]["layout"]
        key = None
        if layout["kind"] != "none":
            key = tuple(encoder_of(job.layout).encode(hyper_state(layout, seed)).tolist())
        study.proposed(job_id, body, answer.json, key)
        told = answer.json
        is_in_force = told["valid_for_updates"] > 1 or told["valid_until_env_step"] is not None
        if is_in_force and not told["held"]:  # a decision that is to be held is on disk
            self._is_durable()

    def _ask(self, job_id: str, body: Any) -> Any:
        self.calls += 1
        fields = {name: value for name, value in body.items() if name not in ("sequence", "seed")}
        return self.oracle.wire.propose(self.started[job_id], body["sequence"], seed=body["seed"],
                                        **fields)  # fmt: skip

    def _check_decision(self, study: PlainStudy, job: PlainJob, body: Any, answer: Any) -> None:
        space = study.definition["space"]
        chosen = {name: space[name]["values"][index]
                  for name, index in zip(space, answer["bins"], strict=True)}  # fmt: skip
        assert answer["hyperparameters"] == chosen
        if job.role == "control" or study.definition["strategy"]["name"] == "fixed":
            assert all(chosen[n] == space[n].get("default", 1.0) for n in space)
        holds = ("best_config", "cautious_config", "anchored")
        if "hold" not in study.definition and study.definition["strategy"]["name"] not in holds:
            assert not answer["held"]
        if answer["held"]:
            assert answer["bins"] in [bins for bins, _ in job.decided.values()]

    @precondition(has_jobs)
    @rule(which=whichever, one=whichever, differs=st.booleans())
    def ask_again(self, which: int, one: int, differs: bool) -> None:
        """The same request again gets the same answer; another under its number is refused."""
        _, job, job_id = self._job(which)
        if not job.asked:
            return
        asked = sorted(job.asked.items())[one % len(job.asked)][1]
        body = asked.body
        if differs:
            body = body | {"env_step": body["env_step"] + 1}
        if asked.call == "propose":
            answer = self._ask(job_id, body)
        else:
            answer = self._call("POST", f"/v1/jobs/{job_id}/report", body)
        if differs:
            assert (answer.status, answer.json["code"]) == (422, "sequence_conflict")
        else:
            assert (answer.status, answer.json) == (200, asked.answer)

    # -- reports -------------------------------------------------------------------------------

    @precondition(has_jobs)
    @rule(
        which=whichever,
        episode_returns=returns,
        phase_return=st.integers(-9, 9),
        back=st.sampled_from([0, 0, 0, 1, 2]),
        unused=st.sets(st.integers(1, 3), max_size=1),
        is_overtaken=st.sampled_from([False, False, False, True]),
    )
    def report(
        self, which: int, episode_returns: list[float], phase_return: int, back: int,
        unused: set[int], is_overtaken: bool,
    ) -> None:  # fmt: skip
        study, job, job_id = self._job(which)
        owed = self.owed[job_id]
        sent = [owing["sequence"] for owing in owed] + [
            s for s, asked in job.asked.items() if asked.call == "report"
        ]
        sequence = self._last_sequence(job_id, job) + 1
        body = {"sequence": sequence, "credits_through": max(0, sequence - 1 - back),
                "env_step": job.env_step + 1, "episode_returns": episode_returns,
                "phase_return": float(phase_return),
                "not_applied": sorted(sequence - u for u in unused if sequence > u)}  # fmt: skip
        if job.key is not None:  # jobs with a key name the report before, the others do not
            body["previous_report"] = max(sent, default=0)
            if is_overtaken:
                owed.append(body)
                return
        self._report(study, job_id, body)

    @precondition(has_jobs)
    @rule(
        which=whichever,
        seeds=seeds,
        episode_returns=returns,
        phase_return=st.integers(-9, 9),
        is_overtaken=st.booleans(),
    )
    def phase(
        self, which: int, seeds: list[int], episode_returns: list[float], phase_return: int,
        is_overtaken: bool,
    ) -> None:  # fmt: skip
        """What jobs do most: some proposals, then their report."""
        for seed in seeds:
            self.propose(which, 1, seed, 1, set())
        self.report(which, episode_returns, phase_return, 0, set(), is_overtaken)

    @precondition(has_jobs)
    @rule(which=whichever, one=whichever)
    def deliver(self, which: int, one: int) -> None:
        """A report that others overtook arrives after all."""
        study, _, job_id = self._job(which)
        owed = self.owed[job_id]
        if owed:
            self._report(study, job_id, owed.pop(one % len(owed)))

    def _report(self, study: PlainStudy, job_id: str, body: Any) -> None:
        answer = self._call("POST", f"/v1/jobs/{job_id}/report", body)
        assert answer.status == 200, answer
        expected = study.reported(job_id, body)
        noted = {n: answer.json[n] for n in ("note", "return_missing") if n in answer.json}
        assert answer.json == expected | {"ask_again": answer.json["ask_again"]} | noted
        study.jobs[job_id].asked[body["sequence"]] = Asked("report", body, answer.json)
        self._is_durable()

    # -- the end of the world, and after -------------------------------------------------------

    @precondition(has_lived)
    @rule()
    def crash(self) -> None:
        self.oracle.crash()
        self.studies, self.owed = copy.deepcopy(self.durable)
        self.everything_is_there()

    @precondition(has_lived)
    @rule()
    def reopen(self) -> None:
        self.oracle.reopen()
        self._is_durable()
        self.everything_is_there()

    @precondition(has_lived)
    @precondition(has_jobs)
    @rule(which=whichever, seeds=seeds, phase_return=st.integers(-9, 9), crashes=st.booleans())
    def end_amid_a_phase(
        self, which: int, seeds: list[int], phase_return: int, crashes: bool
    ) -> None:
        """Proposals are open when it ends, and where reports are chained one waits for another."""
        _, job, job_id = self._job(which)
        if job.key is not None:
            self.phase(which, [0], [1.0], 1, True)
            self.phase(which, [1], [2.0], 2, False)
        for seed in seeds:
            self.propose(which, 1, seed, 1, set())
        self.oracle.writer.flush()
        self._is_durable()
        if crashes:
            self.crash()
        else:
            self.reopen()
        if self.owed[job_id]:
            self.deliver(which, len(self.owed[job_id]) - 1)
        self.report(which, [3.0], phase_return, 0, set(), False)

    @invariant()
    def counts_are_right(self) -> None:
        for name, study in self.studies.items():
            found = self._call("GET", f"/v1/studies/{name}").json
            jobs = study.jobs.values()
            assert {
                "jobs": len(jobs),
                "running_jobs": sum(job.is_running for job in jobs),
                "proposals": sum(job.count("propose") for job in jobs),
                "reports": sum(job.count("report") for job in jobs),
                "credited_proposals": sum(len(job.credited) for job in jobs),
                "memory_size": sum(map(len, study.memory.values())),
            }.items() <= found.items()

    @precondition(has_lived)
    @rule()
    def look(self) -> None:
        self.everything_is_there()

    def everything_is_there(self) -> None:
        """Every job, every credit and every entry of every memory, in a store that is sound."""
        self.calls = 0
        self.oracle.writer.flush()
        self._is_durable()
        assert self.oracle.wrong() == []
        listed = self._call("GET", "/v1/studies").json["studies"]
        assert [study["name"] for study in listed] == sorted(self.studies)
        for name, study in self.studies.items():
            found = self._call("GET", f"/v1/studies/{name}/jobs").json["jobs"]
            assert {job["job_id"] for job in found} == set(study.jobs)
            for told in found:
                self._check_job(study.jobs[told["job_id"]], told)
            self._check_schedule(name, study)
            if study.definition["strategy"]["name"] == "epgt":
                self._check_memory(name, study)

    def _check_job(self, job: PlainJob, told: Any) -> None:
        expected = {
            "status": "running" if job.is_running else "finished",
            "role": job.role,
            "env_step": job.env_step,
            "proposals": job.count("propose"),
            "reports": job.count("report"),
            "credited_proposals": len(job.credited),
            "not_applied_proposals": len(job.dropped),
        }
        assert {name: told[name] for name in expected} == expected
        assert told["last_return"] == (
            None if job.last_return is None else pytest.approx(job.last_return, abs=1e-9)
        )

    def _check_schedule(self, name: str, study: PlainStudy) -> None:
        rows = self._call("GET", f"/v1/studies/{name}/schedule").json["rows"]
        assert len(rows) == sum(job.count("propose") for job in study.jobs.values())
        for row in rows:
            job, sequence = study.jobs[row["job_id"]], row["sequence"]
            assert row["hyperparameters"] == job.asked[sequence].answer["hyperparameters"]
            assert row["applied"] == (sequence not in job.dropped)
            expected = job.credited.get(sequence)
            assert row["hyper_return"] == (
                None if expected is None else pytest.approx(expected, abs=1e-9)
            )

    def _check_memory(self, name: str, study: PlainStudy) -> None:
        found = self._call("GET", f"/v1/studies/{name}/memory?limit=1000").json["entries"]
        signatures = {job.layout: HyperStateLayout.model_validate_json(job.layout).signature
                      for job in study.jobs.values()}  # fmt: skip
        for layout, signature in signatures.items():
            told = [entry for entry in found if entry["layout"] == signature]
            expected = study.memory.get(layout, [])
            assert [(e["proposal_id"], e["bins"]) for e in told] == [
                (f"{e.job_id}.{e.sequence}", e.bins) for e in expected
            ]
            assert [e["value"] for e in told] == pytest.approx(
                [e.value for e in expected], rel=1e-6, abs=1e-9
            )
        assert len(found) == sum(map(len, study.memory.values()))


def live(
    examples: int,
    *,
    derandomize: bool,
    phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink),
) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        derandomize=derandomize,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(OracleAgainstPlainModel, settings=chosen)


@pytest.mark.timeout(600)
def test_the_oracle_knows_what_a_plain_model_knows_whatever_happens():
    """R9, quick form: 30 lives of up to 50 steps, the same every time."""
    live(30, derandomize=True)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_oracle_knows_what_a_plain_model_knows_in_a_thousand_lives():
    """R9, long form: others every time."""
    live(1000, derandomize=False)
