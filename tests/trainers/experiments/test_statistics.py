from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hyperoracle_trainers.experiments.statistics import (
    bootstrap,
    interquartile_mean,
    mean,
    performance_profile,
    probability_of_improvement,
)


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
    assert probability_of_improvement(one(*better), one(*worse)) == pytest.approx([expected])


@given(
    arrays(np.float64, (1, 5), elements=st.floats(-9, 9)),
    arrays(np.float64, (1, 3), elements=st.floats(-9, 9)),
)
def test_improvements_in_both_directions_make_one(first: np.ndarray, second: np.ndarray) -> None:
    both = probability_of_improvement(first, second) + probability_of_improvement(second, first)
    assert both == pytest.approx([1.0])


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
