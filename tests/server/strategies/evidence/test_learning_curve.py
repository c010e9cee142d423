from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.strategies.evidence.learning_curve import LearningCurve

RETURNS = st.floats(-1e6, 1e6)
POINTS = st.lists(st.tuples(st.integers(0, 1200), RETURNS), min_size=1, max_size=30)
MAYBE_LOST = st.lists(st.tuples(st.integers(0, 1200), st.none() | RETURNS), max_size=30)


def curve_of(*points: tuple[int, float | None], planned: int = 100) -> LearningCurve:
    curve = LearningCurve(planned)
    curve.extend(points)
    return curve


def test_each_return_weighs_the_env_steps_since_the_report_before() -> None:
    curve = curve_of((20, 1.0), (50, 2.0), (100, 4.0))
    assert curve.mean_return(0.0) == (20 * 1 + 30 * 2 + 50 * 4) / 100


def test_the_final_return_is_the_mean_over_the_last_tenth_only() -> None:
    # The last tenth is 90 to 100: three env steps of 5, seven of 9.
    assert curve_of((80, 1.0), (93, 5.0), (100, 9.0)).final_return(0.0) == pytest.approx(7.8)


def test_what_is_past_the_planned_end_belongs_to_the_last_part() -> None:
    assert curve_of((90, 1.0), (100, 2.0), (130, 6.0)).final_return(0.0) == 5.0


def test_a_curve_that_ends_before_the_last_tenth_ends_at_its_newest_return() -> None:
    curve = curve_of((40, 1.0), (80, 3.0))
    assert curve.final_return(0.0) == 3.0
    assert curve.mean_return(0.0) == 2.0


def test_what_is_missing_counts_with_what_it_is_said_to_be_worth() -> None:
    curve = curve_of((40, 1.0), (95, 3.0))
    assert curve.mean_return(0.0, missing=-5.0) == pytest.approx((40 + 55 * 3 - 5 * 5) / 100)
    assert curve.final_return(0.0, missing=-5.0) == pytest.approx((5 * 3 - 5 * 5) / 10)
    assert curve_of((40, 1.0)).final_return(0.0, missing=-5.0) == -5.0


def test_a_return_that_was_lost_counts_with_what_it_is_said_to_be_worth() -> None:
    curve = curve_of((50, 4.0), (95, None), (100, 4.0))
    assert curve.mean_return(-2.0) == pytest.approx((50 * 4 - 45 * 2 + 5 * 4) / 100)
    assert curve.final_return(-2.0) == pytest.approx((-5 * 2 + 5 * 4) / 10)
    assert (curve.lost_weight, curve.ends_lost, curve.least) == (45, False, 4.0)
    assert curve_of((50, 4.0), (100, None)).ends_lost


def test_without_returns_or_env_steps_there_is_no_score() -> None:
    empty, at_the_start = curve_of(), curve_of((0, 7.0))
    assert (empty.mean_return(0.0), empty.final_return(0.0)) == (None, None)
    assert (at_the_start.mean_return(0.0), at_the_start.final_return(0.0)) == (None, 7.0)
    assert (empty.is_known, at_the_start.is_known, curve_of((5, None)).is_known) == (
        False, True, True,
    )  # fmt: skip


def test_a_return_that_comes_twice_at_an_env_step_stands_for_nothing_the_second_time() -> None:
    curve = curve_of((50, 1.0), (50, 99.0), (30, 99.0), (100, 2.0))
    assert curve.mean_return(0.0) == 1.5


def test_levels_are_the_returns_at_sixteenths_of_the_plan() -> None:
    curve = curve_of((99, 1.0), planned=1600)
    assert curve.levels == []
    curve.extend([(100, 2.0), (350, 3.0)])
    assert curve.levels == [2.0, 3.0, 3.0]


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
    mean, final = curve.mean_return(0.0), curve.final_return(0.0)
    if drawn:
        assert mean is not None
        assert abs(mean - sum(drawn) / len(drawn)) <= tolerance
    else:
        assert mean is None
    expected = sum(last) / len(last) if last else Fraction(points[-1][1])
    assert final is not None
    assert abs(final - expected) <= tolerance


@given(MAYBE_LOST, MAYBE_LOST)
def test_dumped_and_loaded_it_goes_on_to_exactly_the_same_numbers(
    first: list[tuple[int, float | None]], later: list[tuple[int, float | None]]
) -> None:
    straight, stopped = curve_of(*first), curve_of(*first)
    resumed = LearningCurve.load(100, json.loads(json.dumps(stopped.dump())))
    assert resumed == stopped
    straight.extend(later)
    resumed.extend(later)
    assert resumed == straight


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_six_sums_of_the_first_form_are_taken_in_the_direction_of_the_study(
    sign: float,
) -> None:
    old = "[100, 4.0, 100, 350.0, 10, 40.0]"
    curve = LearningCurve.load_first_form(100, old, sign)
    assert curve.mean_return(0.0) == sign * 3.5
    assert (curve.final_return(0.0), curve.newest) == (sign * 4.0, sign * 4.0)
