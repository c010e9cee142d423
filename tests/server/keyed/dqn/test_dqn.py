"""`dqn`: what it makes of decisions and outcomes, and that a study goes on from its ledger."""

import sqlite3

import numpy as np
import pytest
from support.handles import oracle_of
from support.wire_client import Wire, hyper_state

from hyperoracle_protocol.hyper_state import TensorShape
from hyperoracle_protocol.strategies import DqnStrategy
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.keyed.dqn.agent import DqnAgent
from hyperoracle_server.keyed.rounds import EncoderRounds
from hyperoracle_server.strategies.decisions import Moment, Outcome
from hyperoracle_server.strategies.grid import HyperActionGrid

TENSORS = [TensorShape(name="w", shape=(4, 3)), TensorShape(name="b", shape=(4,))]


class Course:
    """An agent whose one job decides and is credited; hyper-states are random."""

    def __init__(self, seed=3, **strategy):
        self.agent = DqnAgent(HyperActionGrid((3,), (1,)), DqnStrategy(**strategy), seed)
        self.layout = self.agent.layout_for(TENSORS, seed)
        self.agent.open_layout(self.layout)
        self.signature = self.layout.signature
        self.sequence = self.entry = 0

    def hyper_state(self, seed):
        rng = np.random.default_rng(seed)
        return rng.normal(size=self.layout.feature_count).astype(self.layout.dtype)

    def ask(self, seed=0, role="exploit", progress=0.0):
        self.sequence += 1
        moment = Moment(1, role, int(1000 * progress), 1000, self.signature, self.hyper_state(seed),
                        self.sequence, {})  # fmt: skip
        return self.agent.decide(moment, np.random.default_rng(seed))

    def credit(self, action, reward, seed=0, *, ends=True, hyper_return=None):
        self.entry += 1
        value = reward if hyper_return is None else hyper_return
        outcome = Outcome(self.entry, self.signature, action, value, self.hyper_state(seed), None,
                          None, 1, self.sequence, reward, ends)  # fmt: skip
        return self.agent.learn(outcome)

    @property
    def replay(self):
        return self.agent.recollections[self.signature].memory

    @property
    def learner(self):
        return self.agent._learners[self.signature]


def test_the_greedy_choice_is_the_greatest_value_of_the_network():
    course = Course(exploration={"start": 0.0, "end": 0.0})
    for seed in range(8):
        decision = course.ask(seed)
        values = course.learner.q_values(decision.key)
        assert decision.hyper_action == values.argmax()
        np.testing.assert_array_equal(decision.evidence.q_values, values)
        assert not decision.evidence.known.any(), "nothing was learned yet"
        assert (decision.explored, decision.epsilon, decision.propensity) == (False, 0.0, 1.0)


def test_epsilon_follows_the_schedule_the_roles_and_the_control():
    course = Course(exploration={"start": 0.8, "end": 0.2, "fraction": 0.5})
    assert course.ask(role="auto", progress=0.25).epsilon == pytest.approx(0.5)
    assert course.ask(role="explore", progress=0.9).epsilon == 0.8
    assert course.ask(role="exploit").epsilon == 0.2
    control = course.ask(role="control")
    assert (control.hyper_action, control.epsilon, control.propensity) == (1, 0.0, 1.0)


def test_outcomes_of_an_episode_become_transitions_to_the_next_decision():
    course = Course(q_learning={"replay_start": 100})
    course.credit(0, 0.0, seed=1, ends=False, hyper_return=5.0)
    course.credit(2, 5.0, seed=2)
    course.credit(1, -1.0, seed=3)
    steps = course.replay.entries()
    assert steps.actions.tolist() == [0, 2, 1]
    assert steps.values.tolist() == [5.0, 5.0, -1.0]
    assert steps.rewards.tolist() == [0.0, 5.0, -1.0]
    assert steps.ends.tolist() == [False, True, True]
    encoder = course.agent.recollections[course.signature].encoder
    for key, seed in zip(steps.keys, (1, 2, 3), strict=True):
        np.testing.assert_array_equal(key, encoder.encode(course.hyper_state(seed)))


