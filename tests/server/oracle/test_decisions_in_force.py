"""Decisions that are held: durable before they are answered, and missed where they are lost.

`MortalOracle` loses in a crash whatever nothing durable came after.
"""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import ExitStack

import pytest
from support.crashes import MortalOracle
from support.handles import oracle_of
from support.waiting import wait_until
from support.wire_client import Wire

from hyperoracle_protocol.jobs import ProposeMetadata
from hyperoracle_server.api.embedded import EmbeddedTransport

HOLDING = {
    "best_config": {"strategy": {"name": "best_config"}},
    "cautious_config": {"strategy": {"name": "cautious_config"}},
    "anchored": {"strategy": {"name": "anchored"}},
    "epgt, for updates": {"strategy": {"name": "epgt"}, "hold": {"updates": 4}},
    "epgt, for parts": {"strategy": {"name": "epgt"}, "hold": {"decisions_per_job": 3}},
    "random, for updates": {"strategy": {"name": "random"}, "hold": {"updates": 4}},
    "bandit, for parts": {"strategy": {"name": "bandit"}, "hold": {"decisions_per_job": 3}},
}


@pytest.fixture
def mortal(tmp_path):
    oracle = MortalOracle(tmp_path)
    yield oracle
    oracle.close()


def explanation(wire: Wire, job, sequence: int):
    return wire.call("GET", f"/v1/proposals/{job['job_id']}.{sequence}/explanation")


def decided(oracle: MortalOracle, job) -> list[object]:
    """What the hyper-agent notes that it decided; how the job stands is another matter."""
    with oracle_of(oracle).job(job["job_id"]) as (study, state):
        notes = json.loads(study.agent.notes(state.id) or "{}")
    return [notes.get(name) for name in ("hyper_action", "explored", "decisions", "chance", "bins")]


@pytest.mark.parametrize("definition", HOLDING.values(), ids=HOLDING)
def test_a_decision_that_is_held_survives_a_crash_right_after_its_answer(mortal, definition):
    """Seen to fail with `decisions_in_force.write` not waiting for the disk."""
    mortal.wire.study("s", **definition)
    job = mortal.wire.job("s", role="explore")
    told = mortal.wire.propose(job, 1).json
    notes = decided(mortal, job)
    mortal.crash()
    assert decided(mortal, job) == notes
    assert explanation(mortal.wire, job, 1).json["chosen"]["bins"] == told["bins"]
    assert mortal.wire.propose(job, 1).json == told
    held = mortal.wire.propose(job, 2, update_step=2).json
    assert (held["held"], held["bins"]) == (True, told["bins"])
    assert mortal.wire.report(job, 3, 2).json["credited"] == 1


@pytest.mark.parametrize("definition", HOLDING.values(), ids=HOLDING)
def test_there_is_one_sync_for_a_held_decision_and_none_for_what_repeats_it(mortal, definition):
    mortal.wire.study("s", **definition)
    job = mortal.wire.job("s", role="explore")
    writer, synced = mortal.writer, []
    submit_durably = writer.submit_durably

    def counted(*arguments):
        synced.append(arguments)
        return submit_durably(*arguments)

    writer.submit_durably = counted
    for sequence in range(1, 4):
        assert mortal.wire.propose(job, sequence).status == 200
    assert len(synced) == 1


@pytest.mark.parametrize("name", ["epgt", "dqn", "random", "fixed", "bandit", "kl_adaptive"])
def test_a_proposal_of_one_update_waits_for_no_disk(mortal, name, monkeypatch):
    definition = {"name": name} | ({"target_kl": 0.01} if name == "kl_adaptive" else {})
    mortal.wire.study("s", strategy=definition)
    job = mortal.wire.job("s")
    with monkeypatch.context() as patch:
        patch.setattr(mortal.writer, "submit_durably", None)  # whoever calls it fails
        assert [mortal.wire.propose(job, s, seed=s).status for s in range(1, 4)] == [200] * 3


