"""The compressed picture of a job's weights, gradients and signals, computed by the client.

The server says at job start which picture it wants; nothing here is learned, and no raw weight
leaves the job. NumPy only; tensors on a GPU are compressed there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hyperoracle_client.hyper_state.sketch import SketchCompressor
from hyperoracle_client.hyper_state.statistics import StatisticsCompressor
from hyperoracle_protocol.hyper_state import HyperStateLayout, TensorShape


class Compressor(Protocol):
    """Makes hyper-states of one layout; remembers what it needs of earlier gradients."""

    def compress(
        self,
        parameters: Sequence[Any],
        gradients: Sequence[Any | None],
        signals: Mapping[str, float],
        progress: float,
    ) -> npt.NDArray[np.generic] | None:
        """The features now, in the layout's dtype; None if they are not finite.

        Args:
            parameters: matrices (output units by inputs), in the order of the tensors' names.
            gradients: theirs, left by the last optimiser step; None where there is none.
            signals: training signals of the last update.
            progress: share of the job's env steps made, in [0, 1].
        """
        ...

    def state(self) -> dict[str, Any]:
        """What it remembers of earlier gradients: plain values and copies of arrays."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember what another one did when its `state` was taken."""
        ...


def make_compressor(layout: HyperStateLayout, tensors: Sequence[TensorShape]) -> Compressor | None:
    """The compressor for a layout; None where it asks for nothing.

    Args:
        layout: told by the server.
        tensors: the job's, in the model's order.

    Raises:
        OracleMisconfigured: the layout asks for a tensor that the job does not have.
    """
    if layout.kind == "sketch":
        return SketchCompressor(layout, [tensor.name for tensor in tensors])
    if layout.kind == "statistics":
        return StatisticsCompressor(layout, [len(tensor.shape) >= 2 for tensor in tensors])
    return None