def test_it_finds_the_best_hyper_action():
    course = Course(q_learning={"gradient_steps": 4, "learning_rate": 3e-3})
    rng = np.random.default_rng(0)
    for seed in range(150):
        action = int(rng.integers(3))
        course.credit(action, -100.0 + 10.0 * (action == 2) + rng.normal(), seed=seed % 20)
    told = [course.ask(seed, role="exploit") for seed in range(20)]
    greedy = [decision.hyper_action for decision in told if not decision.explored]
    assert len(greedy) > 15
    assert set(greedy) == {2}
    assert all(decision.evidence.known.all() for decision in told)
    np.testing.assert_allclose(told[0].evidence.q_values, [-100, -100, -90], atol=4)


def test_networks_of_other_layouts_are_other_ones():
    course = Course(q_learning={"replay_start": 1})
    wider = course.agent.layout_for([TensorShape(name="w", shape=(9, 3))], 3)
    course.agent.open_layout(wider)
    assert course.agent.changed_states() == {}
    course.credit(0, 1.0)
    states = course.agent.changed_states()
    assert set(states) == {course.signature}
    assert course.agent.changed_states() == {}, "told once"
    assert course.agent._learners[wider.signature].updates == 0


def test_a_replay_that_would_never_train_is_refused():
    with pytest.raises(ValueError, match="replay_start of at most"):
        DqnStrategy(q_learning={"replay_start": 11, "replay_capacity": 10})
    space = {"x": {"type": "relative", "values": [0.5, 1, 2]}}
    again = StudyDefinition(space=space, strategy={"name": "dqn"}).model_dump_json()
    assert isinstance(StudyDefinition.model_validate_json(again).strategy, DqnStrategy)


# -- in a study --------------------------------------------------------------------------------

STRATEGY = {
    "name": "dqn",
    "encoder": {"minimum_samples": 8, "publish_seconds": 0, "gradient_updates": 5, "batch_size": 8},
    "exploration": {"start": 0.3, "end": 0.3},
    "learning_episode": {"phases": 2},
    "q_learning": {"replay_start": 4, "target_period": 5, "replay_capacity": 25},
}


@pytest.fixture
def quiet(no_upkeep, tmp_path):
    transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
    yield Wire(transport=transport)
    transport.close()


def decisions(path, restart_after: set[int], rounds_after: set[int]) -> list[list[int]]:
    """Two jobs in turn, three updates a phase, two phases an episode; every decision's bins."""
    transport = EmbeddedTransport(str(path))
    wire = Wire(transport=transport)
    wire.study("s", strategy=STRATEGY, seed=5)
    jobs = [wire.job("s", job_key=f"job-key-{i}") for i in range(2)]
    told = []
    for phase in range(14):
        for number, job in enumerate(jobs):
            first = 4 * phase + 1
            told += [
                wire.propose(job, s, seed=100 * number + s % 9).json["bins"]
                for s in range(first, first + 3)
            ]
            skipped = [first + 1] if phase % 3 == 2 else []
            value = float(told[-1][0] - number) + 0.1 * phase
            wire.report(job, first + 3, first + 2, [value], not_applied=skipped)
        if phase in rounds_after:
            rounds = EncoderRounds(oracle_of(transport))
            assert rounds.run_due() == 1
            rounds.close()
        if phase in restart_after:
            transport.close()
            transport = EmbeddedTransport(str(path))
            wire = Wire(transport=transport)
    with oracle_of(transport).study("s") as study:
        (learner,) = study.agent._learners.values()
        (recollection,) = study.agent.recollections.values()
        assert recollection.state.version == len(rounds_after)
        told.append((learner.to_bytes(), learner.updates))
        steps = recollection.memory.entries()
        told.append([a.tobytes() for a in (steps.ids, steps.keys, steps.rewards, steps.ends)])
    assert wire.call("GET", "/v1/studies/s").json["memory_capacity"] == 25
    transport.close()
    return told


@pytest.mark.slow
def test_a_study_that_was_restarted_goes_on_as_if_it_had_never_stopped(tmp_path, no_upkeep):
    straight = decisions(tmp_path / "straight.db", set(), {4, 9})
    # After an odd phase no learning episode is open, after an even one both jobs have one.
    again = decisions(tmp_path / "restarts.db", {2, 3, 4, 7, 10, 12}, {4, 9})
    assert again == straight
    assert straight[-2][1] > 50, "it learned"
    assert len({tuple(bins) for bins in straight[:-2]}) == 3


