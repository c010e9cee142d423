from __future__ import annotations

import math

import numpy as np
import pytest

from hyperoracle_client.hyper_state.statistics import StatisticsCompressor, pooled
from hyperoracle_protocol.hyper_state import (
    POOLS,
    STATISTICS_FEATURES,
    STATISTICS_POOLED,
    HyperStateLayout,
)

LAYOUT = HyperStateLayout(kind="statistics", dtype="float32")
SHAPES = [(16, 5), (1, 16), (12, 16), (1, 12), (2, 12), (1, 2)]
IS_WEIGHT = [True, False, True, False, True, False]


def drawn(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def named(features: np.ndarray | None) -> dict[str, float]:
    assert features is not None
    return dict(zip(STATISTICS_FEATURES, features.astype(float), strict=True))


def reference(
    weights: list[np.ndarray],
    gradients: list[np.ndarray],
    previous_weights: list[np.ndarray],
    previous_gradients: list[np.ndarray],
) -> np.ndarray:
    """tensors x statistics, each from its definition in float64."""
    rows = []
    for arrays in zip(weights, gradients, previous_weights, previous_gradients, strict=True):
        w, g, w0, g0 = (array.astype(np.float64) for array in arrays)
        norm = np.linalg.norm
        rows.append(
            [
                math.log(norm(w) / math.sqrt(len(w))),
                math.log(norm(g) / math.sqrt(len(g))),
                math.log(np.linalg.svd(w, compute_uv=False)[0]),
                float((g * g0).sum() / norm(g) / norm(g0)),
                math.log(norm(w - w0) / norm(w)),
            ]
        )
    return np.array(rows)


def test_the_statistics_equal_their_definitions() -> None:
    rng = np.random.default_rng(0)
    compressor = StatisticsCompressor(LAYOUT, IS_WEIGHT)
    first, first_gradients = drawn(rng), drawn(rng)
    compressor.compress(first, first_gradients, {}, 0.0)
    second = [w + 0.01 * np.float32(rng.normal()) for w in first]
    second_gradients = drawn(rng)
    for _ in range(30):  # the singular vector is followed by one power iteration an update
        compressor.compress(first, first_gradients, {}, 0.0)
    found = named(compressor.compress(second, second_gradients, {}, 0.0))
    rows = reference(second[::2], second_gradients[::2], first[::2], first_gradients[::2])
    pools = {
        "mean": rows.mean(0), "least": rows.min(0), "greatest": rows.max(0),
        "first": rows[0], "last": rows[-1],
    }  # fmt: skip
    for index, (statistic, told) in enumerate(STATISTICS_POOLED.items()):
        for pool in told:
            # float32 sums of up to 200 terms; the power iteration is 1e-3 off where two singular
            # values are close
            assert found[f"{statistic}.{pool}"] == pytest.approx(
                pools[pool][index], rel=1e-3, abs=2e-3
            )


def test_signals_and_progress_are_passed_on_and_missing_signals_are_zero() -> None:
    compressor = StatisticsCompressor(LAYOUT, IS_WEIGHT)
    weights = drawn(np.random.default_rng(1))
    found = named(compressor.compress(weights, [None] * 6, {"approx_kl": 0.5, "other": 9.0}, 0.25))
    assert (found["approx_kl"], found["progress"]) == (0.5, 0.25)
    assert found["clip_fraction"] == found["explained_variance"] == 0.0


def test_what_needs_a_gradient_is_zero_without_one() -> None:
    compressor = StatisticsCompressor(LAYOUT, IS_WEIGHT)
    weights = drawn(np.random.default_rng(2))
    found = named(compressor.compress(weights, [None] * 6, {}, 0.0))
    for statistic in ("log_gradient_norm", "gradient_cosine", "log_update_ratio"):
        assert all(found[f"{statistic}.{pool}"] == 0.0 for pool in POOLS)
    assert found["log_weight_norm.mean"] != 0.0


def test_they_do_not_change_when_hidden_neurons_change_places() -> None:
    rng = np.random.default_rng(3)
    order, other = rng.permutation(16), rng.permutation(12)

    def permuted(tensors: list[np.ndarray]) -> list[np.ndarray]:
        w1, b1, w2, b2, w3, b3 = tensors
        return [w1[order], b1[:, order], w2[other][:, order], b2[:, other], w3[:, other], b3]

    one, two = (StatisticsCompressor(LAYOUT, IS_WEIGHT) for _ in range(2))
    for _ in range(4):
        weights, gradients = drawn(rng), drawn(rng)
        straight = one.compress(weights, gradients, {}, 0.5)
        mixed = two.compress(permuted(weights), permuted(gradients), {}, 0.5)
        # the same float32 numbers summed in another order
        np.testing.assert_allclose(straight, mixed, rtol=2e-5, atol=2e-5)


def test_biases_do_not_matter_and_a_single_output_unit_does() -> None:
    rng = np.random.default_rng(4)
    weights = drawn(rng)
    changed = [w if is_weight else w * 100 for w, is_weight in zip(weights, IS_WEIGHT, strict=True)]
    straight, other = (
        StatisticsCompressor(LAYOUT, IS_WEIGHT).compress(tensors, [None] * 6, {}, 0.0)
        for tensors in (weights, changed)
    )
    np.testing.assert_array_equal(straight, other)
    value_head = [rng.normal(size=(1, 4)).astype(np.float32)]
    found = named(StatisticsCompressor(LAYOUT, [True]).compress(value_head, [None], {}, 0.0))
    assert found["log_weight_norm.mean"] == pytest.approx(
        math.log(np.linalg.norm(value_head[0])), abs=1e-5
    )


def test_weights_that_are_updated_in_place_are_remembered_as_they_were() -> None:
    compressor = StatisticsCompressor(LAYOUT, [True])
    weight = np.ones((4, 4), np.float32)
    compressor.compress([weight], [None], {}, 0.0)
    weight *= 1.5
    found = named(compressor.compress([weight], [None], {}, 0.0))
    assert found["log_update_ratio.mean"] == pytest.approx(math.log(0.5 / 1.5), abs=1e-5)


def test_a_model_without_weights_and_weights_of_zero_are_defined() -> None:
    assert named(StatisticsCompressor(LAYOUT, []).compress([], [], {}, 1.0))["progress"] == 1.0
    zeros = [np.zeros((3, 3), np.float32)]
    features = StatisticsCompressor(LAYOUT, [True]).compress(zeros, zeros, {}, 0.0)
    np.testing.assert_array_equal(features, np.zeros(len(STATISTICS_FEATURES)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_gives_no_features_and_is_forgotten(bad: float) -> None:
    rng = np.random.default_rng(5)
    compressor = StatisticsCompressor(LAYOUT, IS_WEIGHT)
    broken = drawn(rng)
    broken[2][0, 0] = bad
    weights, gradients = drawn(rng), drawn(rng)
    assert compressor.compress(weights, broken, {}, 0.0) is None
    assert compressor.compress(broken, gradients, {}, 0.0) is None
    after = compressor.compress(weights, gradients, {}, 0.0)
    fresh = StatisticsCompressor(LAYOUT, IS_WEIGHT).compress(weights, gradients, {}, 0.0)
    np.testing.assert_array_equal(after, fresh)


def test_pooling_follows_the_protocols_order() -> None:
    statistics = np.arange(10.0).reshape(2, 5)
    found = pooled(statistics)
    # The weights' norm and singular value by their means alone.
    assert list(found[:7]) == [2.5, 3.5, 1.0, 6.0, 1.0, 6.0, 4.5]
    assert list(found[-5:]) == [6.5, 4.0, 9.0, 4.0, 9.0]


def test_what_training_does_outweighs_what_a_small_matrix_began_with() -> None:
    # Weights grow along one path from different draws, as small as the first layer on CartPole-v1.
    # A statistic that names the run lies apart between runs at equal progress (kurtosis did: its
    # variance between these runs was 36 times that within them).
    progress = np.linspace(0, 1, 12)
    runs = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        compressor = StatisticsCompressor(LAYOUT, [True])
        start = rng.normal(size=(64, 4)).astype(np.float32)
        direction = rng.normal(size=(64, 4)).astype(np.float32)
        rows = [
            compressor.compress([start * (1 + x) + x * direction], [None], {}, float(x))
            for x in progress
        ]
        runs.append(np.array(rows, np.float64))
    features = np.array(runs)[:, 1:]  # the first has no change yet; (runs, updates, features)
    between = features.mean(axis=1).var(axis=0)
    within = features.var(axis=1).mean(axis=0)
    varying = within > 0
    assert varying.sum() >= 2 + len(POOLS)  # norm, top singular value; change: there is no gradient
    assert (between[varying] < 0.5 * within[varying]).all()
