import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_protocol import Categorical, Choice, Float, Int, Scale
from hyperoracle_protocol.base import OracleMisconfigured
from hyperoracle_protocol.space import (
    bins_per_hyperparameter,
    check_size,
    count_hyper_actions,
    decode,
    default_bins,
    default_values,
    search_space_adapter,
)

SPACE = {
    "learning_rate": Scale([0.5, 1, 2]),
    "clip_range": Choice([0.1, 0.2, 0.3], default=0.2),
    "entropy_coefficient": Float(low=1e-4, high=1e-1, log=True, default=3e-3),
    "optimiser": Categorical(["adam", "rmsprop"], default="rmsprop"),
    "epochs": Int(low=1, high=4, default=3),
}


def test_a_space_comes_back_from_json_as_it_was_with_its_order():
    text = search_space_adapter.dump_json(SPACE)
    again = search_space_adapter.validate_json(text)
    assert again == SPACE
    assert list(again) == list(SPACE)


def test_the_default_bins_decode_to_the_defaults():
    assert decode(SPACE, default_bins(SPACE)) == default_values(SPACE)
    assert default_values(SPACE) == {
        "learning_rate": 1.0,
        "clip_range": 0.2,
        "entropy_coefficient": 3e-3,
        "optimiser": "rmsprop",
        "epochs": 3,
    }


def test_joint_hyper_actions_are_the_product_of_the_bins():
    # By hand: 3 factors, 3 choices, 5 bins, 2 names, {1, 2, 3, 4} without repeats.
    assert bins_per_hyperparameter(SPACE) == [3, 3, 5, 2, 4]
    assert count_hyper_actions(SPACE) == 3 * 3 * 5 * 2 * 4


def test_a_log_grid_has_a_constant_ratio():
    grid = Float(low=1e-4, high=1.0, log=True, default=1e-2, bins=5).values
    assert grid == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0], rel=1e-12)


@given(
    low=st.floats(-1e6, 1e6),
    width=st.floats(1e-3, 1e6),
    fraction=st.floats(0, 1),
    bins=st.integers(2, 64),
)
def test_every_float_grid_holds_its_default_and_stays_in_range(low, width, fraction, bins):
    high = low + width
    default = min(high, low + fraction * width)
    grid = Float(low=low, high=high, default=default, bins=bins).values
    assert len(grid) == bins
    assert default in grid
    assert list(grid) == sorted(grid)
    assert min(grid) >= low
    assert max(grid) <= high
    assert all(math.isfinite(value) for value in grid)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Scale([0.5, 2]), "default"),
        (lambda: Scale([0.5, 1, -2]), "greater than 0"),
        (lambda: Choice([], default=1), "at least 1"),
        (lambda: Choice([0.1, 0.1], default=0.1), "distinct"),
        (lambda: Choice([0.1, float("nan")], default=0.1), "finite"),
        (lambda: Float(low=1, high=1, default=1), "low < high"),
        (lambda: Float(low=0, high=1, default=2), "default in"),
        (lambda: Float(low=0, high=1, default=0.5, log=True), "low > 0"),
        (lambda: Int(low=0, high=4, default=2, bins=1), "greater than or equal to 2"),
        (lambda: Scale([1, 2], typo=3), "did you mean type"),
        (lambda: Choice([True, False], default=True), "Categorical for truth values"),
        (lambda: Categorical([0, 1], default=0), "valid string"),
        (lambda: Choice([10**400, 1], default=1), "that a float can hold"),
    ],
)
def test_a_senseless_hyperparameter_is_refused_with_the_reason(make, says):
    with pytest.raises(OracleMisconfigured, match=says):
        make()


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        (Choice([32, 64], default=64), int),
        (Choice(np.array([32, 64]), default=np.int64(64)), int),
        (Choice(range(1, 4), default=2), int),
        (Choice([0.5, 1], default=1), float),
        (Choice([1, 2], default=2.0), float),
        (Choice([2**70, 1], default=1), float),
    ],
)
def test_a_choice_of_whole_numbers_stays_one_and_a_mixed_one_is_of_floats(choice, kind):
    text = search_space_adapter.dump_json({"x": choice})
    for each in (choice, search_space_adapter.validate_json(text)["x"]):
        assert {type(value) for value in (*each.values, each.default)} == {kind}
        assert type(decode({"x": each}, [0])["x"]) is kind
        assert each.is_whole == (kind is int)


def test_too_many_joint_hyper_actions_are_refused_with_the_count():
    space = {f"h{i}": Choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], default=1) for i in range(5)}
    with pytest.raises(ValueError, match="100000"):
        check_size(space)


@pytest.mark.parametrize("bins", [[0], [3, 0, 0, 0, 0], [-1, 0, 0, 0, 0]])
def test_bins_off_the_grid_do_not_decode(bins):
    with pytest.raises(ValueError, match="expected"):
        decode(SPACE, bins)
