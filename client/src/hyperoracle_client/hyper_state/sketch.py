"""The sketch of Eq. 2: each weight tensor and its last gradients times a fixed sign matrix.

Source: Le et al., Episodic Policy Gradient Training, AAAI 2022, Eq. 2, restricted to the span of
the sign matrices `S` that `hyperoracle_protocol.hyper_state` defines.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hyperoracle_client.errors import OracleMisconfigured
from hyperoracle_protocol.hyper_state import CLIP, HyperStateLayout, sketch_bits

Floats = npt.NDArray[np.float32]


@functools.lru_cache(maxsize=256)
def sign_matrix(seed: int, tensor: str, columns: int, width: int) -> Floats:
    """The matrix S of one tensor: entries ±1/sqrt(width), read-only.

    Args:
        seed: the study's.
        tensor: its name.
        columns: inputs of the tensor.
        width: columns of the sketch, 1 to 256.

    Returns:
        columns x width, float32.
    """
    digests = b"".join(sketch_bits(seed, tensor, column) for column in range(columns))
    used = np.frombuffer(digests, np.uint8).reshape(columns, 32)[:, : (width + 7) // 8]
    bits = np.unpackbits(used, axis=1, bitorder="little")[:, :width]
    signs = (bits.astype(np.float32) * 2 - 1) / np.float32(np.sqrt(width))
    signs.flags.writeable = False
    return signs


class SketchCompressor:
    """Makes the `sketch` layout's features.

    The sketches of all tensors are kept in one stack: order 0 the parameters, then the gradients,
    newest first, as they were at the last optimiser updates that were seen. A gradient that has
    not changed since is the same update's, so nothing moves on.
    """

    def __init__(self, layout: HyperStateLayout, names: Sequence[str]) -> None:
        """Make the sign matrices.

        Raises:
            OracleMisconfigured: the layout asks for a tensor that the job does not have.
        """
        missing = [tensor.name for tensor in layout.tensors if tensor.name not in set(names)]
        if missing:
            raise OracleMisconfigured(f"expected the job to have the tensor {missing[0]!r}")
        self._layout = layout
        self._chosen = [list(names).index(tensor.name) for tensor in layout.tensors]
        self._signs: list[Any] = [
            sign_matrix(layout.seed, tensor.name, tensor.columns, layout.width)
            for tensor in layout.tensors
        ]
        rows = [tensor.rows for tensor in layout.tensors]
        starts = np.concatenate(([0], np.cumsum(rows)))
        blocks = (layout.orders + 1, int(starts[-1]), layout.width)
        self._stack = np.zeros(blocks, np.float32)
        self._newest = np.zeros(blocks[1:], np.float32)
        self._rows = [slice(int(a), int(b)) for a, b in itertools.pairwise(starts)]
        self._order = np.concatenate(
            [
                order * blocks[1] + np.arange(part.start, part.stop)
                for part in self._rows
                for order in range(blocks[0])
            ]
        )
        self._features = np.empty((len(self._order), layout.width), np.float32)
        self._parameter_views = [self._stack[0, part] for part in self._rows]
        self._gradient_views = [self._newest[part] for part in self._rows]
        self._device: _DeviceStack | None = None

    def compress(
        self,
        parameters: Sequence[Any],
        gradients: Sequence[Any | None],
        signals: Mapping[str, float],  # noqa: ARG002 - Compressor's signature
        progress: float,  # noqa: ARG002 - Compressor's signature
    ) -> npt.NDArray[np.generic] | None:
        """The features in the layout's order and dtype (see `Compressor`)."""
        parameters = [parameters[index] for index in self._chosen]
        gradients = [gradients[index] for index in self._chosen]
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
            if isinstance(parameters[0], np.ndarray):
                _multiply(parameters, self._signs, self._parameter_views)
                _multiply(gradients, self._signs, self._gradient_views)
            else:
                if self._device is None:
                    self._device = _DeviceStack(self._signs, self._rows, parameters[0])
                self._stack[0], self._newest[:] = self._device.multiply(parameters, gradients)
            self._newest *= self._layout.gradient_scale
        if self._layout.orders and not np.array_equal(self._newest, self._stack[1]):
            self._stack[2:] = self._stack[1:-1].copy()
            self._stack[1] = self._newest
        return self._laid_out()

    def state(self) -> dict[str, Any]:
        """The sketches of the last gradients, newest first."""
        return {"gradients": self._stack[1:].copy()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember the gradients that `state` is of."""
        self._stack[1:] = state["gradients"]

    def _laid_out(self) -> npt.NDArray[np.generic] | None:
        """The stack tensor by tensor, clipped, in the wire's dtype."""
        flat = self._stack.reshape(-1, self._layout.width)
        np.take(flat, self._order, axis=0, out=self._features, mode="clip")
        if not np.isfinite(self._features).all():
            self._stack[1:] = 0
            return None
        np.clip(self._features, -CLIP, CLIP, out=self._features)
        return self._features.astype(f"<f{2 if self._layout.dtype == 'float16' else 4}").reshape(-1)


def _multiply(matrices: Sequence[Any | None], signs: Sequence[Any], out: Sequence[Any]) -> None:
    for matrix, sign, view in zip(matrices, signs, out, strict=True):
        if matrix is None:
            view[:] = 0
        else:
            np.matmul(matrix, sign, out=view)


class _DeviceStack:
    """The same products where the tensors are, with one transfer to the host."""

    def __init__(self, signs: Sequence[Floats], rows: Sequence[slice], like: Any) -> None:
        torch: Any = sys.modules["torch"]  # the tensors are torch's, so it has been imported
        self._signs = [torch.tensor(sign, device=like.device) for sign in signs]
        self._rows = rows
        shape = (2, rows[-1].stop, signs[0].shape[1])
        self._stack = torch.zeros(shape, device=like.device)

    def multiply(
        self, parameters: Sequence[Any], gradients: Sequence[Any | None]
    ) -> npt.NDArray[np.float32]:
        """Sketches of parameters and gradients: 2 x rows x width."""
        for order, matrices in enumerate((parameters, gradients)):
            for matrix, sign, part in zip(matrices, self._signs, self._rows, strict=True):
                self._stack[order, part] = 0 if matrix is None else matrix @ sign
        host: npt.NDArray[np.float32] = self._stack.cpu().numpy()
        return host
