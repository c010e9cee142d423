from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from hyperoracle_server.keyed.encoder.architecture import Architecture
from hyperoracle_server.keyed.encoder.moments import CLIP
from hyperoracle_server.keyed.encoder.serving import ServedEncoder
from hyperoracle_server.keyed.encoder.state import EncoderState, initial_state, parameter_shapes


def random_state(architecture: Architecture, seed: int) -> EncoderState:
    """Return a state in which nothing is 0 or 1: biases and moments as after long training."""
    generator = np.random.default_rng(seed)
    arrays = dict(initial_state(architecture, seed).arrays)
    for name in parameter_shapes(architecture):
        noise = generator.normal(size=arrays[name].shape).astype(np.float32)
        arrays[name] = arrays[name] + np.float32(0.02) * noise
    features = architecture.feature_count
    arrays["moments_mean"] = generator.normal(size=features)
    arrays["moments_variance"] = 10.0 ** generator.uniform(-3, 1, size=features)
    arrays["moments_count"] = np.array(500.0)
    return EncoderState(architecture, arrays)


def slow_key(state: EncoderState, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the key by Eq. 2 as written: s_m^n = vec(X_m^n C̃_m^n), block by block."""
    arrays = {name: array.astype(np.float64) for name, array in state.arrays.items()}
    x = (features.astype(np.float64) - arrays["moments_mean"]) / np.sqrt(arrays["moments_variance"])
    x = np.clip(x, -CLIP, CLIP)
    hyper_state: list[float] = []
    first_feature = first_column = 0
    for rows, width in state.architecture.blocks:
        block = x[first_feature : first_feature + rows * width].reshape(rows, width)
        first_feature += rows * width
        if state.architecture.projected_width is not None:
            block = block @ arrays["projection"][first_column : first_column + width]
            first_column += width
        hyper_state.extend(block.ravel())
    hidden = np.maximum(
        0.0, np.array(hyper_state) @ arrays["hidden_weight"] + arrays["hidden_bias"]
    )
    return np.asarray(hidden @ arrays["mean_weight"] + arrays["mean_bias"])


ARCHITECTURES = [
    Architecture.of_sketch(((6, 8), (1, 8), (4, 5)), projected_width=3, hidden_size=16, key_size=5),
    Architecture.of_sketch(((64, 8), (1, 8)), kind="random"),
    Architecture.of_statistics(20, kind="vae"),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_key_is_the_mean_of_the_latent(architecture: Architecture, dtype: type) -> None:
    state = random_state(architecture, 1)
    encoder = ServedEncoder(state)
    for features in np.random.default_rng(2).normal(size=(20, architecture.feature_count)):
        key = encoder.encode(features.astype(dtype))
        assert key.shape == (architecture.key_size,)
        assert key.dtype == np.float32
        expected = slow_key(state, features.astype(dtype).astype(np.float32))
        # float32 sums of at most 520 terms of order 1
        np.testing.assert_allclose(key, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, Architecture.of_statistics(20)])
def test_a_batch_gives_the_same_keys(architecture: Architecture) -> None:
    encoder = ServedEncoder(random_state(architecture, 3))
    samples = np.random.default_rng(4).normal(size=(1_030, architecture.feature_count))
    samples = samples.astype(np.float16)  # 1,030 rows: two full pieces and a rest
    keys = encoder.encode_batch(samples)
    assert keys.dtype == np.float32
    one_by_one = np.array([encoder.encode(features) for features in samples])
    np.testing.assert_allclose(keys, one_by_one, rtol=1e-5, atol=1e-5)  # order of float32 sums


def test_no_samples_give_no_keys() -> None:
    encoder = ServedEncoder(initial_state(Architecture.of_statistics(3), 0))
    assert encoder.encode_batch(np.empty((0, 3), np.float16)).shape == (0, 3)


def test_a_plain_key_is_the_standardised_features() -> None:
    state = initial_state(Architecture.of_statistics(3), 0)
    moments = {"moments_mean": np.array([1.0, 0.0, 0.0]), "moments_variance": np.full(3, 4.0)}
    encoder = ServedEncoder(EncoderState(state.architecture, {**state.arrays, **moments}))
    key = encoder.encode(np.array([3.0, -1.0, 100.0], np.float16))
    np.testing.assert_array_equal(key, [1.0, -0.5, CLIP])


def test_a_served_encoder_does_not_change_with_the_state_it_came_from() -> None:
    state = random_state(ARCHITECTURES[0], 5)
    encoder = ServedEncoder(state)
    features = np.ones(ARCHITECTURES[0].feature_count, np.float16)
    before = encoder.encode(features)
    for array in state.arrays.values():
        array[...] = 1
    np.testing.assert_array_equal(encoder.encode(features), before)
    weights = [value for value in vars(encoder).values() if isinstance(value, np.ndarray)]
    assert weights
    assert not any(array.flags.writeable for array in weights)


def test_features_are_left_as_they_are() -> None:
    encoder = ServedEncoder(random_state(ARCHITECTURES[0], 6))
    features = np.ones(ARCHITECTURES[0].feature_count, np.float32)
    encoder.encode(features)
    np.testing.assert_array_equal(features, np.ones_like(features))


def test_wild_but_finite_features_give_finite_keys() -> None:
    encoder = ServedEncoder(random_state(ARCHITECTURES[0], 7))
    features = np.full(ARCHITECTURES[0].feature_count, 3e38, np.float32)
    assert np.isfinite(encoder.encode(features)).all()


def test_hyper_states_that_do_not_fit_are_refused() -> None:
    encoder = ServedEncoder(random_state(ARCHITECTURES[0], 8))
    count = ARCHITECTURES[0].feature_count
    with pytest.raises(ValueError, match=f"expected {count} features"):
        encoder.encode(np.zeros(count + 1, np.float16))
    with pytest.raises(ValueError, match=f"expected {count} features"):
        encoder.encode(np.zeros((1, count), np.float16))
    with pytest.raises(ValueError, match=r"expected shape \(n, "):
        encoder.encode_batch(np.zeros(count, np.float16))
    with pytest.raises(ValueError, match="expected dtype float16 or float32"):
        encoder.encode(np.zeros(count, np.float64))
    for position in (0, count - 1):
        features = np.zeros(count, np.float16)
        features[position] = np.nan
        with pytest.raises(ValueError, match="expected finite features"):
            encoder.encode(features)


PROGRAM = """
import sys
import numpy as np
from hyperoracle_server.keyed.encoder import architecture
from hyperoracle_server.keyed.encoder import moments
from hyperoracle_server.keyed.encoder import serving
from hyperoracle_server.keyed.encoder import state
from hyperoracle_server.keyed.encoder import training
from hyperoracle_server.keyed.encoder import training_process
from hyperoracle_server.keyed.encoder import worker
sketch = architecture.Architecture.of_sketch(((3, 8),))
samples = np.random.default_rng(0).normal(size=(4, 24)).astype(np.float16)
untrained = state.EncoderState.from_bytes(state.initial_state(sketch, 0).to_bytes(), sketch)
serving.ServedEncoder(untrained).encode(samples[0])
random = architecture.Architecture.of_sketch(((3, 8),), kind="random")
training.train(state.initial_state(random, 0), samples, 0)
training_process.TrainingProcess().close()
print("torch" in sys.modules)
training.train(untrained, samples, 0, 1)
print("torch" in sys.modules)
"""


@pytest.mark.slow
def test_torch_is_imported_by_the_training_of_a_vae_and_by_nothing_else() -> None:
    """Able to fail: the second line shows that the check sees an imported torch."""
    command = [sys.executable, "-c", PROGRAM]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.split() == ["False", "True"]
