from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.learning_curve import LARGEST, LearningCurve

RETURNS = st.floats(-1e6, 1e6)
POINTS = st.lists(st.tuples(st.integers(0, 1200), RETURNS), min_size=1, max_size=30)


def curve_of(*points: tuple[int, float], planned: int = 100) -> LearningCurve:
    curve = LearningCurve(planned)
    curve.extend(points)
    return curve


def test_each_return_weighs_the_env_steps_since_the_report_before() -> None:
    curve = curve_of((20, 1.0), (50, 2.0), (100, 4.0))
    assert curve.mean_return == (20 * 1 + 30 * 2 + 50 * 4) / 100


def test_the_final_return_is_the_mean_over_the_last_tenth_only() -> None:
    # The last tenth is 90 to 100: three env steps of 5, seven of 9.
    assert curve_of((80, 1.0), (93, 5.0), (100, 9.0)).final_return == pytest.approx(7.8)


def test_what_is_past_the_planned_end_belongs_to_the_last_part() -> None:
    assert curve_of((90, 1.0), (100, 2.0), (130, 6.0)).final_return == 5.0


def test_a_curve_that_ends_before_the_last_tenth_ends_at_its_newest_return() -> None:
    curve = curve_of((40, 1.0), (80, 3.0))
    assert curve.final_return == 3.0
    assert curve.mean_return == 2.0


def test_without_returns_or_env_steps_there_is_no_score() -> None:
    empty, at_the_start = curve_of(), curve_of((0, 7.0))
    assert (empty.mean_return, empty.final_return) == (None, None)
    assert (at_the_start.mean_return, at_the_start.final_return) == (None, 7.0)


def test_a_return_that_comes_twice_at_an_env_step_stands_for_nothing_the_second_time() -> None:
    assert curve_of((50, 1.0), (50, 99.0), (30, 99.0), (100, 2.0)).mean_return == 1.5


def test_sums_that_are_no_usable_numbers_make_no_score() -> None:
    for value in (1e308, -1e308, 2 * LARGEST):
        curve = curve_of((50, value), (100, value))
        assert (curve.mean_return, curve.final_return) == (None, None)
        again = LearningCurve.load(100, curve.dump())
        assert (again.mean_return, again.final_return) == (None, None)


@given(POINTS, st.integers(1, 1000))
def test_it_agrees_with_a_curve_drawn_env_step_by_env_step(
    points: list[tuple[int, float]], planned: int
) -> None:
    drawn: list[Fraction] = []  # the return of each env step
    for env_step, value in points:
        drawn += [Fraction(value)] * (env_step - len(drawn))
    curve = curve_of(*points, planned=planned)
    last = drawn[planned - planned // 10 :]
    tolerance = 1e-9 * max(abs(value) for _, value in points)
    if drawn:
        assert abs(curve.mean_return - sum(drawn) / len(drawn)) <= tolerance
    else:
        assert curve.mean_return is None
    expected = sum(last) / len(last) if last else Fraction(points[-1][1])
    assert abs(curve.final_return - expected) <= tolerance


@given(POINTS, POINTS)
def test_dumped_and_loaded_it_goes_on_to_exactly_the_same_numbers(
    first: list[tuple[int, float]], later: list[tuple[int, float]]
) -> None:
    straight, stopped = curve_of(*first), curve_of(*first)
    resumed = LearningCurve.load(100, stopped.dump())
    assert resumed == stopped
    straight.extend(later)
    resumed.extend(later)
    assert resumed == straight
