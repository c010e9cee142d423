"""The guards of `anchored`, on planted courses."""

import numpy as np
import pytest

from hyperoracle_server.strategies.value_model.course import Course
from hyperoracle_server.strategies.value_model.guards import FIRST_PAUSE, StudyGuard, has_fallen


def climbing(seed: int) -> Course:
    noise = np.random.default_rng(seed).normal(size=16)
    return Course(levels=(10.0 * np.arange(16) + noise).tolist())


def test_an_unusual_fall_is_a_fall_and_usual_changes_are_none():
    others = [climbing(seed) for seed in range(8)]
    for seed in range(8, 40):
        course = climbing(seed)
        assert not has_fallen(course, others)
        course.levels[-1] = course.levels[-2] - 20.0
        assert has_fallen(course, others)


def test_a_fall_needs_something_to_compare_it_with():
    course = Course(levels=[100.0, -100.0])
    assert not has_fallen(course, [course, climbing(0), climbing(1), climbing(2)])
    assert has_fallen(course, [course, *map(climbing, range(6))])
    assert not has_fallen(Course(levels=[-100.0]), map(climbing, range(6)))


def test_a_fall_is_one_whatever_the_unit_of_the_return():
    for unit in (1e-9, 1.0, 1e12):
        others = [
            Course(levels=[unit * level for level in climbing(seed).levels]) for seed in range(8)
        ]
        course = Course(levels=[level * unit for level in (10.0, 20.0, -50.0)])
        assert has_fallen(course, others)


def ended(role: str, score: float, *, is_free: bool = True) -> Course:
    return Course(role=role, is_free=is_free, outcome="whole", score=score)


def below(exploit, control) -> bool:
    return len(exploit) >= 2 and len(control) >= 2 and max(exploit) < min(control)


def test_a_study_whose_advice_does_harm_goes_back_to_the_defaults_for_a_while():
    guard = StudyGuard(below)
    for course in (ended("control", 5.0), ended("exploit", 1.0), ended("control", 6.0)):
        guard.job_ended(course.as_ended_job)
    assert (guard.trips, guard.pause) == (0, 0)
    guard.job_ended(ended("exploit", 2.0).as_ended_job)
    assert (guard.trips, guard.pause) == (1, FIRST_PAUSE)
    for _ in range(FIRST_PAUSE):
        assert guard.pause
        guard.job_ended(ended("exploit", 1.0, is_free=False).as_ended_job)
    assert guard.pause == 0
    # What was seen before does not count any more.
    guard.job_ended(ended("exploit", 1.0).as_ended_job)
    guard.job_ended(ended("control", 5.0).as_ended_job)
    assert guard.pause == 0
    guard.job_ended(ended("exploit", 1.0).as_ended_job)
    guard.job_ended(ended("control", 5.0).as_ended_job)
    assert (guard.trips, guard.pause) == (2, 2 * FIRST_PAUSE)


def test_exploring_jobs_and_those_without_a_score_are_not_compared():
    guard = StudyGuard(below)
    unscored = Course(role="exploit", outcome="interrupted")
    for course in [ended("explore", -9.0), unscored, ended("exploit", -9.0, is_free=False)] * 3:
        guard.job_ended(course.as_ended_job)
        guard.job_ended(ended("control", 5.0).as_ended_job)
    assert guard.trips == 0


@pytest.mark.parametrize("outcome", ["whole", "failed"])
def test_a_job_that_failed_is_compared_too(outcome):
    guard = StudyGuard(below)
    for _ in range(2):
        guard.job_ended(ended("control", 5.0).as_ended_job)
        course = Course(role="exploit", outcome=outcome, score=1.0)
        guard.job_ended(course.as_ended_job)
    assert guard.trips == 1


def test_jobs_are_compared_with_those_of_their_own_task():
    guard = StudyGuard(below)
    for _ in range(3):
        guard.job_ended(ended("control", 5.0).as_ended_job._replace(task="one"))
        guard.job_ended(ended("exploit", 1.0).as_ended_job._replace(task="another"))
    assert guard.trips == 0
