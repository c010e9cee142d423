"""The joint grid of hyper-actions: one bin for each hyperparameter. Knows no values."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence


class HyperActionGrid:
    """Joint hyper-actions numbered in mixed radix, the last hyperparameter varying fastest.

    With bins (3, 2) the joint hyper-actions 0 ... 5 are the bins (0, 0), (0, 1), (1, 0), (1, 1),
    (2, 0), (2, 1): the order of a C array.

    Args:
        bins_per_hyperparameter: the number of bins of each hyperparameter, each ≥ 1; at least one.
        default_bins: the bin of each hyperparameter's default.

    Raises:
        ValueError: a count below 1, no hyperparameter, or default bins off the grid.

    Source: Le et al., Episodic Policy Gradient Training, AAAI 2022, "Hyper-action".
    """

    def __init__(self, bins_per_hyperparameter: Sequence[int], default_bins: Sequence[int]) -> None:
        counts = tuple(_whole_number("bin count", count) for count in bins_per_hyperparameter)
        if not counts:
            raise ValueError("expected at least one hyperparameter, got none: add one to the space")
        if min(counts) < 1:
            raise ValueError(
                f"expected at least 1 bin per hyperparameter, got {counts}: remove those without"
            )
        self.bins_per_hyperparameter: tuple[int, ...] = counts
        """The number of bins of each hyperparameter."""
        self.joint_count: int = math.prod(counts)
        """How many joint hyper-actions there are."""
        self.default_joint_index: int = self.joint_index(default_bins)
        """The joint hyper-action that leaves every hyperparameter at its default."""

    @property
    def default_bins(self) -> tuple[int, ...]:
        """The bin of each hyperparameter's default."""
        return self.bins(self.default_joint_index)

    def joint_index(self, bins: Sequence[int]) -> int:
        """The joint hyper-action of these bins.

        Args:
            bins: one bin per hyperparameter, 0 ≤ bin < its count.

        Returns:
            An index in [0, ``joint_count``).

        Raises:
            ValueError: the wrong number of bins, or one outside its range.
        """
        if len(bins) != len(self.bins_per_hyperparameter):
            raise ValueError(
                f"expected {len(self.bins_per_hyperparameter)} bins, one per hyperparameter, "
                f"got {len(bins)}: {tuple(bins)}"
            )
        joint = 0
        for position, (given, count) in enumerate(
            zip(bins, self.bins_per_hyperparameter, strict=True)
        ):
            chosen = _whole_number("bin", given)
            if not 0 <= chosen < count:
                raise ValueError(
                    f"expected bin 0 to {count - 1} for hyperparameter {position}, got {chosen}"
                )
            joint = joint * count + chosen
        return joint

    def bins(self, joint_index: int) -> tuple[int, ...]:
        """The bins of a joint hyper-action; the inverse of ``joint_index``.

        Args:
            joint_index: an index in [0, ``joint_count``).

        Returns:
            One bin per hyperparameter.

        Raises:
            ValueError: the index is off the grid.
        """
        rest = _whole_number("joint hyper-action", joint_index)
        if not 0 <= rest < self.joint_count:
            raise ValueError(
                f"expected a joint hyper-action 0 to {self.joint_count - 1}, got {rest}"
            )
        reversed_bins = []
        for count in reversed(self.bins_per_hyperparameter):
            rest, chosen = divmod(rest, count)
            reversed_bins.append(chosen)
        return tuple(reversed(reversed_bins))

    def __repr__(self) -> str:
        return f"HyperActionGrid({self.bins_per_hyperparameter}, {self.default_bins})"


def _whole_number(what: str, value: int) -> int:
    """``value`` as an int; NumPy integers pass, floats and bools do not."""
    if isinstance(value, bool):
        raise ValueError(f"expected a whole number as {what}, got {value}")
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"expected a whole number as {what}, got {value!r}") from None
