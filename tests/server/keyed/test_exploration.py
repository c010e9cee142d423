from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.keyed.exploration import EpsilonGreedyChoice, epsilon_at, epsilon_greedy


def test_epsilon_falls_linearly_to_its_end_over_the_first_half() -> None:
    assert epsilon_at(0.0) == 1.0
    assert epsilon_at(0.25) == pytest.approx(0.505)  # half way from 1 to 0.01
    assert epsilon_at(0.5) == 0.01
    assert epsilon_at(1.0) == 0.01


def test_progress_outside_training_is_its_nearest_end() -> None:
    assert epsilon_at(-0.5) == 1.0
    assert epsilon_at(7.0) == 0.01


def test_a_fraction_of_nothing_ends_at_once() -> None:
    assert epsilon_at(0.0, start=1.0, end=0.2, fraction=0.0) == 0.2


def test_epsilon_may_rise() -> None:
    assert epsilon_at(0.5, start=0.0, end=1.0, fraction=1.0) == 0.5


@given(st.floats(0, 1), st.floats(0, 1))
def test_epsilon_never_rises_on_its_way_down(a: float, b: float) -> None:
    early, late = sorted((a, b))
    assert 0.01 <= epsilon_at(late) <= epsilon_at(early) <= 1.0


@pytest.mark.parametrize("argument", ["start", "end", "fraction"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_schedule_outside_zero_to_one_is_refused(argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"expected {argument} between 0 and 1"):
        epsilon_at(0.3, **{argument: value})


def test_progress_must_be_a_number() -> None:
    with pytest.raises(ValueError, match="progress"):
        epsilon_at(float("nan"))


def test_without_exploration_the_best_action_is_certain() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        choice = epsilon_greedy(np.array([1.0, 3.0, 2.0]), 0.0, rng)
        assert choice == EpsilonGreedyChoice(action=1, explored=False, propensity=1.0)


def test_propensities_are_exact() -> None:
    rng = np.random.default_rng(1)
    q_values = np.array([5.0, 1.0, 5.0, 2.0])
    seen = {}
    for _ in range(500):
        choice = epsilon_greedy(q_values, 0.4, rng)
        seen[choice.action] = choice.propensity
    # Any of 4 with 0.4, or one of the 2 best with 0.6.
    assert seen == pytest.approx({0: 0.4, 1: 0.1, 2: 0.4, 3: 0.1})


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_actions_come_as_often_as_their_propensity_says(epsilon: float) -> None:
    rng = np.random.default_rng(2)
    q_values = np.array([0.0, -1.0, 0.0, 0.0, -2.0])
    n = 20_000
    counts = np.zeros(5)
    explored = 0
    propensity = np.zeros(5)
    for _ in range(n):
        choice = epsilon_greedy(q_values, epsilon, rng)
        counts[choice.action] += 1
        propensity[choice.action] = choice.propensity
        explored += choice.explored
    # Five standard errors of a share: below one false alarm in a million.
    tolerance = 5 * np.sqrt(0.25 / n)
    np.testing.assert_allclose(counts / n, propensity, atol=tolerance)
    assert propensity.sum() == pytest.approx(1.0)
    assert abs(explored / n - epsilon) <= tolerance


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 2.5]), min_size=1, max_size=6),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_the_order_of_ties_does_not_matter(q: list[float], epsilon: float, seed: int) -> None:
    choice = epsilon_greedy(np.array(q), epsilon, np.random.default_rng(seed))
    best = q.count(max(q))
    expected = epsilon / len(q) + (1 - epsilon) / best * (q[choice.action] == max(q))
    assert choice.propensity == pytest.approx(expected)
    assert 0 < choice.propensity <= 1 + 1e-12


def test_equal_generators_choose_equally() -> None:
    q_values = np.zeros(10)
    first, second = (
        [epsilon_greedy(q_values, 0.5, rng) for _ in range(20)]
        for rng in (np.random.default_rng(3), np.random.default_rng(3))
    )
    assert first == second


@pytest.mark.parametrize(
    ("q_values", "epsilon", "message"),
    [
        ([], 0.1, "one q-value per action"),
        ([[1.0]], 0.1, "one q-value per action"),
        ([1.0, float("nan")], 0.1, "finite"),
        ([1.0, float("inf")], 0.1, "finite"),
        ([1.0], -0.1, "between 0 and 1"),
        ([1.0], 1.1, "between 0 and 1"),
        ([1.0], float("nan"), "between 0 and 1"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(
    q_values: list[float], epsilon: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        epsilon_greedy(np.array(q_values), epsilon, np.random.default_rng(0))
