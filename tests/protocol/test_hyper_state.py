import hashlib

import pytest

from hyperoracle_protocol.hyper_state import (
    MAX_FEATURES,
    STATISTICS_FEATURES,
    HyperStateLayout,
    TensorShape,
    matrix_shape,
    sketch_bits,
    sketch_layout,
)

# The 64x64 actor-critic of a task with 11 observations and 3 actions.
TENSORS = [
    TensorShape(name="actor.0.weight", shape=(64, 11)),
    TensorShape(name="actor.0.bias", shape=(64,)),
    TensorShape(name="actor.2.weight", shape=(64, 64)),
    TensorShape(name="actor.2.bias", shape=(64,)),
    TensorShape(name="actor.4.weight", shape=(3, 64)),
    TensorShape(name="actor.4.bias", shape=(3,)),
    TensorShape(name="critic.0.weight", shape=(64, 11)),
    TensorShape(name="critic.0.bias", shape=(64,)),
    TensorShape(name="critic.2.weight", shape=(64, 64)),
    TensorShape(name="critic.2.bias", shape=(64,)),
    TensorShape(name="critic.4.weight", shape=(1, 64)),
    TensorShape(name="critic.4.bias", shape=(1,)),
]


def test_the_default_layout_has_the_features_counted_by_hand():
    layout = sketch_layout(TENSORS, seed=1, width=8, orders=2)
    # Rows: weights 4 x 64 + 3 + 1, biases 6 x 1; times width 8; times parameter and 2 gradients.
    assert layout.feature_count == (4 * 64 + 3 + 1 + 6) * 8 * 3 == 6384


def test_a_convolution_is_a_matrix_of_output_channels():
    assert matrix_shape((32, 4, 8, 8)) == (32, 256)
    assert matrix_shape((64,)) == (1, 64)
    assert matrix_shape(()) == (1, 1)


def test_only_the_last_tensors_are_sketched_in_model_order():
    layout = sketch_layout(TENSORS, seed=1, width=8, orders=0, last_weights=2, last_biases=1)
    names = [tensor.name for tensor in layout.tensors]
    assert names == ["critic.2.weight", "critic.4.weight", "critic.4.bias"]
    none = sketch_layout(TENSORS, seed=1, width=8, orders=0, last_weights=0, last_biases=1)
    assert [tensor.name for tensor in none.tensors] == ["critic.4.bias"]


def test_equal_layouts_and_only_they_have_equal_signatures():
    base = sketch_layout(TENSORS, seed=1, width=8, orders=2)
    again = HyperStateLayout.model_validate_json(base.model_dump_json())
    assert again.signature == base.signature
    others = [
        sketch_layout(TENSORS, seed=2, width=8, orders=2),
        sketch_layout(TENSORS, seed=1, width=7, orders=2),
        sketch_layout(TENSORS, seed=1, width=8, orders=1),
        sketch_layout(TENSORS[:-1], seed=1, width=8, orders=2),
        HyperStateLayout(kind="statistics"),
    ]
    assert len({base.signature, *(other.signature for other in others)}) == 6


def test_statistics_mean_the_same_whatever_the_tensors():
    layout = HyperStateLayout(kind="statistics", tensors=())
    assert layout.feature_count == len(STATISTICS_FEATURES) == 3 * 5 + 2 + 4 + 1
    assert layout.signature == HyperStateLayout(kind="statistics", seed=5).signature


def test_a_layout_over_the_cap_is_refused_with_the_remedy():
    tensors = [TensorShape(name="big", shape=(MAX_FEATURES, 10))]
    with pytest.raises(ValueError, match="smaller sketch width"):
        sketch_layout(tensors, seed=1, width=8, orders=2)
    with pytest.raises(ValueError, match="at least one tensor"):
        sketch_layout([], seed=1, width=8, orders=2)


def test_sketch_bits_are_the_documented_hash():
    expected = hashlib.sha256(b"7:actor.0.weight:3").digest()
    assert sketch_bits(7, "actor.0.weight", 3) == expected
