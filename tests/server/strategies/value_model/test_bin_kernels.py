from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.strategies.value_model.gaussian_process import bin_kernel


def test_by_hand() -> None:
    one, two = math.exp(-0.5 / 1.5**2), math.exp(-2.0 / 1.5**2)
    np.testing.assert_allclose(
        bin_kernel(3, 0, ordered=True),
        [[0, 0, 0], [0, 1 - one**2, one - one * two], [0, one - one * two, 1 - two**2]],
        rtol=1e-12, atol=1e-15,
    )  # fmt: skip
    np.testing.assert_allclose(
        bin_kernel(3, 1, ordered=False),
        [[1 - one**2, 0, one - one**2], [0, 0, 0], [one - one**2, 0, 1 - one**2]],
        rtol=1e-12, atol=1e-15,
    )  # fmt: skip


@given(st.integers(1, 12), st.data(), st.booleans())
def test_it_is_a_covariance_in_which_the_default_has_no_part(
    count: int, data: st.DataObject, ordered: bool
) -> None:
    default = data.draw(st.integers(0, count - 1))
    kernel = bin_kernel(count, default, ordered=ordered)
    np.testing.assert_array_equal(kernel, kernel.T)
    assert np.linalg.eigvalsh(kernel).min() > -1e-12
    assert not kernel[default].any()


def test_the_variance_grows_with_the_distance_from_the_default() -> None:
    variances = np.diagonal(bin_kernel(7, 3, ordered=True))
    assert list(variances[3:]) == sorted(variances[3:])
    np.testing.assert_allclose(variances, variances[::-1])
