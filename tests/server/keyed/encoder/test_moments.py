from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.keyed.encoder.moments import CLIP, Moments, standardise


@given(cuts=st.lists(st.integers(0, 600), max_size=6), seed=st.integers(0, 2**32 - 1))
def test_moments_do_not_depend_on_how_samples_are_cut_into_rounds(
    cuts: list[int], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    scale, offset = 10.0 ** generator.uniform(-3, 2, size=(2, 4))
    samples = (generator.normal(size=(600, 4)) * scale + offset).astype(np.float16)
    moments = Moments.unseen(4)
    for part in np.split(samples, sorted(cuts)):
        moments = moments.updated(part)
    whole = samples.astype(np.float64)
    # float64 sums of 600 numbers in another order; the variance loses the mean's digits.
    np.testing.assert_allclose(moments.mean, whole.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        moments.variance, whole.var(axis=0), rtol=1e-9, atol=1e-12 * np.square(offset).max()
    )
    assert moments.count == 600


def test_capped_moments_follow_a_drift() -> None:
    moments = Moments.unseen(1).updated(np.zeros((50, 1), np.float16), count_cap=10.0)
    assert moments.count == 10.0
    moments = moments.updated(np.full((10, 1), 4.0, np.float16), count_cap=10.0)
    # 10 remembered zeros and 10 fours: mean 2, variance 4 (with 50 zeros: mean 2/3).
    assert moments.mean[0] == pytest.approx(2.0)
    assert moments.variance[0] == pytest.approx(4.0)
    assert moments.count == 10.0


def test_before_any_sample_features_are_only_clipped() -> None:
    moments = Moments.unseen(3)
    features = np.array([0.5, -7.0, 6.0], np.float16)
    standardised = standardise(features, moments.mean, moments.inverse_scale())
    np.testing.assert_array_equal(standardised, [0.5, -CLIP, CLIP])


def test_standardised_values_by_hand() -> None:
    mean, inverse_scale = np.array([1.0, 2.0], np.float32), np.array([0.5, 4.0], np.float32)
    features = np.array([[3.0, 2.5], [0.0, 9.0]], np.float16)
    standardised = standardise(features, mean, inverse_scale)
    assert standardised.dtype == np.float32
    np.testing.assert_array_equal(standardised, [[1.0, 2.0], [-0.5, CLIP]])
    np.testing.assert_array_equal(features, np.array([[3.0, 2.5], [0.0, 9.0]], np.float16))


@pytest.mark.parametrize("value", [0.0, 0.1, -700.0, 6e-8])
def test_a_feature_that_never_varied_is_left_out(value: float) -> None:
    moments = Moments.unseen(1).updated(np.full((10_000, 1), value, np.float16))
    assert moments.inverse_scale()[0] == 0.0


@pytest.mark.parametrize("value", [0.0, 0.1, -700.0, 1e-3])
def test_the_least_change_that_float16_shows_counts_as_variation(value: float) -> None:
    samples = np.full((10_000, 1), value, np.float16)
    samples[0] = np.nextafter(samples[0], np.float16(np.inf))
    assert Moments.unseen(1).updated(samples).inverse_scale()[0] > 0.0
