"""`cautious_config` against the textbook's formulas, and what it must never do."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.whole_jobs import decide, ending, fall_behind, run_with

from hyperoracle_protocol.strategies import CautiousConfigStrategy
from hyperoracle_server.strategies.decisions import LARGEST_RETURN, CurvePoint
from hyperoracle_server.strategies.grid import HyperActionGrid
from hyperoracle_server.strategies.one_config.cautious import CautiousConfigAgent
from hyperoracle_server.strategies.value_model.gaussian_process import SCALES


def agent_of(bins=(7,), default=(3,), ordered=(True,), **settings) -> CautiousConfigAgent:
    strategy = CautiousConfigStrategy(**settings)
    return CautiousConfigAgent(HyperActionGrid(bins, default), ordered, strategy)


def whole_jobs(agent: CautiousConfigAgent, *jobs: tuple[int, float], first: int = 1) -> None:
    """Jobs that ran with an action to their ends, each at one return all the way."""
    for job_id, (action, value) in enumerate(jobs, first):
        run_with(agent, job_id, action, value)


def textbook_effects(bins: list[int], scores: list[float], count: int, default: int):
    """Means and deviations of the bins by the dense formulas, the most likely scales first.

    Rasmussen and Williams 2006, Eq. 2.23 to 2.24 and 2.30, with inverses written out.
    """
    y = np.array(scores)
    deviation = 1.4826 * np.median(np.abs(y - np.median(y)))
    y = np.clip((y - np.median(y)) / deviation, -3, 3)

    def k(i, j):
        def rbf(a, b):
            return math.exp(-0.5 * ((a - b) / 1.5) ** 2)

        return rbf(i, j) - rbf(i, default) * rbf(default, j)

    tried = np.array([[k(i, j) for j in bins] for i in bins])
    every = np.array([[k(i, j) for j in bins] for i in range(count)])
    prior = np.array([k(i, i) for i in range(count)])
    found = []
    for scales in SCALES:
        covariance = scales.baseline_variance + scales.effect_variance * tried
        covariance = covariance + (scales.noise_variance + 1e-9) * np.eye(len(bins))
        inverse = np.linalg.inv(covariance)
        likelihood = -0.5 * (y @ inverse @ y + np.linalg.slogdet(covariance)[1])
        shared = scales.effect_variance * every
        means = shared @ inverse @ y
        variances = scales.effect_variance * prior - np.diag(shared @ inverse @ shared.T)
        likelihood -= 0.5 * math.log(scales.effect_variance)
        found.append((likelihood, means, np.sqrt(np.maximum(variances, 0.0))))
    return max(found, key=lambda each: each[0])[1:]


JOBS = [(3, 5.0), (3, 6.0), (4, 9.0), (2, 3.0), (4, 8.5), (5, 11.0), (3, 5.5), (5, 9.5), (6, 2.0)]


def test_effects_are_those_of_the_dense_formulas():
    agent = agent_of()
    whole_jobs(agent, *JOBS)
    means, deviations = textbook_effects(*map(list, zip(*JOBS, strict=True)), 7, 3)
    (effects,) = agent.knowledge.effects
    # Both are float64 sums over 9 records.
    assert effects.means == pytest.approx(means, abs=1e-9)
    assert np.sqrt(np.diag(effects.covariance).clip(0)) == pytest.approx(deviations, abs=1e-7)
    lower = means - 0.5 * deviations
    lower[[0, 6]] = -np.inf  # out of reach: beside nothing good
    assert agent.best() == int(lower.argmax()) == 4


def test_a_default_of_which_nothing_is_known_is_kept():
    agent = agent_of()
    assert decide(agent, 1, "exploit").hyper_action == 3
    assert decide(agent, 2, "control").hyper_action == 3
    first, second = (decide(agent, job_id, "explore") for job_id in (3, 4))
    # Its neighbours are tried first, one job each.
    assert {first.hyper_action, second.hyper_action} == {2, 4}
    assert (first.explored, first.propensity, second.propensity) == (True, 0.5, 1.0)


def test_two_lucky_jobs_are_not_enough_but_many_jobs_are():
    noise = [0.0, 1.0, -1.0, 2.0, -2.0, 1.5, -1.5, 0.5]
    agent = agent_of()
    whole_jobs(agent, *[(3, 10.0 + each) for each in noise])
    whole_jobs(agent, (4, 13.0), (4, 12.5), first=20)
    assert agent.best() == 3, "two jobs"
    whole_jobs(agent, *[(4, 12.5 + each) for each in noise], first=30)
    assert agent.best() == 4


def test_a_stuck_job_of_the_default_is_no_reason_to_leave_it():
    """The mean would: 64 for the default, 90 for its neighbour."""
    agent = agent_of()
    whole_jobs(agent, (3, 100.0), (3, -300.0), (3, 101.0), (3, 99.0), (3, 102.0), (3, 99.0))
    whole_jobs(agent, (4, 90.0), (4, 91.0), (4, 89.0), first=10)
    assert agent.best() == 3


def test_exploration_stops_where_nothing_can_be_better():
    noise = [0.0, 1.0, -1.0, 0.5, -0.5, 0.2]
    agent = agent_of()
    for bin_number, level in ((3, 10.0), (2, 0.0), (4, 0.0)):
        whole_jobs(
            agent, *[(bin_number, level + each) for each in noise], first=1 + 100 * bin_number
        )
    decision = decide(agent, 1, "explore")
    assert (decision.hyper_action, decision.propensity) == (3, 1.0)


def test_exploration_changes_one_hyperparameter_of_what_is_exploited():
    agent = agent_of((5, 3), (2, 1), (True, False), jobs_needed=1)
    grid = agent._grid
    good, default = grid.joint_index((3, 1)), grid.default_joint_index
    noise = [0.0, 1.0, -1.0, 0.5, -0.5, 0.2, -0.2]
    whole_jobs(agent, *[(default, 10.0 + each) for each in noise])
    whole_jobs(agent, *[(good, 20.0 + each) for each in noise], first=20)
    assert grid.bins(agent.best()) == (3, 1)
    tried = {grid.bins(decide(agent, 100 + i, "explore").hyper_action) for i in range(3)}
    # One step further, or another name; back below the default looks worse.
    assert tried == {(4, 1), (3, 0), (3, 2)}


def test_exploiting_jobs_get_the_default_for_a_while_after_they_fell_behind():
    agent = agent_of(jobs_needed=1)
    whole_jobs(agent, *[(3, 1.0 + 0.01 * i) for i in range(6)])
    whole_jobs(agent, *[(4, 9.0 + 0.01 * i) for i in range(6)], first=10)
    assert agent.best() == 4
    job = fall_behind(agent, first=100)
    assert decide(agent, job, "exploit").hyper_action == 3
    assert agent.guards() == (0, 1, agent.guard.pause)


def test_a_job_that_goes_on_after_its_end_does_not_count_until_it_ends_again():
    agent = agent_of()
    whole_jobs(agent, *JOBS)
    before = agent.knowledge.jobs.tolist()
    agent.reopen(2)
    assert agent.knowledge.jobs.tolist() == [job for job in before if job != 2]


def test_notes_bring_back_every_decision():
    agent, again = agent_of(), agent_of()
    whole_jobs(agent, *JOBS)
    for number, _ in list(agent._jobs.items()):
        again.restore(number, agent.notes(number))
    for role in ("exploit", "explore", "control"):
        one, other = (decide(each, 100, role, seed=3) for each in (agent, again))
        assert one[:4] == other[:4]
        assert one.evidence.q_values.tolist() == other.evidence.q_values.tolist()
        agent._jobs._notes.pop(100)
        again._jobs._notes.pop(100)


@settings(deadline=None)  # what else the machine does may slow any example down
@given(
    st.lists(
        st.tuples(
            st.integers(0, 6),
            st.one_of(
                st.floats(-LARGEST_RETURN, LARGEST_RETURN), st.sampled_from([0.0, 1.0, -500.0])
            ),
        ),
        max_size=12,
    ),
    st.sampled_from(["explore", "exploit", "control"]),
)
def test_whatever_was_returned_a_decision_is_made_within_one_step_of_what_was_tried(jobs, role):
    agent = agent_of()
    whole_jobs(agent, *jobs)
    decision = decide(agent, 1000, role)
    within = {3} | {action for action, _ in jobs}
    assert any(abs(decision.hyper_action - each) <= 1 for each in within)
    assert 0 < decision.propensity <= 1
    assert role == "explore" or not decision.explored


def test_a_return_beyond_all_measure_counts_as_a_very_large_one():
    """Would fail with sums that overflow: infinity less infinity is not a number."""
    points = [CurvePoint.of(step, value) for step, value in ((1, 1.7e308), (2, -1.7e308), (3, 5.0))]
    assert [each.value for each in points] == [LARGEST_RETURN, -LARGEST_RETURN, 5.0]
    score = ending(points).score
    assert score == pytest.approx(5.0 / 3.0, abs=1e90)
    assert math.isfinite(score)
