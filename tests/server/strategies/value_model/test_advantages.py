from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hyperoracle_server.strategies.value_model.advantages import advantage, standardised


def test_the_rise_at_once_and_the_rise_for_good_count_half_each() -> None:
    assert advantage(before=10.0, after=14.0, mean_to_end=12.0) == 3.0
    assert advantage(before=10.0, after=10.0, mean_to_end=4.0) == -3.0


def test_scaled_by_hand() -> None:
    # Median 3, absolute deviations 2, 1, 0, 1, 97: MAD 1.
    scaled = standardised(np.array([1.0, 2.0, 3.0, 4.0, 100.0]))
    np.testing.assert_allclose(scaled, [-2 / 1.4826, -1 / 1.4826, 0.0, 1 / 1.4826, 3.0], rtol=1e-12)


def test_the_usual_spread_of_a_normal_sample_is_1() -> None:
    sample = np.random.default_rng(0).normal(50.0, 7.0, 20_000)
    assert standardised(sample).std() == pytest.approx(1.0, abs=0.03)


def test_one_stuck_run_moves_the_others_little() -> None:
    sample = np.random.default_rng(0).normal(size=41)
    poisoned = np.append(sample, -1e9)
    assert np.abs(standardised(poisoned)[:-1] - standardised(sample)).max() < 0.2
    assert standardised(poisoned)[-1] == -3.0


@pytest.mark.parametrize(
    ("given_advantages", "expected"),
    [([], []), ([5.0], [0.0]), ([2.0, 2.0, 2.0], [0.0] * 3), ([0.0, 0.0, 0.0, 4.0], [0, 0, 0, 3])],
)
def test_samples_without_a_scale(given_advantages: list[float], expected: list[float]) -> None:
    np.testing.assert_array_equal(standardised(np.array(given_advantages)), expected)


@given(
    arrays(np.float64, st.integers(1, 30), elements=st.floats(-100, 100)),
    st.floats(-50, 50),
    st.floats(0.1, 10),
)
def test_neither_an_offset_nor_a_unit_matters(
    sample: np.ndarray, offset: float, unit: float
) -> None:
    sample = np.round(sample, 3)
    scaled, moved = standardised(sample), standardised(unit * sample + offset)
    np.testing.assert_allclose(moved, scaled, atol=1e-6)
