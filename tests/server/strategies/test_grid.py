from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.strategies.grid import HyperActionGrid


def test_joint_indices_count_like_a_c_array() -> None:
    grid = HyperActionGrid([3, 2], [1, 0])
    assert [grid.bins(j) for j in range(grid.joint_count)] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 1),
    ]
    assert grid.default_joint_index == 2
    assert grid.default_bins == (1, 0)


def test_four_hyperparameters_of_five_bins_give_625_joint_hyper_actions() -> None:
    assert HyperActionGrid([5] * 4, [2] * 4).joint_count == 625


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_joint_index_agrees_with_numpy_and_is_undone_by_bins(counts: list[int]) -> None:
    grid = HyperActionGrid(counts, [0] * len(counts))
    assert grid.joint_count == math.prod(counts)
    for bins in itertools.product(*map(range, counts)):
        joint = grid.joint_index(bins)
        assert joint == np.ravel_multi_index(bins, counts)
        assert grid.bins(joint) == bins


def test_numpy_integers_are_whole_numbers() -> None:
    grid = HyperActionGrid(np.array([4, 3]), np.array([1, 2]))  # type: ignore[arg-type]  # NumPy users
    assert grid.joint_index(np.array([3, 0])) == 9  # type: ignore[arg-type]  # NumPy users
    assert grid.bins(np.int64(9)) == (3, 0)  # type: ignore[arg-type]  # NumPy users


@pytest.mark.parametrize(
    ("counts", "defaults", "message"),
    [
        ([], [], "at least one hyperparameter"),
        ([3, 0], [0, 0], "at least 1 bin"),
        ([3], [3], "bin 0 to 2"),
        ([3], [-1], "bin 0 to 2"),
        ([3], [0, 0], "expected 1 bins"),
        ([3], [0.5], "whole number"),
        ([2.0], [0], "whole number"),
        ([True], [0], "whole number"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(
    counts: list[int], defaults: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        HyperActionGrid(counts, defaults)


def test_hyper_actions_off_the_grid_are_refused() -> None:
    grid = HyperActionGrid([3, 2], [0, 0])
    for joint in (-1, 6):
        with pytest.raises(ValueError, match=f"0 to 5, got {joint}"):
            grid.bins(joint)
    with pytest.raises(ValueError, match="hyperparameter 1, got 2"):
        grid.joint_index([0, 2])
    with pytest.raises(ValueError, match="one per hyperparameter"):
        grid.joint_index([0])
