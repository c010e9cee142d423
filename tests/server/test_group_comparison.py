from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.group_comparison import Comparison, compare

SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=12)


def compared(group: list[float], baseline: list[float], seed: int = 0) -> Comparison:
    return compare(
        np.array(group, np.float64), np.array(baseline, np.float64), np.random.default_rng(seed)
    )


def test_by_hand() -> None:
    found = compared([3.0, 5.0], [2.0, 3.0, 1.0])
    assert (found.mean, found.baseline_mean) == (4.0, 2.0)
    assert found.difference.value == 2.0
    assert found.relative is not None
    assert found.relative.value == 1.0
    # Of six pairs five are won, and 3 against 3 is a tie.
    assert found.probability_of_improvement.value == pytest.approx(5.5 / 6)


def test_the_interval_is_that_of_a_slow_bootstrap() -> None:
    chance = np.random.default_rng(3)
    group, baseline = chance.normal(1.0, 1.0, 12), chance.normal(0.0, 2.0, 7)
    differences, improvements = [], []
    for _ in range(4000):
        x, y = chance.choice(group, len(group)), chance.choice(baseline, len(baseline))
        differences.append(x.mean() - y.mean())
        wins = [(a > b) + 0.5 * (a == b) for a in x for b in y]
        improvements.append(np.mean(wins))
    found = compare(group, baseline, np.random.default_rng(4))
    # Two bootstraps of some thousand resamples differ by a few per cent of the width.
    for estimate, slow in (
        (found.difference, differences),
        (found.probability_of_improvement, improvements),
    ):
        low, high = np.quantile(slow, (0.025, 0.975))
        tolerance = 0.08 * (high - low)
        assert estimate.low == pytest.approx(low, abs=tolerance)
        assert estimate.high == pytest.approx(high, abs=tolerance)


@given(SCORES, SCORES)
def test_the_groups_exchanged_it_says_the_opposite(group: list[int], baseline: list[int]) -> None:
    one, other = compared(group, baseline), compared(baseline, group)
    assert one.difference.value == pytest.approx(-other.difference.value)
    sure = one.probability_of_improvement.value + other.probability_of_improvement.value
    assert sure == pytest.approx(1.0)


@given(SCORES, SCORES)
def test_intervals_lie_within_what_any_resample_can_say(
    group: list[int], baseline: list[int]
) -> None:
    found = compared(group, baseline)
    assert min(group) - max(baseline) <= found.difference.low + 1e-12
    assert found.difference.low <= found.difference.high
    assert found.difference.high <= max(group) - min(baseline) + 1e-12
    improvement = found.probability_of_improvement
    assert 0.0 <= improvement.low <= improvement.high <= 1.0


def test_the_gain_is_relative_only_to_a_baseline_that_is_surely_not_zero() -> None:
    assert compared([1.0, 2.0], [-1.0, 1.0, 3.0]).relative is None
    assert compared([1.0, 2.0], [0.0, 0.0]).relative is None
    assert compared([1e150], [1e-300]).relative is None
    below_zero = compared([-150.0, -150.0], [-200.0, -200.0]).relative
    assert below_zero is not None
    assert below_zero.value == 0.25, "a quarter better"


def test_thousands_of_jobs_are_compared_in_parts() -> None:
    chance = np.random.default_rng(0)
    found = compare(chance.normal(0.2, 1, 5000), chance.normal(0, 1, 2000), chance)
    # The standard error of the difference: sqrt(1/5000 + 1/2000) = 0.0265.
    assert found.difference.high - found.difference.low == pytest.approx(3.92 * 0.0265, rel=0.15)
