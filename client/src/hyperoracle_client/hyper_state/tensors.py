"""Reads parameters and gradients out of whatever framework the job uses.

What a model may be is `model_leaves.py`'s. Gradients come from each leaf's `.grad` where the leaves
are torch tensors, else from `propose(grads=...)`.

Flax keeps a kernel as (inputs, output units): leaves called "kernel" are transposed, because here
output units come first, as in PyTorch. A complex tensor counts as a real one with one more axis, of
real and imaginary part. A tensor without elements is left out.
"""

from __future__ import annotations

import hashlib
import math
import sys
from typing import Any, TypeAlias

import numpy as np

from hyperoracle_client.errors import OracleMisconfigured
from hyperoracle_client.hyper_state.model_leaves import FlatTree, Watch, named_leaves
from hyperoracle_protocol.hyper_state import TensorShape

Matrix: TypeAlias = Any
"""A two-dimensional float array: NumPy's, or torch's where the tensor is not in host memory."""

_MOST_NAME, _MOST_AXES = 256, 8  # of the protocol's `TensorShape`


class TensorSource:
    """The tensors of one job's actor-critic, in the model's order."""

    def __init__(self, model: Any, *, kernel_transposed: bool = True) -> None:
        """Look at a model.

        Args:
            model: see the module's docstring; None for a job without tensors.
            kernel_transposed: whether leaves called "kernel" are (inputs, output units).

        Raises:
            OracleMisconfigured: neither a module nor a tree of arrays, or a tensor without a shape.
        """
        self._model = model
        self._watch = Watch(model)
        found = {name: leaf for name, leaf in named_leaves(model).items() if leaf is not None}
        shapes = {name: _shape(name, leaf) for name, leaf in found.items()}
        self._empty = {name: shape for name, shape in shapes.items() if 0 in shape}
        self._shapes = {name: shape for name, shape in shapes.items() if 0 not in shape}
        self.names = list(self._shapes)
        self._leaves = {name: found[name] for name in self.names}
        self._params, self._grads = FlatTree(self._checked), FlatTree(self._matching)
        self._complex = {name for name in self.names if _is_complex(self._leaves[name])}
        self._kernels = {
            name
            for name, shape in self._shapes.items()
            if kernel_transposed
            and len(shape) >= 2
            and name.rpartition("/")[2] == "kernel"
            and name not in self._complex
        }

        # The shape of what needs no turning, None of what does.
        self._plain_matrices = [
            (name, shape if len(shape) == 2 and name not in self._kernels | self._complex else None)
            for name, shape in self._shapes.items()
        ]

    def shapes(self) -> list[TensorShape]:
        """Names and shapes as the wire wants them: output units first."""
        return [
            TensorShape(name=_wire_name(name), shape=self._wire_shape(name)) for name in self.names
        ]

    def read(self, params: Any = None, grads: Any = None) -> tuple[list[Matrix], list[Any]]:
        """Parameters and gradients as matrices, all of them in one place.

        Args:
            params: see `parameters`.
            grads: see `gradients`.

        Raises:
            OracleMisconfigured: a tensor that is not what it was at the start, or cannot be read;
                the message names it.
        """
        now = self._current() if params is None or grads is None else {}
        leaves = now if params is None else self._params.leaves_of(params)
        gradients = self._gradients(now) if grads is None else self._grads.leaves_of(grads)
        # What is a matrix already is taken as it is: a call for each would be much of a proposal.
        return in_one_place(
            [
                leaf
                if type(leaf := leaves[name]) is np.ndarray
                and leaf.dtype == np.float32
                and leaf.shape == matrix
                else self._matrix(name, leaf)
                for name, matrix in self._plain_matrices
            ],
            [
                leaf
                if (leaf := gradients.get(name)) is None
                or (type(leaf) is np.ndarray and leaf.dtype == np.float32 and leaf.shape == matrix)
                else self._matrix(name, leaf, "gradient of the ")
                for name, matrix in self._plain_matrices
            ],
        )

    def parameters(self, params: Any = None) -> list[Matrix]:
        """The parameters as matrices.

        Args:
            params: new values, for frameworks that do not update in place.
        """
        return self.read(params)[0]

    def gradients(self, grads: Any = None) -> list[Matrix | None]:
        """The last gradients as matrices, None where there is none.

        Args:
            grads: the gradients, for frameworks that do not keep them beside the parameters; those
                of frozen parameters may be None or missing.
        """
        return self.read(None, grads)[1]

    def first_not_finite(self, parameters: list[Matrix], gradients: list[Matrix | None]) -> str:
        """In words, which of these matrices holds a number that is not finite."""
        for what, matrices in (("", parameters), ("gradient of the ", gradients)):
            for name, matrix in zip(self.names, matrices, strict=True):
                if matrix is not None and not abs(matrix).max() < math.inf:
                    return f"the {what}tensor {name!r} is not finite"
        return "weights or gradients are too large for a finite hyper-state"

    def _gradients(self, leaves: dict[str, Any]) -> dict[str, Any]:
        return {name: getattr(leaves[name], "grad", None) for name in self.names}

    def _current(self) -> dict[str, Any]:
        """The model's leaves now, which need not be those of the start."""
        if not self._watch.sees_no_change():
            self._leaves = self._checked(named_leaves(self._model))
            self._watch = Watch(self._model)
        return self._leaves

    def _checked(self, leaves: dict[str, Any]) -> dict[str, Any]:
        """Leaves that are those of the start, by name.

        Raises:
            OracleMisconfigured: one is missing, or was not there.
        """
        leaves = {name: leaf for name, leaf in leaves.items() if leaf is not None}
        for name in self.names:
            if name not in leaves:
                raise OracleMisconfigured(
                    f"expected the tensors that start_job saw, {name!r} is missing: {_REMEDY}"
                )
        for name, leaf in leaves.items():
            if name not in self._shapes and _shape(name, leaf) != self._empty.get(name):
                raise OracleMisconfigured(
                    f"expected the tensors that start_job saw, {name!r} is new: {_REMEDY}"
                )
        return leaves

    def _matching(self, grads: dict[str, Any]) -> dict[str, Any]:
        """Gradients by the names of the parameters that they are of.

        Raises:
            OracleMisconfigured: one is of no tensor.
        """
        for name, gradient in grads.items():
            if gradient is not None and name not in self._shapes and name not in self._empty:
                raise OracleMisconfigured(
                    f"expected gradients of the tensors that start_job saw, got one of {name!r}"
                )
        return grads

    def _wire_shape(self, name: str) -> tuple[int, ...]:
        shape = self._shapes[name]
        if name in self._kernels:
            shape = (shape[-1], *shape[:-1])
        if name in self._complex:
            shape = (*shape, 2)
        return shape if len(shape) <= _MOST_AXES else (shape[0], math.prod(shape[1:]))

    def _matrix(self, name: str, leaf: Any, what: str = "") -> Matrix:
        """A leaf as output units by everything else; a vector is one row. No copy if avoidable.

        Raises:
            OracleMisconfigured: it has another shape than at the start, or cannot be read.
        """
        try:
            if leaf.shape != self._shapes[name]:
                raise OracleMisconfigured(
                    f"expected the {what}tensor {name!r} in its shape at the start, "
                    f"{self._shapes[name]}, got {tuple(leaf.shape)}: {_REMEDY}"
                )
            array = _plain(leaf)
        except OracleMisconfigured:
            raise
        except Exception as error:  # whatever the framework says becomes one line
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise OracleMisconfigured(
                f"the {what}tensor {name!r} cannot be read ({why}): leave it out of what start_job "
                "gets as the model"
            ) from error
        if name in self._kernels:
            return array.reshape(-1, array.shape[-1]).T
        if array.ndim == 2:
            return array
        return array.reshape(1 if array.ndim < 2 else array.shape[0], -1)


