from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperoracle_server.views.group_comparison import AnytimeEstimate, GroupComparison, compare

UNHURRIED = settings(deadline=None, max_examples=50)  # others may use the cores
SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=30)
OPPOSITES = {
    "too_few": "too_few",
    "none": "none",
    "better": "worse",
    "worse": "better",
    "more_often_better": "more_often_worse",
    "more_often_worse": "more_often_better",
}


def compared(group: list[float], baseline: list[float]) -> GroupComparison:
    return compare(np.array(group, np.float64), np.array(baseline, np.float64))


def test_by_hand() -> None:
    found = compared([3.0, 5.0], [2.0, 3.0, 1.0])
    assert found.difference == AnytimeEstimate(2.0, None, None), (
        "with so few jobs nothing bounds it"
    )
    # Of six pairs five are won, and 3 against 3 is a tie.
    assert found.probability_of_improvement == AnytimeEstimate(pytest.approx(5.5 / 6), None, None)
    assert (found.relative, found.verdict) == (None, "too_few")


@pytest.mark.parametrize(
    ("group", "baseline", "verdict"),
    [
        (range(100, 104), range(100), "too_few"),
        (range(100, 105), range(6), "none"),  # five of eleven on one side may be chance
        (range(100, 110), range(100), "better"),
        (range(30), range(1, 31), "none"),
        (range(100), range(100, 110), "worse"),
        # Ten of forty die, the others are better: on the mean it is worse, and most see it better.
        ([-500.0] * 10 + [110.0] * 30, [100.0] * 40, "more_often_better"),
        ([500.0] * 10 + [90.0] * 30, [100.0] * 40, "more_often_worse"),
        # One that is far off is a hint, but no more; before there is an interval of the means, too.
        ([-5000.0] + [110.0] * 14, [100.0] * 15, "more_often_better"),
        # A third of either dies: the others still show what is better.
        ([-500.0] * 10 + [110.0] * 20, [-500.0] * 10 + [100.0] * 20, "none"),
        # Half dies instead of none, and nothing else differs: ties count half.
        ([0.0] * 20 + [100.0] * 20, [100.0] * 40, "worse"),
        ([7.0] * 40, [7.0] * 40, "none"),
    ],
)
def test_verdicts(group: list[float], baseline: list[float], verdict: str) -> None:
    assert compared(list(group), list(baseline)).verdict == verdict
    assert compared(list(baseline), list(group)).verdict == OPPOSITES[verdict]


@UNHURRIED
@given(SCORES, SCORES)
def test_the_groups_exchanged_it_says_the_opposite(group: list[int], baseline: list[int]) -> None:
    one, other = compared(group, baseline), compared(baseline, group)
    assert one.difference is not None
    assert other.difference is not None
    assert one.difference.value == pytest.approx(-other.difference.value)
    sure = one.probability_of_improvement.value + other.probability_of_improvement.value
    assert sure == pytest.approx(1.0)
    assert one.verdict == OPPOSITES[other.verdict]


@UNHURRIED
@given(SCORES, SCORES, st.randoms(use_true_random=False))
def test_the_order_of_jobs_does_not_matter(group: list[int], baseline: list[int], chance) -> None:
    found = compared(group, baseline)
    chance.shuffle(group)
    chance.shuffle(baseline)
    again = compared(group, baseline)
    assert again.verdict == found.verdict
    assert again.probability_of_improvement == pytest.approx(found.probability_of_improvement)


def test_the_edge_of_the_numbers_is_no_number_and_breaks_nothing() -> None:
    beyond = compared([1e308] * 25, [-1e308] * 25)
    assert beyond.difference is None
    assert beyond.verdict == "better"
    large = compared([1e200, 2e200] * 20, [5e-324] * 40)
    assert large.difference is not None
    assert large.difference.low is not None
    assert large.difference.low > 0.0
    assert large.relative is None
    assert compared([1e150], [1e-300]).relative is None


def test_a_thousand_jobs_narrow_the_interval() -> None:
    chance = np.random.default_rng(0)
    found = compare(chance.normal(0.5, 1, 800), chance.normal(0, 1, 200))
    assert found.verdict == "better"
    assert found.difference is not None
    assert found.difference.low is not None
    assert found.difference.high is not None
    # The standard error is sqrt(1/800 + 1/200) = 0.079, and 3.45 of them are the half width.
    assert found.difference.high - found.difference.low == pytest.approx(6.9 * 0.079, rel=0.1)
