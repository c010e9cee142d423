"""What strategies share that decide once per job, with a strategy that is as plain as can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperoracle_protocol.jobs import Role
from hyperoracle_protocol.strategies import RoleSetting
from hyperoracle_server.chance import NumberedStreams
from hyperoracle_server.hyper_actions import HyperActionGrid
from hyperoracle_server.hyper_agents import one_config
from hyperoracle_server.hyper_agents.base import CurvePoint, Decision, Moment
from hyperoracle_server.hyper_agents.one_config import OneConfigAgent
from hyperoracle_server.value_model.guards import FIRST_PAUSE

DEFAULT, BEST, EXPLORED = 1, 3, [0, 2, 4]


class PlainAgent(OneConfigAgent):
    """Exploits one hyper-action, explores three others."""

    def __init__(self) -> None:
        super().__init__(HyperActionGrid((5,), (DEFAULT,)), RoleSetting())

    def best(self) -> int:
        return BEST

    def to_explore(self) -> list[int]:
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
    agent.observe(job_id, [CurvePoint(100, value)])
    agent.close(job_id, "completed")


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


def test_a_return_that_comes_late_weighs_nothing_and_takes_no_weight_from_others():
    """Hand-computed: 100 env steps at 4, 50 at 10, none at 99, 50 at 2."""
    agent = PlainAgent()
    decide(agent, 1, "exploit")
    agent.observe(1, [CurvePoint(100, 4.0), CurvePoint(150, 10.0), CurvePoint(120, 99.0)])
    agent.observe(1, [CurvePoint(200, 2.0)])
    agent.close(1, "completed")
    assert agent._jobs.of(1).score == (400 + 500 + 100) / 200


def test_only_explored_jobs_that_came_to_their_end_make_exploration_rarer():
    """By `roles.drawn_role`, exploration is certain as long as none has."""
    chance = NumberedStreams(0)

    def roles(agent: OneConfigAgent) -> set[Role]:
        return {
            agent.assigned_role(n, chance.stream, chance.stream((n + 1) << 32))
            for n in range(10, 60)
        }

    agent = PlainAgent()
    for job_id in range(200):
        decide(agent, job_id, "explore")
        agent.observe(job_id, [CurvePoint(100, 1.0)])
        agent.close(job_id, "failed")
    assert roles(agent) == {"control", "explore"}
    for job_id in range(200):
        agent.close(job_id, "completed")
    assert "exploit" in roles(agent)


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
    agent.observe(50, [CurvePoint(100, -99.0)])
    agent.close(50, "completed")
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
    agent.observe(2, [CurvePoint(200, 1.0)])
    assert agent.guards().times_behind == 0
    agent.close(2, "completed")
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
            agent.observe(number, [CurvePoint(100, float(value))])
            agent.close(number, "completed" if is_whole else "interrupted")
        again = PlainAgent()
        for number in range(len(jobs)):
            notes = agent.notes(number)
            assert notes is not None
            again.restore(number, notes)
        assert again.guards() == agent.guards()
