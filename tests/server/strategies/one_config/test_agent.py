"""What strategies share that decide once per job, with a strategy that is as plain as can be."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.whole_jobs import ending, run

from hyperoracle_protocol.jobs import Role
from hyperoracle_protocol.strategies import RoleSetting
from hyperoracle_server.strategies.chance import NumberedStreams
from hyperoracle_server.strategies.decisions import Decision, Moment
from hyperoracle_server.strategies.evidence.exposure import Avoided
from hyperoracle_server.strategies.grid import HyperActionGrid
from hyperoracle_server.strategies.one_config import agent as one_config
from hyperoracle_server.strategies.one_config.agent import OneConfigAgent
from hyperoracle_server.strategies.value_model.guards import FIRST_PAUSE

DEFAULT, BEST, EXPLORED = 1, 3, [0, 2, 4]


class PlainAgent(OneConfigAgent):
    """Exploits one hyper-action, explores three others."""

    def __init__(self) -> None:
        super().__init__(HyperActionGrid((5,), (DEFAULT,)), RoleSetting())

    def best(self, avoided: Avoided | None = None) -> int:
        return BEST

    def to_explore(self, avoided: Avoided | None = None) -> list[int]:
        return EXPLORED


def decide(agent: OneConfigAgent, job_id: int, role: Role, seed: int = 0) -> Decision:
    moment = Moment(job_id, role, 0, 100, "none", None, 1, {})
    return agent.decide(moment, np.random.default_rng(seed))


def worse_on_average(exploit: np.ndarray, control: np.ndarray) -> bool:
    """A test that decides soon."""
    return bool(min(len(exploit), len(control)) >= 2 and exploit.mean() < control.mean())


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(one_config, "falls_behind", worse_on_average)


def ended(agent: OneConfigAgent, job_id: int, role: Role, value: float) -> None:
    decide(agent, job_id, role)
    run(agent, job_id, value)


def test_each_role_has_its_hyper_action_and_says_how_probable_it_was():
    agent = PlainAgent()
    for job_id, (role, action) in enumerate(
        [("control", DEFAULT), ("exploit", BEST), ("auto", BEST)]
    ):
        made = decide(agent, job_id, role)
        assert (made.hyper_action, made.explored, made.propensity) == (action, False, 1.0)
    made = [decide(agent, job_id, "explore", job_id) for job_id in range(10, 40)]
    assert {decision.hyper_action for decision in made} == set(EXPLORED)
    assert {(d.explored, d.epsilon, d.propensity) for d in made} == {(True, 1.0, 1 / 3)}


def test_the_score_is_what_the_job_counts_for_since_it_ended():
    agent = PlainAgent()
    decide(agent, 1, "exploit")
    assert agent._jobs.of(1).score is None
    agent.close(1, ending([(100, 4.0), (200, 2.0)], "failed", planned=1000, floor=-7.0))
    assert (agent._jobs.of(1).score, agent._jobs.of(1).shown) == (-7.0, 1.0)
    agent.reopen(1)
    assert (agent._jobs.of(1).score, agent._jobs.of(1).ended) == (None, 0)


@pytest.mark.parametrize(
    ("reason", "ran", "is_rarer"),
    [("completed", 100, True), ("failed", 30, True), ("lapsed", 30, True), ("reached", 10, True),
     ("interrupted", 95, True), ("interrupted", 1, False)],
)  # fmt: skip
def test_what_was_tried_makes_exploration_rarer_however_it_ended(reason, ran, is_rarer):
    """By `chance.drawn_role`, exploration is certain while 10 jobs have shown next to nothing."""
    chance = NumberedStreams(0)

    def roles(agent: OneConfigAgent) -> Counter[Role]:
        return Counter(
            agent.assigned_role(n, chance.stream, chance.stream((n + 1) << 32))
            for n in range(10, 60)
        )

    agent = PlainAgent()
    assert set(roles(agent)) == {"control", "explore"}
    for job_id in range(10):
        decide(agent, job_id, "explore")
        agent.close(job_id, ending([(ran, 1.0)], reason, planned=100))
    # Of 40 jobs that are no controls, 1 in 160 exploits, or (with 10 of 16 tried) more than half.
    assert (roles(agent)["exploit"] > 10) == is_rarer


@pytest.mark.usefixtures("soon")
def test_exploiting_jobs_that_fell_behind_pause_and_what_they_do_meanwhile_does_not_count():
    agent = PlainAgent()
    for number, (role, value) in enumerate(
        [("exploit", 1.0), ("control", 2.0), ("exploit", 1.0), ("control", 2.0)]
    ):
        ended(agent, number, role, value)
    assert (agent.guards().times_behind, agent.guards().jobs_until_freed) == (1, FIRST_PAUSE)
    assert decide(agent, 50, "exploit").hyper_action == DEFAULT
    assert decide(agent, 51, "explore").hyper_action in EXPLORED
    for number in range(FIRST_PAUSE):
        ended(agent, 100 + number, "explore", 1.0)
    assert decide(agent, 52, "exploit").hyper_action == BEST
    # Job 50 was not free to leave the default: its return says nothing of what is exploited.
    run(agent, 50, -99.0)
    for number in (200, 201):
        ended(agent, number, "exploit", 3.0)
        ended(agent, 10 + number, "control", 2.0)
    assert agent.guards().times_behind == 1


@pytest.mark.usefixtures("soon")
def test_a_job_that_goes_on_after_its_end_is_taken_out_of_the_comparison():
    agent = PlainAgent()
    for number, (role, value) in enumerate(
        [("exploit", 1.0), ("control", 2.0), ("exploit", 1.0), ("control", 2.0)]
    ):
        ended(agent, number, role, value)
    agent.reopen(2)
    assert agent.guards().times_behind == 0
    agent.close(2, ending([(100, 1.0), (200, 1.0)]))
    assert agent.guards().times_behind == 1


jobs = st.lists(
    st.tuples(st.sampled_from(["exploit", "control", "explore"]), st.integers(0, 3), st.booleans()),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(jobs=jobs, order=st.randoms(use_true_random=False))
def test_a_guard_made_anew_from_the_notes_knows_what_the_first_one_knew(jobs, order):
    """Jobs end in another order than they began in, some without having come to their end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_config, "falls_behind", worse_on_average)
        agent = PlainAgent()
        assert agent.guards() == PlainAgent().guards()
        for number, (role, _, _) in enumerate(jobs):
            decide(agent, number, role)
        numbers = list(range(len(jobs)))
        order.shuffle(numbers)
        for number in numbers:
            _, value, is_whole = jobs[number]
            reason = "completed" if is_whole else "interrupted"
            agent.close(
                number, ending([(10, float(value))], reason, planned=10 if is_whole else 99)
            )
        again = PlainAgent()
        for number in range(len(jobs)):
            notes = agent.notes(number)
            assert notes is not None
            again.restore(number, notes)
        assert again.guards() == agent.guards()
