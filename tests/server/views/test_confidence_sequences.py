from __future__ import annotations

from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperoracle_server.views.confidence_sequences import (
    ALPHA,
    LEAST_JOBS,
    LEAST_JOBS_FOR_MEANS,
    AnytimeInterval,
    mean_difference,
    midranks,
    probability_of_improvement,
    relative_difference,
    standard_errors_at,
)

UNHURRIED = settings(deadline=None, max_examples=50)  # others may use the cores
SCORES = st.lists(st.integers(-5, 5), min_size=LEAST_JOBS, max_size=25)
MANY_SCORES = st.lists(st.integers(-5, 5), min_size=LEAST_JOBS_FOR_MEANS, max_size=30)


def array(scores: list[int]) -> np.ndarray:
    return np.array(scores, dtype=np.float64)


def slow_improvement(group: np.ndarray, baseline: np.ndarray) -> AnytimeInterval:
    """Pair by pair, the permutation variance with ties by its formula, θ by trying."""
    n, m = len(group), len(baseline)
    wins = np.array([[(x > y) + 0.5 * (x == y) for y in baseline] for x in group])
    value = wins.mean()
    u = standard_errors_at(n * m / (n + m))
    _, tied = np.unique(np.concatenate((group, baseline)), return_counts=True)
    total = n + m
    ties = np.sum(tied**3 - tied) / (total**3 - total)
    alike = (total + 1) / (12 * n * m) * (1 - ties)
    apart = sum(
        np.var([*placements, 0.0, 1.0], ddof=1) / len(placements)
        for placements in (wins.mean(axis=1), 1 - wins.mean(axis=0))
    )
    thetas = np.linspace(0.0, 1.0, 20_001)
    squared = (value - thetas) ** 2
    near = (squared <= u**2 * apart) | (squared <= u**2 * 4 * thetas * (1 - thetas) * alike)
    return AnytimeInterval(value, thetas[near].min(), thetas[near].max())


@UNHURRIED
@given(SCORES, SCORES)
def test_the_probability_of_improvement_is_that_of_a_slow_reference(
    group: list[int], baseline: list[int]
) -> None:
    found = probability_of_improvement(array(group), array(baseline))
    np.testing.assert_allclose(found, slow_improvement(array(group), array(baseline)), atol=1e-4)


def test_the_probability_of_improvement_by_hand() -> None:
    # Of 25 pairs 22 are won, and 5 against 5 is a tie.
    found = probability_of_improvement(array([3, 5, 7, 8, 9]), array([0, 1, 2, 4, 5]))
    assert found.value == pytest.approx(22.5 / 25)
    # Placements 0.6, 0.9, 1, 1, 1 and 0, 0, 0, 0.2, 0.3; with 0 and 1 added, their squared
    # deviations sum up to 0.84857 and 0.80857. The first boundary is 2.7966.
    error = np.sqrt(0.84857 / 6 / 5 + 0.80857 / 6 / 5)
    assert found.low == pytest.approx(0.9 - 2.7966 * error, abs=1e-4)
    assert found.high == 1.0


def test_the_difference_of_means_by_hand() -> None:
    # Each value ten times: means 2 and 1, variances 20 / 19; around the common mean 50 / 39.
    found = mean_difference(np.repeat([1.0, 3.0], 10), np.repeat([0.0, 2.0], 10))
    u = standard_errors_at(10.0)
    assert found.value == 1.0
    assert found.high - found.value == pytest.approx(u * np.sqrt(50 / 39 / 10))
    assert found.value - found.low == pytest.approx(u * np.sqrt(50 / 39 / 10))


def test_a_small_group_of_a_greater_spread_is_not_taken_for_sure() -> None:
    steady, wild = np.tile([-1.0, 1.0], 100), np.tile([-10.0, 10.0], 10)
    found = mean_difference(steady, wild)
    u = standard_errors_at(200 * 20 / 220)
    error = np.sqrt(200 / 199 / 200 + 100 * 20 / 19 / 20)
    assert found.high == pytest.approx(u * error)


def test_the_ratio_holds_what_makes_the_means_equal() -> None:
    """Fieller's limits: group − r baseline differs from 0 by exactly so many standard errors."""
    rng = np.random.default_rng(4)
    group, baseline = rng.normal(14.0, 2.0, 30), rng.normal(10.0, 2.0, 25)
    found = relative_difference(group, baseline)
    assert found.value == pytest.approx(group.mean() / baseline.mean() - 1)
    # The groups' common spread is the greater one here.
    variance = np.concatenate((group, baseline)).var(ddof=1)
    for end in (found.low, found.high):
        ratio = 1 + end
        error = np.sqrt(variance / 30 + ratio**2 * variance / 25)
        errors = abs(group.mean() - ratio * baseline.mean()) / error
        assert errors == pytest.approx(standard_errors_at(30 * 25 / 55))


def test_the_boundary_is_crossed_as_rarely_as_it_says() -> None:
    """4,000 Brownian motions from the first look's time to 100 times that, in 1,000 steps.

    Between steps and after the last some more would cross: 2.5 % on either side at all times. So
    it lies between 1.2 % and 2.5 % on a side, 2.4 % and 5 % on both; a binomial deviation is 0.3 %.
    """
    rng = np.random.default_rng(5)
    first = LEAST_JOBS / 2
    times = first * np.geomspace(1.0, 100.0, 1000)
    steps = np.diff(times, prepend=0.0)
    boundary = np.array([standard_errors_at(time) for time in times])
    crossed = 0
    for _ in range(8):
        walks = np.cumsum(rng.normal(size=(500, 1000)) * np.sqrt(steps), axis=1)
        crossed += int((np.abs(walks) > boundary * np.sqrt(times)).any(axis=1).sum())
    assert 0.02 < crossed / 4000 < ALPHA


