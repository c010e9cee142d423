"""The whole oracle against a plain model of one job's messages.

Messages are lost, delayed, reordered and repeated, answers are not applied, the server restarts;
what each proposal was credited with in the end must be what an orderly reading of the job's own
diary says.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport


@dataclass
class Diary:
    """What the job did, in its own order."""

    phases: list[dict[str, Any]] = field(default_factory=list)

    def expected(self, n: int) -> dict[int, float]:
        """Hyper-returns by sequence: the returns from a proposal's phase to its episode's end."""
        begun = self._from_first_applied(self.phases)
        result: dict[int, float] = {}
        while begun:
            episode, begun = begun[:n], self._from_first_applied(begun[n:])
            if len(episode) == n:
                for i, phase in enumerate(episode):
                    total = sum(p["return"] for p in episode[i:])
                    result.update(dict.fromkeys(phase["applied"], total))
        return result

    @staticmethod
    def _from_first_applied(phases: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first = next((i for i, p in enumerate(phases) if p["applied"]), len(phases))
        return phases[first:]


def live(wire: Wire, job: Any, rng: random.Random, phases: int, per_phase: int) -> Diary:
    """Run a job's life with every kind of trouble, and keep its diary."""
    diary = Diary()
    sequence = covered = previous = 0
    undelivered: list[dict[str, Any]] = []
    for _ in range(phases):
        applied, not_applied = [], []
        for _ in range(rng.randint(0, per_phase)):
            sequence += 1
            fate = rng.random()
            if fate < 0.15:  # never arrived; the job used its defaults
                not_applied.append(sequence)
                continue
            answer = wire.propose(job, sequence, seed=sequence)
            assert answer.status == 200
            if rng.random() < 0.2:
                assert wire.propose(job, sequence, seed=sequence).json == answer.json
            (not_applied if fate < 0.3 else applied).append(sequence)
        through = sequence
        sequence += 1
        g = float(rng.randint(-50, 50))
        undelivered.append({"sequence": sequence, "credits_through": through,
                            "credits_after": covered, "previous_report": previous,
                            "not_applied": not_applied, "episode_returns": [],
                            "phase_return": g, "env_step": sequence})  # fmt: skip
        diary.phases.append({"applied": applied, "return": g})
        previous, covered = sequence, through
        if rng.random() < 0.5:
            deliver(wire, job, undelivered, rng)
    deliver(wire, job, undelivered, rng)
    return diary


def deliver(wire: Wire, job: Any, undelivered: list[dict[str, Any]], rng: random.Random) -> None:
    """Deliver what is under way, in any order, some of it twice."""
    rng.shuffle(undelivered)
    while undelivered:
        body = undelivered.pop()
        path = f"/v1/jobs/{job['job_id']}/report"
        first = wire.call("POST", path, body)
        assert first.status == 200, first
        if rng.random() < 0.3:
            assert wire.call("POST", path, body).json == first.json


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_each_applied_proposal_gets_exactly_its_own_return(tmp_path, seed, n):
    rng = random.Random(seed)
    path = str(tmp_path / "oracle.db")
    transport = EmbeddedTransport(path)
    wire = Wire(transport=transport)
    strategy = {"name": "epgt", "learning_episode": {"phases": n}}
    wire.study("s", strategy=strategy, returns={"kind": "phase_return"})
    jobs = [wire.job("s"), wire.job("s")]
    # The second job makes a decision per minibatch: many proposals per phase.
    diaries = [live(wire, jobs[0], rng, 25, 2), live(wire, jobs[1], rng, 4, 30)]
    transport.close()
    transport = EmbeddedTransport(path)  # what was credited must also have been stored
    wire = Wire(transport=transport)
    rows = wire.call("GET", "/v1/studies/s/schedule").json["rows"]
    for job, diary in zip(jobs, diaries, strict=True):
        got = {
            row["sequence"]: row["hyper_return"]
            for row in rows
            if row["job_id"] == job["job_id"] and row["hyper_return"] is not None
        }
        assert got == diary.expected(n)
        assert got, "the test credits something"
    transport.close()


def test_thinned_writing_keeps_every_so_manyth_and_the_last_of_a_phase(embedded):
    wire = embedded
    wire.study("s", strategy={"name": "epgt", "learning_episode": {"write_every": 4}})
    job = wire.job("s")
    for sequence in range(1, 11):
        wire.propose(job, sequence, seed=sequence)
    assert wire.report(job, 11, 10).json["credited"] == 10
    entries = wire.call("GET", "/v1/studies/s/memory").json["entries"]
    # By hand: positions 0, 4, 8 of the phase, and its last, 9.
    written = [int(entry["proposal_id"].rpartition(".")[2]) for entry in entries]
    assert written == [1, 5, 9, 10]
