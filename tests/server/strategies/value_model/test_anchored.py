"""`anchored` on planted studies: what helps is found, what harms is left alone."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
from support.whole_jobs import ending

from hyperoracle_protocol.jobs import Role
from hyperoracle_protocol.strategies import AnchoredStrategy
from hyperoracle_server.strategies.decisions import FOR_EVER, CurvePoint, Decision, Moment
from hyperoracle_server.strategies.evidence.job_account import EndReason
from hyperoracle_server.strategies.grid import HyperActionGrid
from hyperoracle_server.strategies.value_model.anchored import AnchoredAgent, context_of
from hyperoracle_server.strategies.value_model.guards import FIRST_PAUSE

TOTAL, PARTS, DEFAULT = 1600, 16, 3
Rise = Callable[[int, float], float]  # (bin, progress) -> rise of the return in a sixteenth


def agent_of(bins=(7,), default=(DEFAULT,), ordered=(True,), **settings) -> AnchoredAgent:
    return AnchoredAgent(HyperActionGrid(bins, default), ordered, AnchoredStrategy(**settings))


def decide(agent, job: int, role: Role, env_step: int = 0, sequence: int = 1) -> Decision:
    moment = Moment(job, role, env_step, TOTAL, "none", None, sequence, {})
    return agent.decide(moment, np.random.default_rng([job, env_step]))


def run_job(
    agent: AnchoredAgent,
    job: int,
    role: Role,
    rise: Rise,
    *,
    unit: float = 1.0,
    noise: float = 1.0,
    parts: int = PARTS,
    reason: EndReason = "completed",
) -> list[int]:
    """A job whose return rises with its bins; what it was told, each decision's first bin."""
    rng = np.random.default_rng([job, 99])
    value, told, decision = float(rng.normal()), [], None
    points = [CurvePoint(1, unit * value)]
    agent.observe(job, points)
    for part in range(parts):
        env_step = part * TOTAL // PARTS
        if decision is None or env_step >= decision.hold_until_env_step or agent.withdraws(job):
            decision = decide(agent, job, role, env_step, 2 * part + 1)
            told.append(agent._grid.bins(decision.hyper_action)[0])
        value += rise(told[-1], part / PARTS) + noise * float(rng.normal())
        points.append(CurvePoint(env_step + TOTAL // PARTS, unit * value))
        agent.observe(job, points[-1:])
    agent.close(job, ending(points, reason, planned=TOTAL))
    return told


def study(agent: AnchoredAgent, rise: Rise, jobs: int = 16, first: int = 1, **options) -> None:
    """Exploring jobs, one of five a control."""
    for job in range(first, first + jobs):
        run_job(agent, job, "control" if job % 5 == 0 else "explore", rise, **options)


def upwards(bin_: int, _progress: float) -> float:
    return 1.0 + 0.8 * (bin_ - DEFAULT)


def best_at_default(bin_: int, _progress: float) -> float:
    return 3.0 - 0.8 * abs(bin_ - DEFAULT)


def test_with_nothing_known_only_exploring_jobs_leave_the_default_by_one_step():
    agent = agent_of()
    assert agent._grid.bins(decide(agent, 1, "exploit").hyper_action) == (DEFAULT,)
    assert agent._grid.bins(decide(agent, 2, "control").hyper_action) == (DEFAULT,)
    explored = {decide(agent, job, "explore").hyper_action for job in range(10, 60)}
    assert explored == {DEFAULT - 1, DEFAULT + 1}


def test_decisions_are_spread_evenly_and_held_between():
    agent = agent_of(decisions_per_job=4)
    until = [decide(agent, 1, "exploit", s).hold_until_env_step for s in (0, 399, 400, 1200)]
    assert until == [400, 400, 800, FOR_EVER]


def test_what_helps_is_found_and_exploited_from_three_jobs_on():
    agent = agent_of()
    study(agent, upwards)
    told = run_job(agent, 100, "exploit", upwards)
    assert min(told) > DEFAULT
    assert max(told) == 6, "two steps further than anything explored at first"


def test_no_job_leaves_the_default_for_what_too_few_jobs_stand_behind():
    agent = agent_of(jobs_needed=3)
    for job in (1, 2):
        course = agent._jobs.of(job)
        course.total_env_steps = TOTAL
        points = [CurvePoint(400 * (part + 1), 100.0 * (part + 1)) for part in range(4)]
        for part in range(4):
            course.decide(part, 400 * part, DEFAULT + 1)
            agent.observe(job, points[part : part + 1])
        agent.close(job, ending(points))
    for job in range(3, 9):
        run_job(agent, job, "control", best_at_default)
    assert agent.effects_at(0.5, 10.0)[0].means[DEFAULT + 1] > 0.5
    assert decide(agent, 50, "exploit", 800).hyper_action == DEFAULT
    assert agent_of(jobs_needed=2)._strategy.jobs_needed == 2


def test_a_default_that_is_best_is_kept_nearly_always():
    away = decisions = 0
    for seed in range(6):
        agent = agent_of()
        study(agent, best_at_default, first=1000 * seed + 1)
        for job in range(3):
            told = run_job(agent, 1000 * seed + 900 + job, "exploit", best_at_default)
            away += sum(bin_ != DEFAULT for bin_ in told)
            decisions += len(told)
    assert away / decisions < 0.1


def test_a_few_stuck_runs_do_not_poison_the_study():
    agent = agent_of()
    study(agent, upwards)
    before = run_job(agent, 100, "exploit", upwards)
    # Three jobs did what helps, and got stuck at a return far below all others.
    for job in (201, 202, 203):
        course = agent._jobs.of(job)
        course.total_env_steps = TOTAL
        for part in range(4):
            course.decide(part, 400 * part, DEFAULT + 2)
            agent.observe(job, [CurvePoint(400 * (part + 1), -1e9)])
        agent.close(job, ending([(1600, -1e9)]))
    after = run_job(agent, 101, "exploit", upwards)
    assert min(before) > DEFAULT
    assert min(after[1:]) > DEFAULT


def test_what_wrecks_training_is_left_alone():
    """From one bin on training diverges; up to there it gets better."""
    agent = agent_of()
    for job in range(1, 25):
        role: Role = "control" if job % 5 == 0 else "explore"
        trial = copy.deepcopy(agent)
        if max(run_job(trial, job, role, upwards)) >= DEFAULT + 2:
            run_job(agent, job, role, lambda *_: -3.0, parts=6, reason="failed")
        else:
            run_job(agent, job, role, upwards)
    for job in range(100, 105):
        assert max(run_job(copy.deepcopy(agent), job, "exploit", upwards)) <= DEFAULT + 1


@pytest.mark.parametrize("unit", [1e-6, 1e9])
def test_decisions_do_not_depend_on_the_unit_of_the_return(unit):
    told = []
    for scale in (1.0, unit):
        agent = agent_of()
        study(agent, upwards, unit=scale, jobs=10)
        told.append([run_job(agent, 100 + n, "exploit", upwards, unit=scale) for n in range(3)])
    assert told[0] == told[1]


def test_a_job_of_another_scale_does_not_undo_what_was_learned():
    """It counts as one of the best there can be, with the default: late decisions may go back."""
    agent = agent_of()
    study(agent, upwards)
    run_job(agent, 500, "control", upwards, unit=1e12)
    told = [
        bin_ for job in range(100, 105)
        for bin_ in run_job(copy.deepcopy(agent), job, "exploit", upwards)
    ]  # fmt: skip
    assert np.mean(np.array(told) > DEFAULT) > 0.5


def test_jobs_that_died_half_way_count_up_to_where_they_came():
    agent = agent_of()
    study(agent, upwards, parts=8, reason="interrupted")
    assert min(run_job(agent, 100, "exploit", upwards)[:2]) > DEFAULT
    assert agent.guard.trips == 0


def test_a_job_whose_return_falls_goes_back_to_the_default_at_once_and_stays():
    agent = agent_of()
    study(agent, upwards)
    agent.observe(300, [CurvePoint(1, 0.0)])
    assert decide(agent, 300, "exploit").hyper_action > DEFAULT
    for part, value in ((1, 2.0), (2, 4.0), (3, -40.0)):
        assert not agent.withdraws(300)
        agent.observe(300, [CurvePoint(part * TOTAL // PARTS, value)])
    assert agent.withdraws(300)
    assert agent.guards() == (1, 0, 0)
    assert decide(agent, 300, "exploit", 350, 5).hyper_action == DEFAULT
    assert not agent.withdraws(300)
    assert decide(agent, 300, "exploit", 1300, 7).hyper_action == DEFAULT


def test_an_answer_that_was_not_used_counts_as_the_default():
    agent = agent_of()
    study(agent, upwards)
    decide(agent, 300, "exploit", sequence=7)
    agent.not_applied(300, [7])
    assert agent._jobs.of(300).decisions[0].hyper_action == DEFAULT


def test_exploiting_jobs_pause_while_they_are_behind_the_controls():
    agent = agent_of()
    study(agent, upwards)
    job, told = 100, []
    while not agent.guard.trips:
        # The world has changed: what helped does harm.
        role: Role = "control" if job % 3 == 0 else "exploit"
        told += run_job(agent, job, role, lambda bin_, _: 1.0 - abs(bin_ - DEFAULT))
        job += 1
        assert job < 160, "60 jobs must do"
    assert max(told) > DEFAULT
    assert agent.guards()[1:] == (1, FIRST_PAUSE)
    assert set(run_job(agent, job, "exploit", upwards)) == {DEFAULT}
    assert agent.guards()[1:] == (1, FIRST_PAUSE - 1)


def test_a_job_that_goes_on_after_its_end_counts_once():
    agent = agent_of()
    run_job(agent, 1, "control", upwards, parts=8, reason="interrupted")
    run_job(agent, 2, "control", upwards)
    before = len(agent.knowledge.jobs)
    agent.reopen(1)
    agent.observe(1, [CurvePoint(TOTAL // 2 + 50, 8.0)])
    assert len(agent.knowledge.jobs) < before
    agent.observe(1, [CurvePoint(TOTAL, 9.0)])
    agent.close(1, ending([(TOTAL, 9.0)]))
    assert [course.ended for course in agent._ended()] == [2, 3]


def test_two_hyperparameters_are_learned_apart():
    agent = agent_of((7, 3), (3, 1), (True, False))
    study(agent, upwards, jobs=30)
    bins = agent._grid.bins(decide(agent, 100, "exploit", 800).hyper_action)
    assert bins[0] > 3
    evidence = decide(agent, 101, "exploit", 800).evidence
    assert evidence.q_values.shape == evidence.known.shape == (21,)
    assert evidence.q_values[agent._grid.default_joint_index] == 0.0


def test_the_context_is_the_middle_where_nothing_is_known():
    assert context_of(0.0, None, [1.0, 2.0]).tolist() == [-1.0, 0.0]
    assert context_of(1.0, 5.0, [1.0, 2.0]).tolist() == [1.0, 1.0]
