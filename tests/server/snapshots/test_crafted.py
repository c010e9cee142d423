"""A crafted snapshot is refused, or everything that follows its restore is answered below 500.

Of one value that is another than an oracle would write: of any column, of studies of every kind.
"""

from __future__ import annotations

import itertools
import random
import traceback
from pathlib import Path

import pytest
from server.strategies.test_strategies import STRATEGIES, TWO, phase
from support.fuzzed_snapshots import mutated, mutations
from support.handles import oracle_of
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.keyed.rounds import EncoderRounds
from hyperoracle_server.snapshots.stores import verify
from hyperoracle_server.snapshots.taking import take_store, take_study

pytestmark = pytest.mark.slow

SNAPSHOT = "application/vnd.hyperoracle.snapshot"
SEVERAL = {
    "epgt": {"strategy": {**STRATEGIES["epgt"], "encoder": {"minimum_samples": 8}},
             "hold": {"updates": 2}},
    "dqn": {"strategy": STRATEGIES["dqn"]},
    "anchored": {"strategy": STRATEGIES["anchored"]},
    "best_config": {"strategy": STRATEGIES["best_config"]},
    "cautious_config": {"strategy": STRATEGIES["cautious_config"],
                        "returns": {"kind": "last_episodes", "count": 3}},
    "bandit": {"strategy": STRATEGIES["bandit"]},
    "kl_adaptive": {"strategy": STRATEGIES["kl_adaptive"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory) -> dict[str, Path]:
    """Of a study of each strategy: jobs that ended, one that is half way, a report that waits."""
    patch = pytest.MonkeyPatch()
    patch.setattr("hyperoracle_server.oracle.upkeep.LOOK_SECONDS", 3600.0)
    folder = tmp_path_factory.mktemp("snapshots")
    transport = EmbeddedTransport(str(folder / "oracle.db"))
    wire = Wire(transport=transport)
    found = {}
    for name, definition in SEVERAL.items():
        wire.study("s", TWO, seed=3, **definition)
        roles = ("explore", "control", "exploit", "explore")
        jobs = [wire.job("s", total=500, role=role, job_key=f"the-key-{n}", metadata={"a": "b"})
                for n, role in enumerate(roles)]  # fmt: skip
        for number in range(4):
            for job in jobs:
                phase(wire, job, number, random.Random(number))
        for job, reason in zip(jobs[:3], ("completed", "completed", "failed"), strict=True):
            wire.call("POST", f"/v1/jobs/{job['job_id']}/finish", {"reason": reason})
        wire.propose(jobs[3], 9, seed=9, env_step=400)
        wire.report(jobs[3], 12, 9, previous_report=10)
        if name == "epgt":
            rounds = EncoderRounds(oracle_of(transport))
            assert rounds.run_due() == 1
            rounds.close()
        oracle_of(transport).ledger.writer.flush()
        found[name] = folder / name
        take_study(folder / "oracle.db", "s", found[name])
        assert wire.call("DELETE", "/v1/studies/s").status == 204
    transport.close()
    patch.undo()
    return found


class Looked:
    """Calls of all kinds on a restored study; what answered 500 or above, or broke."""

    def __init__(self, transport: EmbeddedTransport) -> None:
        self.wire = Wire(transport=transport)
        self.broken: list[str] = []

    def call(self, what: str, call, *arguments, **options):
        try:
            answer = call(*arguments, **options)
        except AssertionError:  # a job that is refused to start
            return None
        except Exception:
            self.broken.append(f"{what}: {traceback.format_exc()[-1500:]}")
            return None
        if answer.status >= 500 if hasattr(answer, "status") else False:
            self.broken.append(f"{what}: {answer}")
        return answer

    def at_everything(self, study: str) -> None:
        for place in ("", "/jobs", "/gain", "/memory", "/memory/map", "/diagnosis", "/schedule"):
            self.call(place, self.wire.call, "GET", f"/v1/studies/{study}{place}")
        for n in range(4):
            job = self.call("start", self.wire.job, study, total=500, job_key=f"the-key-{n}")
            if isinstance(job, dict):
                self.at_job(job)
        fresh = self.call("start", self.wire.job, study, total=500, job_key="a-fresh-key")
        if isinstance(fresh, dict):
            self.at_job(fresh)
        self.call("gain", self.wire.call, "GET", f"/v1/studies/{study}/gain")
        self.call("snapshot", self.wire.call, "POST", f"/v1/studies/{study}/snapshots")

    def at_job(self, job) -> None:
        wire, path = self.wire, f"/v1/jobs/{job['job_id']}"
        last = job["last_sequence"]
        for sequence in (1, 3, 7, 9):
            explanation = f"/v1/proposals/{job['job_id']}.{sequence}/explanation"
            self.call("explain", wire.call, "GET", explanation)
        for sequence in (1, last + 1, last + 3):
            self.call("propose", wire.propose, job, sequence, seed=sequence,
                      env_step=min(sequence * 50, 2**50), update_step=min(sequence, 2**50),
                      signals={"approx_kl": 0.01})  # fmt: skip
            self.call("report", wire.report, job, sequence + 1, sequence, [3.0], env_step=450)
        self.call("a missing report", wire.report, job, 11, 9, [2.0], previous_report=10)
        self.call("heartbeat", wire.call, "POST", f"{path}/heartbeat", {"env_step": 460})
        self.call(
            "explain", wire.call, "GET", f"/v1/proposals/{job['job_id']}.{last + 1}/explanation"
        )
        self.call("finish", wire.call, "POST", f"{path}/finish", {"reason": "completed"})


def tried(snapshots: dict[str, Path], name: str, count: int, folder: Path, seed: int) -> None:
    transport = EmbeddedTransport(str(folder / "oracle.db"))
    wire, looked = Wire(transport=transport), Looked(transport)
    chance = random.Random(f"{name} {seed}")
    taken, failures = 0, []
    for mutation in itertools.islice(mutations(snapshots[name], chance), count):
        content = mutated(snapshots[name], mutation, folder / "crafted")
        if content is None:
            continue
        looked.broken.clear()
        answer = looked.call(
            "restore", wire.raw, "POST", "/v1/studies/s/restore", content, SNAPSHOT
        )
        if answer is not None and answer.status == 201:
            taken += 1
            looked.at_everything("s")
            take_store(folder / "oracle.db", folder / "backup")
            wrong = verify(folder / "backup")[1]
            (folder / "backup").unlink()
            looked.broken += [f"the backup: {each}" for each in wrong]
            assert wire.call("DELETE", "/v1/studies/s").status == 204
        failures += [f"{mutation}: {each}" for each in looked.broken]
    transport.close()
    assert not failures, f"{len(failures)}: " + "\n\n".join(failures[:40])
    assert 0 < taken < count


@pytest.mark.parametrize("name", SEVERAL)
def test_a_crafted_snapshot_is_refused_or_all_that_follows_is_answered(
    snapshots, name, tmp_path, no_upkeep
):
    tried(snapshots, name, 25, tmp_path, seed=1)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SEVERAL)
def test_crafted_snapshots_by_the_thousand(snapshots, name, tmp_path, no_upkeep):
    for seed in range(10):
        (tmp_path / str(seed)).mkdir()
        tried(snapshots, name, 300, tmp_path / str(seed), seed)
