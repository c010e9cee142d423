"""Statistics of weights and gradients that mean the same in every network.

They do not change when hidden neurons change places, and hardly depend on the input width or the
number of layers: each is computed per weight matrix and then pooled over the matrices. Biases are
left out. What needs a gradient, or an earlier update, is 0 where there is none.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hyperoracle_protocol.hyper_state import (
    CLIP,
    POOLS,
    STATISTICS_FEATURES,
    STATISTICS_POOLED,
    STATISTICS_SIGNALS,
    HyperStateLayout,
)

FIRST_POWER_ITERATIONS = 12
"""At a job's first hyper-state; later ones go on from the last singular vector with one."""

_TINY = 1e-30

_IS_TOLD = np.array([[pool in told for pool in POOLS] for told in STATISTICS_POOLED.values()])


class StatisticsCompressor:
    """Makes the `statistics` layout's features (`STATISTICS_FEATURES` of the protocol)."""

    def __init__(self, layout: HyperStateLayout, is_weight: Sequence[bool]) -> None:
        """Make a compressor.

        Args:
            layout: its dtype counts.
            is_weight: for each of the job's tensors, whether it is a weight matrix.
        """
        self._is_weight = is_weight
        self._dtype = f"<f{2 if layout.dtype == 'float16' else 4}"
        self._tensors: list[_TensorStatistics] = []

    def compress(
        self,
        parameters: Sequence[Any],
        gradients: Sequence[Any | None],
        signals: Mapping[str, float],
        progress: float,
    ) -> npt.NDArray[np.generic] | None:
        """The features in the layout's dtype (see `Compressor`)."""
        weights = [
            (matrix, gradient)
            for matrix, gradient, is_weight in zip(
                parameters, gradients, self._is_weight, strict=True
            )
            if is_weight
        ]
        if not self._tensors:
            self._tensors = [_TensorStatistics() for _ in weights]
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
            sums = _on_host(
                [
                    tensor.sums(matrix, gradient)
                    for tensor, (matrix, gradient) in zip(self._tensors, weights, strict=True)
                ]
            )
        if not np.isfinite(sums).all():
            self._tensors = []
            return None
        rows = [
            _statistics(row, len(matrix)) for row, (matrix, _) in zip(sums, weights, strict=True)
        ]
        features = [
            *pooled(np.array(rows, np.float64).reshape(-1, len(STATISTICS_POOLED))),
            *(signals.get(name, 0.0) for name in STATISTICS_SIGNALS),
            progress,
        ]
        assert len(features) == len(STATISTICS_FEATURES)
        return np.clip(np.array(features, np.float64), -CLIP, CLIP).astype(self._dtype)

    def state(self) -> dict[str, Any]:
        """What is remembered of each weight matrix.

        Nothing where the matrices are on a GPU: its sums are not the same twice, bit by bit, so
        that a job that goes on there may as well begin anew.
        """
        return {"tensors": [tensor.state() for tensor in self._tensors if tensor.is_on_host]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember what `state` is of."""
        self._tensors = [_TensorStatistics.restored(each) for each in state["tensors"]]


def pooled(statistics: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each statistic over the tensors: mean, and of some least, greatest, first and last.

    Args:
        statistics: tensors x statistics; no tensor at all gives zeros.

    Returns:
        In the order of `STATISTICS_FEATURES`.
    """
    if not len(statistics):
        return np.zeros(_IS_TOLD.sum())
    pools = (
        statistics.mean(axis=0),
        statistics.min(axis=0),
        statistics.max(axis=0),
        statistics[0],
        statistics[-1],
    )
    told: npt.NDArray[np.float64] = np.stack(pools, axis=1)[_IS_TOLD]
    return told


class _TensorStatistics:
    """One weight matrix's sums, and what must be remembered from one update to the next.

    It uses only what NumPy arrays and torch tensors have in common, so that a matrix on a GPU is
    summed there; and it works in the memory that holds the last weights and gradient, because
    fresh memory for a large matrix costs more than the arithmetic.
    """

    def __init__(self) -> None:
        self._singular_vector: Any = None
        self._weights: Any = None
        self._gradient: Any = None
        self._gradient_square: Any = None

    @property
    def is_on_host(self) -> bool:
        """Whether what it remembers are NumPy's arrays."""
        return isinstance(self._weights, np.ndarray)

    def state(self) -> dict[str, Any]:
        """Copies of what it remembers, on the host."""
        gradient = None if self._gradient is None else self._gradient.copy()
        return {
            "singular_vector": self._singular_vector.copy(),
            "weights": self._weights.copy(),
            "gradient": gradient,
            "gradient_square": None if gradient is None else np.array(self._gradient_square),
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> _TensorStatistics:
        """The one whose `state` this is."""
        tensor = cls()
        tensor._singular_vector = state["singular_vector"]
        tensor._weights = state["weights"]
        tensor._gradient = state["gradient"]
        square = state["gradient_square"]
        tensor._gradient_square = None if square is None else square[()]
        return tensor

    def sums(self, matrix: Any, gradient: Any | None) -> list[Any]:
        """Scalars that have not left the device, in the order that `_statistics` takes them.

        Squared norms of the weights, the gradient, the previous gradient and the weights' last
        change, the inner product of both gradients, and the largest singular value.
        """
        flat = matrix.reshape(-1)
        change = self._change(flat)
        gradients = self._gradient_sums(None if gradient is None else gradient.reshape(-1), change)
        square, inner, previous = gradients
        top = self._top_singular_value(matrix)
        return [flat @ flat, square, previous, change, inner, top]

    def _change(self, flat: Any) -> Any:
        """Squared norm of the change since the last update (0 at the first)."""
        if self._weights is None:
            self._weights = flat + 0  # a copy: optimisers write in place
        work = self._weights
        work -= flat
        change = work @ work
        work[:] = flat
        return change

    def _gradient_sums(self, flat: Any | None, like: Any) -> tuple[Any, Any, Any]:
        """Squared norm of the gradient, inner product with and squared norm of the one before."""
        zero = like * 0
        if flat is None:
            self._gradient = None
            return zero, zero, zero
        square = flat @ flat
        if self._gradient is None:
            inner = previous = zero
            self._gradient = flat + 0
        else:
            inner, previous = flat @ self._gradient, self._gradient_square
            self._gradient[:] = flat
        self._gradient_square = square
        return square, inner, previous

    def _top_singular_value(self, matrix: Any) -> Any:
        """By power iteration, which the next update goes on with.

        It starts from the columns' norms: they follow every permutation of the neurons.
        """
        if self._singular_vector is None:
            self._singular_vector = _normalised((matrix * matrix).sum(0) ** 0.5)
            for _ in range(FIRST_POWER_ITERATIONS - 1):
                self._singular_vector = _normalised(matrix.T @ (matrix @ self._singular_vector))
        image = matrix @ self._singular_vector
        self._singular_vector = _normalised(matrix.T @ image)
        return (image @ image) ** 0.5


def _normalised(vector: Any) -> Any:
    return vector / ((vector @ vector) ** 0.5 + _TINY)


def _on_host(sums: list[list[Any]]) -> npt.NDArray[np.float64]:
    """All tensors' sums in host memory, with one transfer."""
    if sums and not isinstance(sums[0][0], np.generic | float):
        torch: Any = sys.modules["torch"]  # the sums are torch's, so it has been imported
        stacked = torch.stack([value for row in sums for value in row]).cpu().numpy()
        return np.asarray(stacked, np.float64).reshape(len(sums), -1)
    return np.array(sums, np.float64)


def _statistics(sums: npt.NDArray[np.float64], rows: int) -> list[float]:
    """One tensor's statistics, in the order of `STATISTICS_POOLED`.

    Norms are per output unit (divided by the root of the rows), which makes them independent of
    the input width under the usual initialisations.
    """
    square, gradient, previous_gradient, change, inner, top = sums
    both = math.sqrt(gradient * previous_gradient)
    return [
        _log(math.sqrt(square / rows)),
        _log(math.sqrt(gradient / rows)),
        _log(top),
        inner / both if both > _TINY else 0.0,
        _log(math.sqrt(change / square)) if square > _TINY else 0.0,
    ]


def _log(value: float) -> float:
    """The natural logarithm; 0 of nothing, which stands for missing."""
    return math.log(value) if value > _TINY else 0.0
