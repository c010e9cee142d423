from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hyperoracle_trainers.experiments.statistics import (
    bootstrap,
    improvement,
    interquartile_mean,
    mean,
    mean_of_bounded,
    performance_profile,
)

UNHURRIED = settings(deadline=None, max_examples=50)  # others may use the cores


def one(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[None]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((7.0,), 7.0),
        ((1.0, 2.0, 9.0), 4.0),  # a quarter of three is none
        ((9.0, 1.0, 3.0, 4.0), 3.5),
        ((0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 70.0), 3.5),  # the outlier is left out
        ((0.0, 1.0, 2.0, 3.0, 100.0), 2.0),  # a quarter of five is one
    ],
)
def test_the_interquartile_mean_by_hand(values: tuple[float, ...], expected: float) -> None:
    assert interquartile_mean(one(*values)) == pytest.approx([expected])


def test_the_interquartile_mean_of_tasks_is_that_of_all_their_values() -> None:
    assert interquartile_mean(one(0, 1, 2, 3), one(4, 5, 6, 70)) == pytest.approx([3.5])


@pytest.mark.parametrize(
    ("better", "worse", "expected"),
    [
        ((2.0, 3.0), (0.0, 1.0), 1.0),
        ((0.0, 1.0), (2.0, 3.0), 0.0),
        ((1.0,), (1.0,), 0.5),
        ((1.0, 3.0), (2.0,), 0.5),
        ((1.0, 2.0, 3.0), (2.0, 0.0), 0.75),  # of six pairs four are won and one is a tie
    ],
)
def test_the_probability_of_improvement_by_hand(
    better: tuple[float, ...], worse: tuple[float, ...], expected: float
) -> None:
    found = improvement([(np.array(better), np.array(worse))])
    assert found.value == pytest.approx(expected)


@UNHURRIED
@given(
    arrays(np.float64, 5, elements=st.integers(-4, 4)),
    arrays(np.float64, 3, elements=st.integers(-4, 4)),
)
def test_improvements_in_both_directions_make_one(first: np.ndarray, second: np.ndarray) -> None:
    one_way, other_way = improvement([(first, second)]), improvement([(second, first)])
    assert one_way.value + other_way.value == pytest.approx(1.0)
    assert one_way.low + other_way.high == pytest.approx(1.0)
    assert 0.0 <= one_way.low <= one_way.lower_bound <= one_way.value <= one_way.high <= 1.0


def test_the_interval_of_an_improvement_by_hand() -> None:
    # Nine of nine pairs are won. Placements 1, 1, 1 with 0 and 1 have the variance 0.2, so that
    # the difference of two means of three has 0.4 / 3; the permutations' is 7 / 108, less far.
    found = improvement([(np.array([4.0, 5.0, 6.0]), np.array([1.0, 2.0, 3.0]))])
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1.0 - 1.95996 * np.sqrt(0.4 / 3), abs=1e-5)
    assert found.lower_bound == pytest.approx(1.0 - 1.64485 * np.sqrt(0.4 / 3), abs=1e-5)


def test_many_equal_samples_have_the_interval_of_wilson() -> None:
    """Of 400 against 400 the permutations' variance, 801 / (12 · 160,000), is the greater one."""
    values = np.arange(400.0)
    found = improvement([(values, values)])
    k = 4 * 1.95996**2 * 801 / (12 * 160_000)
    assert found.high == pytest.approx(0.5 + np.sqrt(k**2 + k) / (2 * (1 + k)), abs=2e-3)


def test_more_tasks_make_an_improvement_surer() -> None:
    rng = np.random.default_rng(6)
    pair = (rng.normal(1.0, 1.0, 10), rng.normal(0.0, 1.0, 10))
    alone, of_four = improvement([pair]), improvement([pair] * 4)
    assert of_four.value == alone.value
    assert of_four.value - of_four.low == pytest.approx((alone.value - alone.low) / 2, rel=0.2), (
        "four independent ones have half the standard error"
    )


@pytest.mark.parametrize(("failures", "runs"), [(0, 50), (2, 50), (3, 10)])
def test_the_bounds_of_a_share_are_those_of_clopper_and_pearson(failures: int, runs: int) -> None:
    """So many lost 1, the others nothing: the binomial tails at the bounds are 5 % and 2.5 %."""
    gains = np.where(np.arange(runs) < failures, -1.0, 0.0)
    found = mean_of_bounded([gains], -1.0, 0.0, np.random.default_rng(0), resamples=200_000)

    def no_more_than(count: int, share: float) -> float:
        return sum(
            math.comb(runs, k) * share**k * (1 - share) ** (runs - k) for k in range(count + 1)
        )

    assert no_more_than(failures, -float(found.lower_bound)) == pytest.approx(0.05, rel=0.05)
    assert no_more_than(failures, -float(found.low)) == pytest.approx(0.025, rel=0.05)
    if failures:
        above = 1 - no_more_than(failures - 1, -float(found.high))
        assert above == pytest.approx(0.025, rel=0.06)