_REMEDY = "start another job with the model as it is now"


def in_one_place(
    parameters: list[Matrix], gradients: list[Matrix | None]
) -> tuple[list[Matrix], list[Matrix | None]]:
    """The same matrices: on one device if all are there, else in host memory."""
    if set(map(type, (*parameters, *gradients))) <= {np.ndarray, type(None)}:
        return parameters, gradients
    there = [matrix for matrix in (*parameters, *gradients) if matrix is not None]
    if len({getattr(matrix, "device", None) for matrix in there}) == 1:
        return parameters, gradients
    return [_on_host(matrix) for matrix in parameters], [_on_host(each) for each in gradients]


def _on_host(matrix: Matrix | None) -> Matrix | None:
    return matrix if matrix is None or isinstance(matrix, np.ndarray) else matrix.cpu().numpy()


def _shape(name: str, leaf: Any) -> tuple[int, ...]:
    """A leaf's shape.

    Raises:
        OracleMisconfigured: it has none, or not yet.
    """
    try:
        return tuple(int(extent) for extent in leaf.shape)
    except AttributeError:
        raise OracleMisconfigured(
            f"expected arrays as the model's leaves, got {type(leaf).__name__} at {name!r}"
        ) from None
    except Exception:  # torch's, of a lazy layer
        raise OracleMisconfigured(
            f"expected a model whose tensors have a shape, {name!r} has none yet: run the model "
            "once before start_job"
        ) from None


def _wire_name(name: str) -> str:
    if len(name) <= _MOST_NAME:
        return name or "value"
    return f"{name[:200]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _is_complex(leaf: Any) -> bool:
    return "complex" in str(getattr(leaf, "dtype", ""))


def _plain(leaf: Any) -> Any:
    """A float32 array in host memory, without a copy if it is one; a torch tensor elsewhere stays.

    Raises:
        ValueError: it holds no numbers.
    """
    if not hasattr(leaf, "detach"):
        if type(leaf) is np.ndarray and leaf.dtype == np.float32:  # nearly always
            return leaf
        array = np.asarray(leaf)
        if np.iscomplexobj(array):
            array = np.stack([np.real(array), np.imag(array)], axis=-1)
        return np.asarray(array, dtype=np.float32)
    torch: Any = sys.modules["torch"]  # the tensor is torch's, so it has been imported
    tensor = leaf.detach()
    if tensor.dtype is not torch.float32 or tensor.layout is not torch.strided:
        if tensor.layout is not torch.strided:
            tensor = tensor.to_dense()
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor.resolve_conj())
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        tensor = tensor.float()
    if tensor.is_cpu:
        return tensor.numpy()
    if tensor.is_meta:
        raise ValueError("on the device 'meta' it holds no numbers")
    return tensor
