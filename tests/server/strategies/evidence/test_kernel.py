from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.strategies.evidence.kernel import similarity, weighted_values

INF = np.inf


def test_similarity_is_the_inverse_of_squared_distance_plus_a_thousandth() -> None:
    squared = np.array([[0.0, 0.999], [3.999, INF]])
    np.testing.assert_allclose(similarity(squared), [[1000.0, 1.0], [0.25, 0.0]], rtol=1e-15)


def test_the_argument_is_a_squared_distance() -> None:
    # Distance 3: the kernel sees 9.
    assert similarity(np.array([9.0]))[0] == pytest.approx(1 / 9.001, rel=1e-15)


def test_weighted_values_of_hand_computed_columns() -> None:
    # Column 0: similarities 1, 0.5 and 0.25; (1·8 + 0.5·2 + 0.25·4) / 1.75 = 10 / 1.75.
    # Column 1: one neighbour. Column 2: none, whatever stands in the padding.
    squared = np.array([[0.999, 5.0, INF], [1.999, INF, INF], [3.999, INF, INF]])
    values = np.array([[8.0, -3.0, 7.0], [2.0, 99.0, 7.0], [4.0, 99.0, 7.0]])
    means, known = weighted_values(squared, values)
    np.testing.assert_allclose(means, [10 / 1.75, -3.0, 0.0], rtol=1e-14)
    assert known.tolist() == [True, True, False]


def test_equal_values_have_exactly_that_mean_whatever_stands_in_the_padding() -> None:
    # Weights sum to 1 only up to rounding, so without care 0.1 would often come out an ulp off.
    rng = np.random.default_rng(0)
    squared = np.sort(rng.exponential(size=(5, 1000)), axis=0)
    squared[3:, ::2] = INF
    values = np.where(squared < INF, 0.1, 99.0)
    values[4, ::4] = -99.0
    means, _ = weighted_values(squared, values)
    assert (means == 0.1).all()


def test_an_equal_key_outweighs_a_far_one() -> None:
    means, _ = weighted_values(np.array([[0.0], [99.999]]), np.array([[1.0], [0.0]]))
    assert means[0] == pytest.approx(1000 / (1000 + 0.01), rel=1e-14)


def test_the_largest_floats_do_not_overflow() -> None:
    rng = np.random.default_rng(1)
    squared = np.sort(rng.exponential(size=(5, 1000)), axis=0)
    values = np.full((5, 1000), np.finfo(np.float64).max)
    values[:, ::2] *= -1
    means, _ = weighted_values(squared, values)
    np.testing.assert_array_equal(means, values[0])


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e30, allow_subnormal=False),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_a_mean_lies_between_the_least_and_the_greatest_value(
    pairs: list[tuple[float, float]],
) -> None:
    squared = np.array(sorted(pair[0] for pair in pairs))[:, None]
    values = np.array([pair[1] for pair in pairs])[:, None]
    means, known = weighted_values(squared, values)
    assert known[0]
    # Exactly, even for values of 1e308: no rounding and no overflow may leave the range.
    assert values.min() <= means[0] <= values.max()
