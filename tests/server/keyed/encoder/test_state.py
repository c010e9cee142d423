from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from hyperoracle_server.keyed.encoder.architecture import Architecture
from hyperoracle_server.keyed.encoder.serving import ServedEncoder
from hyperoracle_server.keyed.encoder.state import (
    EncoderState,
    initial_state,
    state_size_limit_bytes,
)

Arrays = dict[str, NDArray[Any]]


def test_the_seed_decides_the_initial_state(sketch: Architecture) -> None:
    assert initial_state(sketch, 3).to_bytes() == initial_state(sketch, 3).to_bytes()
    assert initial_state(sketch, 3).to_bytes() != initial_state(sketch, 4).to_bytes()


def test_an_untrained_encoder_gives_keys_of_order_one(sketch: Architecture) -> None:
    features = np.random.default_rng(0).normal(size=(500, sketch.feature_count))
    keys = ServedEncoder(initial_state(sketch, 0)).encode_batch(features.astype(np.float32))
    assert 0.3 < np.sqrt(np.mean(np.square(keys))) < 3.0


def test_a_random_encoder_holds_nothing_that_learns() -> None:
    arrays = initial_state(Architecture.of_sketch(((3, 8),), kind="random"), 0).arrays
    assert not [name for name in arrays if name.startswith(("adam", "decoder", "log_variance"))]


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture.of_sketch(((3, 8), (1, 8))),
        Architecture.of_sketch(((3, 8), (1, 8)), kind="random"),
        Architecture.of_statistics(9),
        Architecture.of_statistics(9, kind="vae"),
    ],
)
def test_bytes_give_the_state_back(architecture: Architecture) -> None:
    state = initial_state(architecture, 7)
    restored = EncoderState.from_bytes(state.to_bytes(), architecture)
    assert restored.architecture == architecture
    assert restored.arrays.keys() == state.arrays.keys()
    for name, array in state.arrays.items():
        assert restored.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(restored.arrays[name], array, strict=True)


def _without_a_bias(arrays: Arrays) -> None:
    del arrays["mean_bias"]


def _with_another_array(arrays: Arrays) -> None:
    arrays["surprise"] = np.zeros(1)


def _of_another_shape(arrays: Arrays) -> None:
    arrays["mean_bias"] = np.zeros((5, 1), np.float32)


def _of_another_dtype(arrays: Arrays) -> None:
    arrays["mean_bias"] = np.zeros(5, np.float64)


def _not_a_number(arrays: Arrays) -> None:
    arrays["mean_bias"] = np.full(5, np.nan, np.float32)


def _negative_variance(arrays: Arrays) -> None:
    arrays["moments_variance"] = -np.ones_like(arrays["moments_variance"])


def _negative_adam_moment(arrays: Arrays) -> None:
    arrays["adam_second.mean_bias"] = np.full(5, -1.0, np.float32)


def _negative_version(arrays: Arrays) -> None:
    arrays["version"] = np.array(-1, np.int64)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_a_bias, "missing.*mean_bias"),
        (_with_another_array, "unknown.*surprise"),
        (_of_another_shape, "shape"),
        (_of_another_dtype, "dtype"),
        (_not_a_number, "finite"),
        (_negative_variance, "moments_variance ≥ 0"),
        (_negative_adam_moment, "≥ 0"),
        (_negative_version, "version ≥ 0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    sketch: Architecture, damage: Callable[[Arrays], None], message: str
) -> None:
    arrays: Arrays = dict(initial_state(sketch, 0).arrays)
    damage(arrays)
    with pytest.raises(ValueError, match=message):
        EncoderState.from_bytes(safetensors.numpy.save(arrays), sketch)


def test_a_state_of_another_architecture_is_refused(sketch: Architecture) -> None:
    data = initial_state(Architecture.of_statistics(9, kind="vae"), 0).to_bytes()
    with pytest.raises(ValueError, match=r"missing.*projection"):
        EncoderState.from_bytes(data, sketch)


def test_damaged_bytes_are_refused(sketch: Architecture) -> None:
    data = initial_state(sketch, 0).to_bytes()
    pickled = pickle.dumps({"version": np.array(0)})
    for damaged in (b"", b"\x00" * 100, data[:-1], data[1:], data[:40], pickled):
        with pytest.raises(ValueError, match="expected safetensors"):
            EncoderState.from_bytes(damaged, sketch)


def test_too_many_bytes_are_refused_unread(sketch: Architecture) -> None:
    data = initial_state(sketch, 0).to_bytes()
    limit = state_size_limit_bytes(sketch)
    assert len(data) <= limit
    with pytest.raises(ValueError, match=f"at most {limit} bytes"):
        EncoderState.from_bytes(data + b"\x00" * (limit - len(data) + 1), sketch)
