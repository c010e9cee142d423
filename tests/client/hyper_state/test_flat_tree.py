"""A tree like the last one is not walked again: what it says is the same as if it were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_client import OracleMisconfigured
from hyperoracle_client.hyper_state import model_leaves
from hyperoracle_client.hyper_state.model_leaves import FlatTree, named_leaves
from hyperoracle_client.hyper_state.tensors import TensorSource

ARRAY, OTHER = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)

TREES = st.dictionaries(
    st.sampled_from(["a", "b", "module.a", "module.b", "a._orig_mod.b"]),
    st.one_of(
        st.just(ARRAY), st.just(OTHER), st.none(), st.just([1.0]),
        st.just({"x": ARRAY}), st.just((ARRAY, OTHER)),
    ),
    max_size=3,
)  # fmt: skip


@given(st.lists(TREES, max_size=6))
def test_whatever_comes_after_whatever_is_named_as_if_it_came_alone(trees: list[Any]) -> None:
    """Law. Would fail if types, order or number of the names were not looked at."""
    tree_of = FlatTree(lambda leaves: leaves)
    for tree in trees:
        try:
            expected = list(named_leaves(tree).items())
        except OracleMisconfigured:
            with pytest.raises(OracleMisconfigured):
                tree_of.leaves_of(tree)
            continue
        found = list(tree_of.leaves_of(tree).items())
        assert [name for name, _ in found] == [name for name, _ in expected]
        pairs = zip(found, expected, strict=True)
        assert all(leaf is other for (_, leaf), (_, other) in pairs)


def test_it_is_walked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    walked = []

    def walk(tree: Any) -> dict[str, Any]:
        walked.append(tree)
        return named_leaves(tree)

    monkeypatch.setattr(model_leaves, "named_leaves", walk)
    tree_of = FlatTree(lambda leaves: leaves)
    for tree in ({"a": ARRAY, "b": OTHER}, {"a": OTHER, "b": OTHER}, {"b": ARRAY, "a": ARRAY}):
        assert tree_of.leaves_of(tree) == tree
    assert walked == [{"a": ARRAY, "b": OTHER}, {"b": ARRAY, "a": ARRAY}]


def test_what_differs_from_the_start_is_told_after_any_number_of_good_ones() -> None:
    source = TensorSource({"a": ARRAY, "b": OTHER})
    for _ in range(3):
        parameters, gradients = source.read({"a": ARRAY, "b": OTHER}, {"a": OTHER, "b": None})
        assert gradients[1] is None
        np.testing.assert_array_equal(parameters[0], ARRAY)
    with pytest.raises(OracleMisconfigured, match="'b' is missing"):
        source.read({"a": ARRAY}, {})
    with pytest.raises(OracleMisconfigured, match="'c' is new"):
        source.read({"a": ARRAY, "b": OTHER, "c": ARRAY}, {})
    with pytest.raises(OracleMisconfigured, match="its shape at the start"):
        source.read({"a": ARRAY, "b": OTHER[:1]}, {})
    with pytest.raises(OracleMisconfigured, match="one of 'c'"):
        source.read({"a": ARRAY, "b": OTHER}, {"c": ARRAY})
    with pytest.raises(OracleMisconfigured, match="'b' is missing"):
        source.read({"a": ARRAY, "b": None}, {})