def test_fifty_gains_without_a_loss_do_not_exclude_one() -> None:
    found = mean_of_bounded([np.zeros(50)], -1.0, 1.0, np.random.default_rng(0))
    assert found.value == 0.0
    assert float(found.lower_bound) == pytest.approx(0.05 ** (1 / 50) - 1, abs=0.01)
    assert float(found.high) == pytest.approx(1 - 0.025 ** (1 / 50), abs=0.01)


def test_a_greater_loss_than_the_least_is_possible_once_it_is_seen() -> None:
    gains = np.array([-3.0] + [0.0] * 19)
    lost = mean_of_bounded([gains], -1.0, 1.0, np.random.default_rng(0))
    as_said = mean_of_bounded([gains], -3.0, 1.0, np.random.default_rng(0))
    assert lost.low == as_said.low


@UNHURRIED
@given(arrays(np.float64, 6, elements=st.floats(-1, 1)), st.integers(0, 9))
def test_a_mean_lies_in_its_interval_and_this_within_the_bounds(
    gains: np.ndarray, seed: int
) -> None:
    found = mean_of_bounded([gains, gains], -1.0, 1.0, np.random.default_rng(seed), 200)
    assert -1.0 - 1e-9 <= found.low <= found.lower_bound <= found.value <= found.high <= 1.0 + 1e-9


@pytest.mark.parametrize("loss", [0.1, 1.0])
def test_what_is_as_unsafe_as_the_margin_is_rarely_called_safe(loss: float) -> None:
    """Gains of the mean −0.10 at 50 memories: 0 but for losses of 1 in a tenth, or all alike.

    300 studies; 0.09 is three binomial deviations above 5 %. A percentile bootstrap calls the
    former safe in 10 % and more.
    """
    rng = np.random.default_rng(8)
    safe = 0
    for _ in range(300):
        gains = -loss * (rng.random(50) < 0.1 / loss) + rng.normal(0.0, 0.05, 50)
        safe += float(mean_of_bounded([gains], -1.0, 1.0, rng, 300).lower_bound) > -0.10
    assert safe / 300 <= 0.09


def test_no_better_is_rarely_called_better() -> None:
    """400 studies of 10 against 10 without a difference; 0.083 is three deviations above 5 %."""
    rng = np.random.default_rng(9)
    found = [improvement([(rng.normal(size=10), rng.normal(size=10))]) for _ in range(400)]
    assert np.mean([each.lower_bound > 0.5 for each in found]) <= 0.083
    assert np.mean([each.low <= 0.5 <= each.high for each in found]) >= 0.93


def test_a_performance_profile_by_hand() -> None:
    shares = performance_profile(one(0.0, 0.5, 0.5, 1.0), np.array([-1.0, 0.0, 0.5, 1.0]))
    assert shares[0].tolist() == [1.0, 0.75, 0.25, 0.0]


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    generator = np.random.default_rng(0)
    sample = generator.normal(3.0, 2.0, size=400)
    estimate = bootstrap(mean, [sample], generator, resamples=8000)
    error = sample.std() / 20
    assert estimate.value == sample.mean()
    assert float(estimate.low) == pytest.approx(sample.mean() - 1.960 * error, abs=0.1 * error)
    assert float(estimate.high) == pytest.approx(sample.mean() + 1.960 * error, abs=0.1 * error)
    bound = sample.mean() - 1.645 * error
    assert float(estimate.lower_bound) == pytest.approx(bound, abs=0.1 * error)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        estimate = bootstrap(mean, [generator.normal(size=30)], generator, resamples=300)
        covered += int(estimate.low <= 0.0 <= estimate.high)
    assert 0.90 <= covered / 300 <= 0.98


def test_tasks_are_resampled_each_on_its_own() -> None:
    apart = [np.zeros(5), np.ones(5)]  # resampled together, the mean would vary
    estimate = bootstrap(
        lambda *samples: np.concatenate(samples, axis=1).mean(axis=1),
        apart,
        np.random.default_rng(0),
    )
    assert (estimate.low, estimate.value, estimate.high) == (0.5, 0.5, 0.5)


def test_curves_are_estimated_point_by_point() -> None:
    curves = np.arange(12.0).reshape(4, 3)
    estimate = bootstrap(interquartile_mean, [curves], np.random.default_rng(0))
    assert estimate.value.tolist() == [4.5, 5.5, 6.5]
    assert estimate.low.shape == (3,)


def test_no_replicate_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one replicate"):
        bootstrap(mean, [np.array([])], np.random.default_rng(0))
    with pytest.raises(ValueError, match="at least one replicate"):
        mean_of_bounded([np.array([])], -1.0, 1.0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="at least one replicate"):
        improvement([(np.array([1.0]), np.array([]))])
