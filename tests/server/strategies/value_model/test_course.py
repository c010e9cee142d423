"""What is noted of a job, against numbers worked out by hand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.strategies.evidence.job_account import Ending
from hyperoracle_server.strategies.notes import JobNotes
from hyperoracle_server.strategies.value_model.course import Course, progress_of, quantile


def course_of(total: int = 400) -> Course:
    course = Course(total_env_steps=total)
    course.observe(100, 10.0)
    course.decide(2, 100, 3)
    course.observe(200, 20.0)
    course.decide(4, 200, 5)
    course.observe(300, 40.0)
    course.observe(400, 60.0)
    return course


def test_an_advantage_is_half_the_rise_at_once_and_half_the_rise_to_the_end():
    course = course_of()
    course.outcome = "whole"
    course.shown = 1.0
    first, second = course.judged(0.0)
    # After 100: 20 at once, (20 + 40 + 60) / 3 = 40 to the end; before: 10.
    assert first == (0.25, 10.0, 3, 0.5 * 10 + 0.5 * 30)
    # After 200: 50 both; before: 20.
    assert second == (0.5, 20.0, 5, 30.0)


def test_returns_weigh_as_many_env_steps_as_passed():
    course = Course(total_env_steps=100)
    course.decide(1, 0, 2)
    course.observe(10, 100.0)
    course.observe(100, 0.0)
    course.outcome = "whole"
    course.shown = 1.0
    # Nothing was known before: 30 stands for it. Mean return after: 10.
    assert course.judged(30.0) == [(0.0, 30.0, 2, -20.0)]


def test_a_report_that_comes_after_the_next_decision_counts_for_its_own():
    late = Course(total_env_steps=400)
    late.observe(100, 10.0)
    late.decide(2, 100, 3)
    late.decide(4, 200, 5)
    for env_step, value in ((200, 20.0), (300, 40.0), (400, 60.0)):
        late.observe(env_step, value)
    late.outcome = "whole"
    late.shown = 1.0
    expected = course_of()
    expected.outcome = "whole"
    expected.shown = 1.0
    assert late.judged(0.0) == expected.judged(0.0)


def test_a_job_that_was_interrupted_counts_up_to_where_it_came():
    course = course_of(total=800)
    course.outcome = "interrupted"
    course.shown = 1.0
    assert course.judged(0.0)[1].advantage == 30.0


@pytest.mark.parametrize("outcome", ["failed", "diverged", "lapsed"])
def test_a_job_that_was_lost_counts_to_its_planned_end_with_the_worst_return(outcome):
    course = course_of(total=800)
    course.end(Ending(outcome, 1.0, 1.0, floor=5.0, shown=1.0))
    # 400 env steps at 5 are missing; they belong to the last decision.
    assert course.judged(0.0)[1].advantage == pytest.approx((40 + 60 + 4 * 5) / 6 - 20)
    assert course.judged(0.0)[0].advantage == pytest.approx(
        0.5 * 10 + 0.5 * ((20 + 40 + 60 + 20) / 7 - 10)
    )


def test_a_job_that_was_good_enough_counts_to_its_planned_end_with_what_it_went_on_with():
    course = course_of(total=800)
    course.end(Ending("reached", 1.0, 1.0, floor=5.0, shown=1.0, last=70.0))
    assert course.judged(0.0)[1].advantage == pytest.approx((40 + 60 + 4 * 70) / 6 - 20)


def test_a_decision_without_a_return_after_it_is_not_judged():
    course = course_of(total=800)
    course.decide(9, 400, 1)
    course.outcome = "interrupted"
    course.shown = 1.0
    assert [each.hyper_action for each in course.judged(0.0)] == [3, 5]
    assert Course().judged(0.0) == []


def test_what_the_job_used_instead_takes_the_place_of_what_was_decided():
    course = course_of()
    course.replace([4, 77], 2)
    course.outcome = "whole"
    course.shown = 1.0
    assert [each.hyper_action for each in course.judged(0.0)] == [3, 2]


def test_levels_are_the_returns_at_sixteenths_of_the_job():
    course = Course(total_env_steps=1600)
    course.observe(99, 1.0)
    assert course.levels == []
    course.observe(100, 2.0)
    course.observe(350, 3.0)
    assert course.levels == [2.0, 3.0, 3.0]
    course.observe(10_000, 4.0)
    assert course.levels == [2.0, 3.0, 3.0, *[4.0] * 13]


@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(-1e6, 1e6)), max_size=30), st.integers(0, 9)
)
def test_notes_come_back_exactly(steps, decided_at):
    notes, env_step = JobNotes(Course), 0
    course = notes.of(7)
    course.total_env_steps = 500
    for number, (more, value) in enumerate(steps):
        if number == decided_at:
            course.decide(number + 1, env_step, 3)
        env_step += more
        course.observe(env_step, value)
    again = JobNotes(Course)
    text = notes.dump(7)
    again.restore(7, text)
    assert again.of(7) == course
    assert again.dump(7) == text
    json.loads(text)


def test_quantiles_count_equal_values_half():
    assert [quantile(v, [1.0, 2.0, 2.0, 4.0]) for v in (0.0, 1.0, 2.0, 3.0, 9.0)] == [
        0.0, 0.125, 0.5, 0.75, 1.0,
    ]  # fmt: skip
    assert quantile(None, [1.0]) == quantile(3.0, []) == 0.5


def test_progress_stays_within_the_job():
    assert [progress_of(s, 10) for s in (0, 5, 20)] == [0.0, 0.5, 1.0]
    assert progress_of(5, 0) == 0.0
