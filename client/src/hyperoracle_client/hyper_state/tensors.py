"""Reads parameters and gradients out of whatever framework the job uses.

Understood without importing any framework:

- a torch module (anything with `named_parameters`), gradients from each parameter's `.grad`;
- a mapping from names to arrays, nested as in JAX and Flax: names are joined with "/". Gradients
  come from `.grad` where the leaves are torch tensors, else from `propose(grads=...)`.

Flax keeps a kernel as (inputs, output units): leaves called "kernel" are transposed, because here
output units come first, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from hyperoracle_client.errors import OracleMisconfigured
from hyperoracle_protocol.hyper_state import TensorShape

Matrix: TypeAlias = Any
"""A two-dimensional float array: NumPy's, or torch's where the tensor is not in host memory."""


class TensorSource:
    """The tensors of one job's actor-critic, in the model's order."""

    def __init__(self, model: Any, *, kernel_transposed: bool = True) -> None:
        """Look at a model.

        Args:
            model: see the module's docstring; None for a job without tensors.
            kernel_transposed: whether leaves called "kernel" are (inputs, output units).

        Raises:
            OracleMisconfigured: neither a module nor a mapping of arrays.
        """
        self._leaves = dict(_named_leaves(model))
        self.names = list(self._leaves)
        for name, leaf in self._leaves.items():
            if not hasattr(leaf, "shape"):
                raise OracleMisconfigured(
                    f"expected arrays as the model's leaves, got {type(leaf).__name__} at {name!r}"
                )
        self._kernels = {
            name
            for name, leaf in self._leaves.items()
            if kernel_transposed and len(leaf.shape) >= 2 and name.rpartition("/")[2] == "kernel"
        }

    def shapes(self) -> list[TensorShape]:
        """Names and shapes as the wire wants them: output units first."""
        return [
            TensorShape(name=name, shape=self._output_first(name, tuple(leaf.shape)))
            for name, leaf in self._leaves.items()
        ]

    def parameters(self, params: Any = None) -> list[Matrix]:
        """The parameters as matrices.

        Args:
            params: new values, for frameworks that do not update in place.
        """
        leaves = self._leaves if params is None else self._picked(params)
        return [self._matrix(name, leaves[name]) for name in self.names]

    def gradients(self, grads: Any = None) -> list[Matrix | None]:
        """The last gradients as matrices, None where there is none.

        Args:
            grads: the gradients, for frameworks that do not keep them beside the parameters.
        """
        if grads is None:
            found = {name: getattr(leaf, "grad", None) for name, leaf in self._leaves.items()}
        else:
            found = self._picked(grads)
        return [
            None if found[name] is None else self._matrix(name, found[name]) for name in self.names
        ]

    def _picked(self, tree: Any) -> dict[str, Any]:
        leaves = dict(_named_leaves(tree))
        missing = [name for name in self.names if name not in leaves]
        if missing:
            raise OracleMisconfigured(
                f"expected the tensors that start_job saw, {missing[0]!r} is missing"
            )
        return leaves

    def _output_first(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[-1], *shape[:-1]) if name in self._kernels else shape

    def _matrix(self, name: str, leaf: Any) -> Matrix:
        """A leaf as output units by everything else; a vector is one row. No copy if avoidable."""
        array = _plain(leaf)
        if name in self._kernels:
            return array.reshape(-1, array.shape[-1]).T
        if array.ndim == 2:
            return array
        return array.reshape(1 if array.ndim < 2 else array.shape[0], -1)


def _named_leaves(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if model is None:
        return
    if hasattr(model, "named_parameters"):
        yield from model.named_parameters()
    elif isinstance(model, Mapping):
        for key, value in model.items():
            name = f"{prefix}/{key}" if prefix else str(key)
            if isinstance(value, Mapping):
                yield from _named_leaves(value, name)
            else:
                yield name, value
    else:
        raise OracleMisconfigured(
            "expected a torch module or a mapping of names to arrays as the model, got "
            f"{type(model).__name__}"
        )


def _plain(leaf: Any) -> Any:
    """A NumPy view of an array in host memory; a torch tensor elsewhere stays where it is."""
    if not hasattr(leaf, "detach"):
        return np.asarray(leaf, dtype=np.float32)
    tensor = leaf.detach()
    if not tensor.is_cpu:
        return tensor.float()
    if tensor.itemsize != 4:  # half and double precision; NumPy knows no bfloat16
        tensor = tensor.float()
    return tensor.numpy()
