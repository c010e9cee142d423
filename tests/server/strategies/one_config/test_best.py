"""`best_config` against numbers worked out by hand."""

import numpy as np
import pytest
from support.whole_jobs import decide, fall_behind, run, run_with

from hyperoracle_protocol.jobs import Role
from hyperoracle_protocol.strategies import BestConfigStrategy
from hyperoracle_server.strategies.decisions import FOR_EVER
from hyperoracle_server.strategies.evidence.exposure import Avoided
from hyperoracle_server.strategies.grid import HyperActionGrid
from hyperoracle_server.strategies.one_config.best import BestConfigAgent


def agent_of(bins=(5,), default=(2,), ordered=(True,), **settings) -> BestConfigAgent:
    return BestConfigAgent(HyperActionGrid(bins, default), ordered, BestConfigStrategy(**settings))


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
        run(agent, job_id, float(action))
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
    run(agent, 3, 100.0)
    assert agent.best() == 2


def test_exploiting_jobs_get_the_default_for_a_while_after_they_fell_behind():
    agent = agent_of(jobs_needed=1)
    run_with(agent, 1, 2, 0.0)
    run_with(agent, 2, 4, 9.0)
    job = fall_behind(agent, first=10)
    agent._jobs.of(2).score = 1e9  # it still looks best
    assert agent.best() == 4
    assert decide(agent, job, "exploit").hyper_action == 2
    assert agent.guards() == (0, 1, agent.guard.pause)
    again = agent_of(jobs_needed=1)
    for number, _ in list(agent._jobs.items()):
        again.restore(number, agent.notes(number))
    assert again.guards() == agent.guards()


def test_scores_of_tasks_of_different_size_are_compared_on_a_common_scale():
    """Of either task 3 is best; by raw means 1 would be, which only the large one had."""
    agent = agent_of(jobs_needed=2)
    for job_id, (task, action, value) in enumerate(
        [("small", 2, 1.0), ("small", 2, 1.1), ("small", 3, 2.0), ("small", 3, 2.1),
         ("large", 2, 1000.0), ("large", 2, 1100.0), ("large", 1, 1010.0), ("large", 1, 1020.0),
         ("large", 3, 2000.0)]
    ):  # fmt: skip
        agent._jobs.of(job_id).task = task
        run_with(agent, job_id, action, value)
    assert agent.best() == 3


def test_what_jobs_died_of_is_neither_exploited_nor_explored():
    agent = agent_of(jobs_needed=1)
    run_with(agent, 1, 2, 0.0)
    run_with(agent, 2, 3, 9.0)
    avoided = Avoided([np.array([False, False, False, True, False])])
    assert (agent.best(), agent.best(avoided)) == (3, 2)
    assert 3 not in agent.to_explore(avoided)