def test_a_study_that_is_deleted_leaves_no_network_behind(tmp_path):
    path = tmp_path / "oracle.db"
    transport = EmbeddedTransport(str(path))
    wire = Wire(transport=transport)
    for name in ("a", "b"):
        wire.study(name, strategy={"name": "dqn"})
        job = wire.job(name)
        wire.propose(job, 1)
        assert wire.report(job, 2, 1).json["credited"] == 1
    wire.call("DELETE", "/v1/studies/a")
    transport.close()
    with sqlite3.connect(path) as store:
        assert store.execute("SELECT count(*) FROM hyper_agent_states").fetchone() == (1,)
    store.close()


def test_a_commit_that_fails_takes_the_network_back_to_what_was_durable(quiet, monkeypatch):
    quiet.study("s", strategy=STRATEGY | {"learning_episode": {}})
    job = quiet.job("s")
    for i in range(8):
        quiet.propose(job, 2 * i + 1, seed=i)
        quiet.report(job, 2 * i + 2, 2 * i + 1, [float(i)])
    quiet.propose(job, 17)
    oracle = oracle_of(quiet)
    oracle.ledger.writer.flush()

    def learned() -> tuple[bytes, int]:
        with oracle.study("s") as study:
            (learner,) = study.agent._learners.values()
            return learner.to_bytes(), learner.updates

    def full(*_args, **_kwargs):
        raise sqlite3.OperationalError("database or disk is full")

    before = learned()
    with monkeypatch.context() as patch:
        patch.setattr("hyperoracle_server.ledger.writer.run_changes", full)
        assert quiet.report(job, 18, 17, [5.0]).status == 503
    assert learned() == before
    assert before[1] > 0
    assert quiet.report(job, 18, 17, [5.0]).json["credited"] == 1
    assert learned()[1] == before[1] + 1


def test_reports_that_share_a_commit_leave_the_newest_network(tmp_path):
    """Several states of one network in one transaction: the last one stays."""
    from hyperoracle_server.ledger import rows as made
    from hyperoracle_server.ledger.store import Ledger

    ledger = Ledger(tmp_path / "oracle.db")
    changes = [c for i in range(3) for c in made.state_changes(1, {"x": bytes([i]), "y": b"-"})]
    for _ in range(2):
        ledger.writer.submit_durably(changes, ledger.writer.epoch).result()
    with ledger.reading() as connection:
        rows = connection.exec_driver_sql("SELECT name, state FROM hyper_agent_states").all()
    assert sorted(rows) == [("x", b"\x02"), ("y", b"-")]
    ledger.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "encoder"), [("sketch", "random"), ("sketch", "vae"), ("statistics", "plain")]
)
def test_a_round_encodes_the_replay_anew_with_what_came_meanwhile(
    quiet, monkeypatch, kind, encoder
):
    wire = quiet
    strategy = STRATEGY | {
        "hyper_state": {"kind": kind},
        "encoder": STRATEGY["encoder"] | {"kind": encoder},
        "learning_episode": {},
    }
    wire.study("s", strategy=strategy, returns={"kind": "phase_episodes"})
    job = wire.job("s")

    def credit(count: int, first: int) -> None:
        for s in range(first, first + 2 * count, 2):
            wire.propose(job, s, seed=s)
            wire.report(job, s + 1, s, [float(s)])

    credit(23, 1)
    oracle = oracle_of(wire)
    rounds = EncoderRounds(oracle)
    train = rounds._process.train

    def train_while_others_report(*arguments):
        credit(5, 47)
        return train(*arguments)

    monkeypatch.setattr(rounds._process, "train", train_while_others_report)
    assert rounds.run_due() == 1
    rounds.close()
    assert wire.call("GET", "/v1/studies/s").json["memory_size"] == 25, "the earliest 3 have left"
    page = wire.call("GET", "/v1/studies/s/memory").json["entries"]
    assert [entry["value"] for entry in page] == [float(s) for s in range(7, 57, 2)]
    with oracle.study("s") as study:
        (recollection,) = study.agent.recollections.values()
        keys = recollection.memory.entries().keys
        assert recollection.state.version == 1
        for place, sequence in enumerate(range(7, 57, 2)):
            features = hyper_state(job["layout"], sequence)
            np.testing.assert_allclose(
                recollection.encoder.encode(features), keys[place], atol=1e-5
            )
    values = wire.propose(job, 57, seed=57).json
    explanation = wire.call("GET", f"/v1/proposals/{values['proposal_id']}/explanation").json
    assert all(value["known"] for value in explanation["values"])
    assert explanation["neighbours"] == []
