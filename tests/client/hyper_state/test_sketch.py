from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hyperoracle_client.errors import OracleMisconfigured
from hyperoracle_client.hyper_state.sketch import SketchCompressor, sign_matrix
from hyperoracle_protocol.hyper_state import (
    CLIP,
    HyperStateLayout,
    SketchedTensor,
    TensorShape,
    sketch_bits,
    sketch_layout,
)

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors" / "sketch.json"
SHAPES = {"a.w": (6, 5), "a.b": (6,), "b.w": (3, 4, 2, 2), "b.b": (3,)}
MATRICES = {"a.w": (6, 5), "a.b": (1, 6), "b.w": (3, 16), "b.b": (1, 3)}


def layout(**settings: object) -> HyperStateLayout:
    shapes = [TensorShape(name=name, shape=shape) for name, shape in SHAPES.items()]
    return sketch_layout(shapes, **{"seed": 11, "width": 8, "orders": 2, **settings})


def drawn(rng: np.random.Generator, scale: float = 1.0) -> list[np.ndarray]:
    return [
        (scale * rng.normal(size=shape)).astype(np.float32) for shape in MATRICES.values()
    ]  # fmt: skip


def reference(
    wanted: HyperStateLayout, parameters: list[np.ndarray], gradients: list[list[np.ndarray]]
) -> np.ndarray:
    """Eq. 2 restricted to the sketch, number by number in float64, from the protocol's text."""
    features = []
    for index, tensor in enumerate(wanted.tensors):
        signs = np.zeros((tensor.columns, wanted.width))
        for column in range(tensor.columns):
            digest = sketch_bits(wanted.seed, tensor.name, column)
            for j in range(wanted.width):
                bit = digest[j // 8] >> (j % 8) & 1
                signs[column, j] = (1 if bit else -1) / np.sqrt(wanted.width)
        for order in range(wanted.orders + 1):
            if order == 0:
                matrix = parameters[index].astype(np.float64)
            elif order <= len(gradients):
                matrix = gradients[order - 1][index].astype(np.float64) * wanted.gradient_scale
            else:
                matrix = np.zeros((tensor.rows, tensor.columns))
            features.extend(np.clip(matrix @ signs, -CLIP, CLIP).reshape(-1))
    return np.array(features)


def close(features: np.ndarray, expected: np.ndarray) -> None:
    # float16 keeps 11 bits: relative error 2^-11; sums of 16 float32 products near 0: 1e-3
    assert features.dtype == np.float16
    np.testing.assert_allclose(features.astype(np.float64), expected, rtol=6e-4, atol=1e-3)


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text("utf-8"))["cases"])
def test_the_sign_matrix_equals_the_test_vectors(case: dict) -> None:
    columns = max(int(column) for column in case["rows"]) + 1
    matrix = sign_matrix(case["seed"], case["tensor"], columns, case["width"])
    for column, signs in case["rows"].items():
        expected = np.array([1.0 if sign == "+" else -1.0 for sign in signs])
        # one rounding of 1/sqrt(width) to float32
        np.testing.assert_allclose(
            matrix[int(column)], expected / np.sqrt(case["width"]), rtol=1e-7
        )


@pytest.mark.parametrize("settings", [{}, {"width": 3}, {"orders": 0}, {"orders": 4, "width": 1}])
def test_the_features_equal_a_plain_reference_of_equation_2(settings: dict) -> None:
    wanted = layout(**settings)
    compressor = SketchCompressor(wanted, list(SHAPES))
    rng = np.random.default_rng(0)
    seen: list[list[np.ndarray]] = []
    for _ in range(6):
        parameters, gradients = drawn(rng), drawn(rng, 1e-3)
        seen.insert(0, gradients)
        close(
            compressor.compress(parameters, gradients, {}, 0.0),
            reference(wanted, parameters, seen),
        )


def test_before_the_first_update_gradients_are_zero() -> None:
    wanted = layout()
    parameters = drawn(np.random.default_rng(1))
    features = SketchCompressor(wanted, list(SHAPES)).compress(parameters, [None] * 4, {}, 0.0)
    close(features, reference(wanted, parameters, []))