def test_the_boundary_solves_its_equations() -> None:
    normal = NormalDist()
    a = standard_errors_at(LEAST_JOBS / 2)
    at_first = 1 - normal.cdf(a) + normal.pdf(a) * (a + normal.pdf(a) / normal.cdf(a))
    assert at_first == pytest.approx(ALPHA / 2)
    u = standard_errors_at(25.0)
    grown = u**2 + 2 * np.log(normal.cdf(u)) - a**2 - 2 * np.log(normal.cdf(a))
    assert grown == pytest.approx(np.log(25.0 / (LEAST_JOBS / 2)))


@UNHURRIED
@given(SCORES, SCORES)
def test_the_groups_exchanged_they_say_the_opposite(group: list[int], baseline: list[int]) -> None:
    one = probability_of_improvement(array(group), array(baseline))
    other = probability_of_improvement(array(baseline), array(group))
    np.testing.assert_allclose(
        (one.value, one.low, one.high), (1 - other.value, 1 - other.high, 1 - other.low), atol=1e-9
    )


@UNHURRIED
@given(MANY_SCORES, MANY_SCORES)
def test_the_groups_exchanged_the_difference_has_the_other_sign(
    group: list[int], baseline: list[int]
) -> None:
    one = mean_difference(array(group), array(baseline))
    other = mean_difference(array(baseline), array(group))
    np.testing.assert_allclose(
        (one.value, one.low, one.high), (-other.value, -other.high, -other.low), atol=1e-9
    )


@UNHURRIED
@given(SCORES, SCORES)
def test_an_interval_contains_its_estimate(group: list[int], baseline: list[int]) -> None:
    for statistic in (probability_of_improvement, mean_difference, relative_difference):
        found = statistic(array(group), array(baseline))
        assert np.isnan(found.value) or found.low <= found.value <= found.high
    chance = probability_of_improvement(array(group), array(baseline))
    assert 0.0 <= chance.low < chance.high <= 1.0, "a few jobs never make it sure"


@UNHURRIED
@given(MANY_SCORES, MANY_SCORES, st.integers(-100, 100), st.integers(1, 50))
def test_an_offset_moves_nothing_and_a_unit_stretches_the_difference(
    group: list[int], baseline: list[int], offset: int, unit: int
) -> None:
    x, y = array(group), array(baseline)
    moved_x, moved_y = unit * x + offset, unit * y + offset
    assert probability_of_improvement(moved_x, moved_y) == probability_of_improvement(x, y)
    before, after = mean_difference(x, y), mean_difference(moved_x, moved_y)
    np.testing.assert_allclose(after, unit * np.array(before), atol=1e-9 * unit, rtol=1e-6)


@UNHURRIED
@given(MANY_SCORES, MANY_SCORES, st.integers(1, 50))
def test_a_relative_difference_has_no_unit(
    group: list[int], baseline: list[int], unit: int
) -> None:
    x, y = array(group) + 40.0, array(baseline) + 40.0
    np.testing.assert_allclose(
        relative_difference(unit * x, unit * y), relative_difference(x, y), atol=1e-9
    )


def test_a_relative_difference_is_to_a_baseline_that_is_surely_not_zero() -> None:
    far, near = np.linspace(-110.0, -90.0, 20), np.linspace(-9.0, 11.0, 20)
    assert relative_difference(far + 50.0, far).value == pytest.approx(0.5), "better by a half"
    assert np.isnan(relative_difference(far, near)).all()
    assert np.isnan(relative_difference(np.ones(20), np.zeros(20))).all()


def test_with_few_jobs_there_are_values_without_bounds() -> None:
    nothing = (-np.inf, np.inf)
    few, enough = np.arange(LEAST_JOBS - 1.0), np.arange(50.0)
    for group, baseline in ((few, enough), (enough, few)):
        assert probability_of_improvement(group, baseline)[1:] == nothing
        assert np.isnan(relative_difference(group, baseline)).all()
    some = np.arange(LEAST_JOBS_FOR_MEANS - 1.0) + 100.0
    assert mean_difference(some, enough)[1:] == nothing
    assert mean_difference(some, enough).value == some.mean() - enough.mean()
    relative = relative_difference(enough, some)
    assert (relative.low, relative.high) == nothing
    assert relative.value == pytest.approx(enough.mean() / some.mean() - 1)


def test_equal_scores_leave_means_unbounded() -> None:
    found = mean_difference(np.full(30, 500.0), np.full(30, 500.0))
    assert found == (0.0, -np.inf, np.inf)


def test_ranks_of_equal_scores_are_the_mean_of_theirs() -> None:
    ranks = midranks(np.array([[3.0, 1.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0]]))
    assert ranks.tolist() == [[3.5, 1.0, 3.5, 2.0], [2.5, 2.5, 2.5, 2.5]]


def test_studies_along_leading_axes_are_each_their_own() -> None:
    rng = np.random.default_rng(2)
    group, baseline = rng.integers(9, size=(4, 22)) * 1.0, rng.integers(1, 9, size=(4, 21)) * 1.0
    statistics = (probability_of_improvement, mean_difference, relative_difference)
    for statistic, study in product(statistics, range(4)):
        together, alone = statistic(group, baseline), statistic(group[study], baseline[study])
        np.testing.assert_allclose([each[study] for each in together], alone, rtol=1e-12)