def test_an_answer_that_repeats_a_decision_does_not_overtake_its_sync(tmp_path):
    """A job that gave up waiting for the first answer asks again, and must not get it earlier.

    Seen to fail with `write` returning None for what is not new."""
    with ExitStack() as stack:
        transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
        stack.callback(transport.close)
        wire, oracle = Wire(transport=transport), oracle_of(transport)
        wire.study("s", strategy={"name": "cautious_config"})
        public_id = wire.job("s")["job_id"]
        release = []

        def slow(_connection: object) -> None:
            wait_until("it is let go", lambda: release)

        holder = threading.Thread(target=oracle.ledger.writer.run, args=(slow,))
        holder.start()
        stack.callback(holder.join)
        stack.callback(release.append, True)
        answers = []
        with oracle.job(public_id) as (study, job):
            for sequence in (1, 2, 2):
                request = ProposeMetadata(sequence=sequence, update_step=sequence, env_step=0)
                answers.append(study.propose(job, request, None, b"%d" % sequence))
        assert all(answer.durable is not None for answer in answers)
        assert not any(answer.durable.done() for answer in answers)
        release.append(True)
        for answer in answers:
            answer.durable.result(30)


def test_a_job_that_asks_again_on_a_slow_disk_is_answered_what_the_ledger_has(mortal):
    """Its first answer came too late and was not used. Waiting for the disk again, and again,
    would leave it on its defaults for ever."""
    mortal.wire.study("s", strategy={"name": "cautious_config"})
    job = mortal.wire.job("s", role="explore")
    first = mortal.wire.propose(job, 1).json
    mortal.writer.submit_durably((), mortal.writer.epoch).result()
    oracle = oracle_of(mortal)
    with oracle.job(job["job_id"]) as (study, state):
        request = ProposeMetadata(sequence=2, update_step=2, env_step=10, not_applied=[1])
        again = study.propose(state, request, None, b"2")
    assert again.durable is None
    assert b'"held":false' in again.body
    mortal.crash()
    assert mortal.wire.propose(job, 3).json["bins"] == first["bins"]


@pytest.mark.parametrize("name", ["best_config", "cautious_config", "anchored"])
def test_a_job_whose_decision_a_restored_store_does_not_know_is_left_out(tmp_path, name):
    """The store is brought back from before the decision, and the job goes on with it. Seen to fail
    without `note_lost`: it counts among the whole jobs of its role, at what nobody knows.
    """
    with ExitStack() as stack:

        def opened(path):
            transport = EmbeddedTransport(str(path))
            stack.callback(transport.close)
            return transport, Wire(transport=transport)

        transport, wire = opened(tmp_path / "oracle.db")
        wire.study("s", strategy={"name": name})
        lost, known = (wire.job("s", role="exploit") for _ in range(2))
        wire.propose(known, 1)
        transport.close()
        shutil.copy(tmp_path / "oracle.db", tmp_path / "earlier.db")
        transport, wire = opened(tmp_path / "oracle.db")
        assert wire.propose(lost, 1).status == 200
        transport.close()

        for restart in (False, True):
            transport, wire = opened(tmp_path / "earlier.db")
            if not restart:
                for job in (lost, known):
                    for phase in range(4):
                        through = 1
                        after = 0 if phase == 0 else 1
                        receipt = wire.report(job, phase + 2, through, [5.0], credits_after=after,
                                              env_step=250 * (phase + 1))  # fmt: skip
                        assert receipt.status == 200
                    wire.call("POST", f"/v1/jobs/{job['job_id']}/finish", {"reason": "completed"})
            gain = wire.call("GET", "/v1/studies/s/gain").json
            assert gain["gain_over_default"]["final_return"]["jobs"] == 1, gain
            agent = oracle_of(transport)._studies["s"].agent
            scores = [note.score for note in agent._jobs]
            assert sorted(scores, key=lambda score: score is None) == [5.0, None]
            if name == "anchored":
                assert len(agent.knowledge.records.bins) == 1
            transport.close()


def test_what_was_not_applied_or_never_asked_for_is_no_lost_decision(embedded):
    """The oracle was away when the job asked: it used its defaults, and says so."""
    embedded.study("s", strategy={"name": "cautious_config"})
    job = embedded.job("s", role="exploit")
    embedded.report(job, 2, 1, credits_after=0, not_applied=[1])
    embedded.report(job, 3, 1, credits_after=1)
    embedded.propose(job, 4)
    embedded.report(job, 5, 4, credits_after=1)
    with oracle_of(embedded).job(job["job_id"]) as (_, state):
        assert state.credit.lost_decisions == 0