def test_a_tensor_without_gradient_counts_as_zero_beside_others() -> None:
    wanted = layout()
    rng = np.random.default_rng(2)
    parameters, gradients = drawn(rng), drawn(rng, 1e-3)
    some = [gradients[0], None, gradients[2], None]
    pairs = zip(some, parameters, strict=True)
    zeros = [np.zeros_like(p) if g is None else g for g, p in pairs]
    features = SketchCompressor(wanted, list(SHAPES)).compress(parameters, some, {}, 0.0)
    close(features, reference(wanted, parameters, [zeros]))


def test_asking_twice_between_two_updates_moves_no_gradient_on() -> None:
    wanted = layout()
    compressor = SketchCompressor(wanted, list(SHAPES))
    rng = np.random.default_rng(3)
    parameters, older, newer = drawn(rng), drawn(rng, 1e-3), drawn(rng, 1e-3)
    compressor.compress(parameters, older, {}, 0.0)
    first = compressor.compress(parameters, newer, {}, 0.0)
    np.testing.assert_array_equal(compressor.compress(parameters, newer, {}, 0.0), first)
    close(first, reference(wanted, parameters, [newer, older]))


def test_features_are_not_overwritten_by_later_ones() -> None:
    compressor = SketchCompressor(layout(), list(SHAPES))
    rng = np.random.default_rng(4)
    first = compressor.compress(drawn(rng), drawn(rng), {}, 0.0)
    kept = first.copy()
    compressor.compress(drawn(rng), drawn(rng), {}, 0.0)
    np.testing.assert_array_equal(first, kept)


def test_large_features_are_clipped_inside_float16() -> None:
    parameters = [np.full(shape, 1e30, np.float32) for shape in MATRICES.values()]
    features = SketchCompressor(layout(), list(SHAPES)).compress(parameters, [None] * 4, {}, 0.0)
    assert np.isfinite(features).all()
    assert np.abs(features).max() == np.float16(CLIP)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["parameter", "gradient"])
def test_what_is_not_finite_gives_no_features_and_is_forgotten(bad: float, where: str) -> None:
    wanted = layout()
    compressor = SketchCompressor(wanted, list(SHAPES))
    rng = np.random.default_rng(5)
    parameters, gradients = drawn(rng), drawn(rng, 1e-3)
    broken = drawn(rng)
    broken[2][1, 3] = bad
    if where == "parameter":
        assert compressor.compress(broken, [None] * 4, {}, 0.0) is None
    else:
        assert compressor.compress(parameters, broken, {}, 0.0) is None
    close(
        compressor.compress(parameters, gradients, {}, 0.0),
        reference(wanted, parameters, [gradients]),
    )


def test_only_the_tensors_of_the_layout_are_used() -> None:
    wanted = layout(last_weights=1, last_biases=1)
    rng = np.random.default_rng(6)
    parameters, gradients = drawn(rng), drawn(rng, 1e-3)
    features = SketchCompressor(wanted, list(SHAPES)).compress(parameters, gradients, {}, 0.0)
    close(features, reference(wanted, parameters[2:], [gradients[2:]]))


def test_float32_layouts_get_float32() -> None:
    wanted = layout(dtype="float32")
    parameters = drawn(np.random.default_rng(7))
    features = SketchCompressor(wanted, list(SHAPES)).compress(parameters, [None] * 4, {}, 0.0)
    assert features.dtype == np.float32
    # sums of at most 16 float32 products
    np.testing.assert_allclose(features, reference(wanted, parameters, []), rtol=1e-5, atol=1e-5)


def test_a_tensor_that_the_job_lacks_is_named() -> None:
    tensors = (SketchedTensor(name="elsewhere", rows=1, columns=1),)
    wanted = HyperStateLayout(kind="sketch", width=1, orders=0, tensors=tensors)
    with pytest.raises(OracleMisconfigured, match="elsewhere"):
        SketchCompressor(wanted, list(SHAPES))
