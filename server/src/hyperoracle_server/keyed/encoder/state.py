"""Everything that training an encoder needs to go on, as arrays and as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from hyperoracle_server.keyed.encoder.architecture import Architecture
from hyperoracle_server.keyed.encoder.moments import Moments

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER_ALLOWANCE_BYTES = 65_536
"""Room for the names and shapes that safetensors writes before the numbers."""

ADAM_FIRST = "adam_first."
"""Prefix of Adam's running mean of a parameter's gradient."""

ADAM_SECOND = "adam_second."
"""Prefix of Adam's running mean of the squared gradient."""


_INITIAL_GAIN = {
    "hidden_weight": 2.0,
    "decoder_hidden_weight": 2.0,
    "log_variance_weight": 0.01,
    "decoder_output_weight": 0.01,
}


@dataclass(frozen=True, eq=False)
class EncoderState:
    """The full training state: C̃, φ, ω, Adam's moments, the features' moments, the version.

    Args:
        architecture: What the arrays belong to.
        arrays: Flat mapping from name to array, exactly the names of `array_specs`. Nobody
            writes into them: a training round returns a new state.
    """

    architecture: Architecture
    arrays: Mapping[str, NDArray[Any]]

    @property
    def version(self) -> int:
        """How many training rounds lie behind this state; keys of unequal versions differ."""
        return int(self.arrays["version"])

    @property
    def nbytes(self) -> int:
        """What the arrays take."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def moments(self) -> Moments:
        """The running moments of the features."""
        return Moments(
            self.arrays["moments_mean"],
            self.arrays["moments_variance"],
            float(self.arrays["moments_count"]),
        )

    def to_bytes(self) -> bytes:
        """Return the arrays as safetensors: equal states give equal bytes."""
        return safetensors.numpy.save(dict(self.arrays))

    @classmethod
    def from_bytes(cls, data: bytes, architecture: Architecture) -> EncoderState:
        """Return the state that `to_bytes` wrote.

        Args:
            data: safetensors; never unpickled.
            architecture: What the state must fit.

        Raises:
            ValueError: Too large, damaged, or not a state of this architecture.
        """
        limit = state_size_limit_bytes(architecture)
        if len(data) > limit:
            raise ValueError(
                f"encoder state: expected at most {limit} bytes for this architecture, "
                f"got {len(data)}"
            )
        try:
            arrays = safetensors.numpy.load(data)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"encoder state: expected safetensors, got {len(data)} bytes that are damaged "
                f"({error}); restore it from a snapshot"
            ) from error
        check_arrays(arrays, architecture)
        return cls(architecture, arrays)


def parameter_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight and bias; weights map rows (inputs) to columns (outputs).

    `projection` holds the C̃_m^n of all blocks, one below the other.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    if architecture.kind == "plain":
        return shapes
    hidden, key = architecture.hidden_size, architecture.key_size
    if architecture.projected_width is not None:
        width_sum = sum(width for _, width in architecture.blocks)
        shapes["projection"] = (width_sum, architecture.projected_width)
    shapes["hidden_weight"] = (architecture.projected_feature_count, hidden)
    shapes["hidden_bias"] = (hidden,)
    shapes["mean_weight"] = (hidden, key)
    shapes["mean_bias"] = (key,)
    if architecture.kind == "vae":
        shapes["log_variance_weight"] = (hidden, key)
        shapes["log_variance_bias"] = (key,)
        shapes["decoder_hidden_weight"] = (key, hidden)
        shapes["decoder_hidden_bias"] = (hidden,)
        shapes["decoder_output_weight"] = (hidden, architecture.feature_count)
        shapes["decoder_output_bias"] = (architecture.feature_count,)
    return shapes


def array_specs(
    architecture: Architecture,
) -> dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]:
    """Return shape and dtype of every array of a state, by name."""
    single, double, integer = np.dtype("float32"), np.dtype("float64"), np.dtype("int64")
    features = (architecture.feature_count,)
    specs: dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]] = {
        "version": ((), integer),
        "moments_mean": (features, double),
        "moments_variance": (features, double),
        "moments_count": ((), double),
    }
    for name, shape in parameter_shapes(architecture).items():
        specs[name] = (shape, single)
        if architecture.kind == "vae":
            specs[ADAM_FIRST + name] = (shape, single)
            specs[ADAM_SECOND + name] = (shape, single)
    if architecture.kind == "vae":
        specs["adam_updates"] = ((), integer)
    return specs


def state_size_limit_bytes(architecture: Architecture) -> int:
    """Return the most bytes that a state of this architecture takes."""
    content = sum(
        int(np.prod(shape)) * dtype.itemsize for shape, dtype in array_specs(architecture).values()
    )
    return content + HEADER_ALLOWANCE_BYTES


def initial_state(architecture: Architecture, seed: int) -> EncoderState:
    """Return an untrained state, version 0, made without torch.

    Weights are normal with variance 1 / inputs (2 / inputs before a rectifier), so that
    standardised features give keys of order 1; biases are 0. The log-variance and the
    reconstruction start near 0: the prior, and the mean of the features.

    Args:
        architecture: What to make.
        seed: ≥ 0; the same seed gives the same state.
    """
    generator = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {
        name: np.zeros(shape, dtype) for name, (shape, dtype) in array_specs(architecture).items()
    }
    moments = Moments.unseen(architecture.feature_count)
    arrays["moments_variance"] = moments.variance
    for name, shape in parameter_shapes(architecture).items():
        if name == "projection":
            widths = np.repeat(*np.array([(w, w) for _, w in architecture.blocks]).T)
            values = generator.standard_normal(shape) / np.sqrt(widths)[:, None]
        elif name.endswith("_weight"):
            variance = _INITIAL_GAIN.get(name, 1.0) / shape[0]
            values = generator.standard_normal(shape) * np.sqrt(variance)
        else:
            continue
        arrays[name] = values.astype(np.float32)
    return EncoderState(architecture, arrays)


def check_arrays(arrays: Mapping[str, NDArray[Any]], architecture: Architecture) -> None:
    """Check that the arrays make a sound state of this architecture.

    Raises:
        ValueError: Names, shapes or dtypes differ, or a number is not finite or out of range.
    """
    specs = array_specs(architecture)
    if arrays.keys() != specs.keys():
        missing, unknown = specs.keys() - arrays.keys(), arrays.keys() - specs.keys()
        raise ValueError(
            f"encoder state: expected the arrays of a {architecture.kind!r} encoder, "
            f"missing {sorted(missing)}, unknown {sorted(unknown)}"
        )
    for name, (shape, dtype) in specs.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"encoder state: expected {name} of shape {shape} and dtype {dtype}, "
                f"got {array.shape} and {array.dtype}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"encoder state: expected finite numbers in {name}, got NaN or Inf")
        if _is_never_negative(name) and (array < 0).any():
            raise ValueError(f"encoder state: expected {name} ≥ 0, got a negative number")


def _is_never_negative(name: str) -> bool:
    return name.startswith(ADAM_SECOND) or name in {
        "version",
        "adam_updates",
        "moments_variance",
        "moments_count",
    }
