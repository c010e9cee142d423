"""`best_config` against numbers worked out by hand."""

import pytest
from support.whole_jobs import decide, fall_behind, run_with

from hyperoracle_protocol.jobs import Role
from hyperoracle_protocol.strategies import BestConfigStrategy
from hyperoracle_server.hyper_actions import HyperActionGrid
from hyperoracle_server.hyper_agents.base import CurvePoint
from hyperoracle_server.hyper_agents.best_config import BestConfigAgent
from hyperoracle_server.hyper_agents.holding import FOR_EVER


def agent_of(bins=(5,), default=(2,), ordered=(True,), **settings) -> BestConfigAgent:
    return BestConfigAgent(HyperActionGrid(bins, default), ordered, BestConfigStrategy(**settings))


def test_a_score_is_the_area_under_the_curve_over_env_steps():
    agent = agent_of()
    decide(agent, 1)
    agent.observe(1, [CurvePoint(100, 10.0), CurvePoint(150, 40.0)])
    agent.observe(1, [CurvePoint(400, 2.0)])
    assert agent._jobs.of(1).score is None, "not before the end"
    agent.close(1, "completed")
    # 1000 and 2000 and 500 over 400 env steps.
    assert agent._jobs.of(1).score == 8.75


def test_a_job_that_died_or_was_resumed_has_no_score():
    agent = agent_of()
    agent.observe(1, [CurvePoint(100, 10.0)])
    agent.close(1, "failed")
    assert agent._jobs.of(1).score is None
    agent.close(1, "completed")
    assert agent._jobs.of(1).score == 10.0
    agent.observe(1, [CurvePoint(200, 20.0)])
    assert agent._jobs.of(1).score is None


def test_the_best_mean_with_enough_jobs_is_exploited():
    agent = agent_of(jobs_needed=2)
    for job_id, (action, value) in enumerate(
        [(2, 5.0), (2, 7.0), (3, 4.0), (3, 10.0), (1, 6.0), (1, 6.5), (4, 99.0)]
    ):
        run_with(agent, job_id, action, value)
    # Means 6, 7 and 6.25; the 99 has one job behind it.
    decision = decide(agent, 50, "exploit")
    assert (decision.hyper_action, decision.explored, decision.propensity) == (3, False, 1.0)
    assert decision.hold_until_env_step == FOR_EVER


def test_the_default_is_kept_until_it_has_enough_jobs_itself():
    agent = agent_of(jobs_needed=2)
    run_with(agent, 1, 3, 10.0)
    run_with(agent, 2, 3, 10.0)
    run_with(agent, 3, 2, 1.0)
    assert decide(agent, 50, "exploit").hyper_action == 2
    run_with(agent, 4, 2, 1.0)
    assert decide(agent, 51, "exploit").hyper_action == 3


def test_equal_means_go_to_what_is_nearest_to_the_default():
    agent = agent_of(jobs_needed=1)
    for job_id, action in enumerate([0, 4, 1, 2]):
        run_with(agent, job_id, action, 0.1 if action == 2 else 0.3)
    assert decide(agent, 50, "exploit").hyper_action == 1


def test_exploration_tries_the_default_then_its_neighbours_then_those_of_the_best():
    agent = agent_of(jobs_needed=1)
    tried = [decide(agent, job_id, "explore").hyper_action for job_id in range(3)]
    assert tried[0] == 2
    assert sorted(tried[1:]) == [1, 3]
    for job_id, action in enumerate(tried):
        agent.observe(job_id, [CurvePoint(10, float(action))])
        agent.close(job_id, "completed")
    # 3 is the best now: 4 comes into reach and is untried, 0 does not.
    fourth = decide(agent, 3, "explore")
    assert (fourth.hyper_action, fourth.explored, fourth.propensity) == (4, True, 1.0)
    # All in reach were tried once: the default is the nearest.
    assert decide(agent, 4, "explore").hyper_action == 2


def test_one_step_changes_one_hyperparameter_and_names_have_no_order():
    agent = agent_of((3, 4), (1, 0), (True, False))
    grid = agent._grid
    around = {grid.bins(a) for a in agent._around(grid.default_joint_index)}
    assert around == {(1, 0), (0, 0), (2, 0), (1, 1), (1, 2), (1, 3)}


def test_exploration_says_how_probable_its_choice_was():
    agent = agent_of()
    run_with(agent, 1, 2, 1.0)
    # The default was given, its two neighbours never: chance has both.
    decision = decide(agent, 101, "explore")
    assert (decision.explored, decision.propensity) == (True, 0.5)


@pytest.mark.parametrize("role", ["explore", "exploit", "control"])
def test_a_job_keeps_its_hyper_action_whatever_is_learned_meanwhile(role: Role):
    agent = agent_of(jobs_needed=1)
    first = decide(agent, 1, role)
    for job_id in range(2, 6):
        run_with(agent, job_id, 2, 0.0)
        run_with(agent, 10 * job_id, 4, 9.0)
    assert decide(agent, 1, role, seed=5) == first


def test_a_control_job_gets_the_default_and_counts_for_it():
    agent = agent_of(jobs_needed=1)
    run_with(agent, 1, 2, 0.0)
    run_with(agent, 2, 4, 9.0)
    assert decide(agent, 3, "control").hyper_action == 2
    agent.observe(3, [CurvePoint(1, 100.0)])
    agent.close(3, "completed")
    assert agent.best() == 2


def test_exploiting_jobs_get_the_default_for_a_while_after_they_fell_behind():
    agent = agent_of(jobs_needed=1)
    run_with(agent, 1, 2, 0.0)
    run_with(agent, 2, 4, 9.0)
    job = fall_behind(agent, first=10)
    agent._jobs.of(2).total = 1e9  # it still looks best
    assert agent.best() == 4
    assert decide(agent, job, "exploit").hyper_action == 2
    assert agent.guards() == (0, 1, agent.guard.pause)
    again = agent_of(jobs_needed=1)
    for number, _ in list(agent._jobs.items()):
        again.restore(number, agent.notes(number))
    assert again.guards() == agent.guards()
