"""From hyper-state to key: the trained encoder as immutable NumPy weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hyperoracle_server.keyed.encoder.moments import standardise

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray

    from hyperoracle_server.keyed.encoder.state import EncoderState

_BATCH_ROWS = 512  # bounds the float32 copies while many hyper-states are re-encoded


class ServedEncoder:
    """One version of an encoder, ready to answer; immutable, so threads may share it.

    C̃ and the hidden layer are both linear, so they are folded into one matrix: a key costs one
    matrix-vector product over the features.

    Args:
        state: What training or the store gave; later changes to it are not seen.
    """

    def __init__(self, state: EncoderState) -> None:
        self.architecture = state.architecture
        self.version = state.version
        moments = state.moments
        self._feature_shape = (self.architecture.feature_count,)
        self._mean = _frozen(moments.mean)
        self._inverse_scale = _frozen(moments.inverse_scale())
        self._is_plain = self.architecture.kind == "plain"
        if not self._is_plain:
            self._first_weight = _frozen(folded_first_layer(state))
            self._first_bias = _frozen(state.arrays["hidden_bias"])
            self._mean_weight = _frozen(state.arrays["mean_weight"])
            self._mean_bias = _frozen(state.arrays["mean_bias"])

    @property
    def key_size(self) -> int:
        """Length of a key."""
        return self.architecture.key_size

    def encode(self, features: Float[np.ndarray, " features"]) -> Float[np.ndarray, " key_size"]:
        """Return the key of one hyper-state: the mean of the latent, float32.

        Args:
            features: Flat hyper-state, float16 or float32.

        Raises:
            ValueError: Another length or dtype, or NaN among the features.
        """
        if features.shape != self._feature_shape:
            raise ValueError(
                f"hyper-state: expected {self._feature_shape[0]} features in one dimension, "
                f"got shape {features.shape}"
            )
        return self._keys(features)

    def encode_batch(
        self, features: Float[np.ndarray, "samples features"]
    ) -> Float[np.ndarray, "samples key_size"]:
        """Return the keys of many hyper-states, float32.

        They agree with `encode` up to float32 rounding (sums are taken in another order).

        Args:
            features: One flat hyper-state a row, float16 or float32.

        Raises:
            ValueError: Another length or dtype, or NaN among the features.
        """
        if features.ndim != 2 or features.shape[1:] != self._feature_shape:
            raise ValueError(
                f"hyper-states: expected shape (n, {self._feature_shape[0]}), got {features.shape}"
            )
        keys = np.empty((len(features), self.key_size), np.float32)
        for start in range(0, len(features), _BATCH_ROWS):
            rows = slice(start, start + _BATCH_ROWS)
            keys[rows] = self._keys(features[rows])
        return keys

    def _keys(
        self, features: Float[np.ndarray, "*samples features"]
    ) -> Float[np.ndarray, "*samples key_size"]:
        if features.dtype.char not in "ef":
            raise ValueError(
                f"hyper-state: expected dtype float16 or float32, got {features.dtype}"
            )
        # An absurd feature overflows to Inf and is then clipped; NaN runs through to the key and
        # is caught there, where looking costs least: it would silently ruin the index.
        with np.errstate(over="ignore", invalid="ignore"):
            key = standardise(features, self._mean, self._inverse_scale)
            if not self._is_plain:
                hidden = key @ self._first_weight
                hidden += self._first_bias
                np.maximum(hidden, 0.0, out=hidden)
                key = hidden @ self._mean_weight
                key += self._mean_bias
        if not np.isfinite(key).all():
            raise ValueError("hyper-state: expected finite features, got NaN")
        return key


def folded_first_layer(state: EncoderState) -> Float[np.ndarray, "features hidden_size"]:
    """Return the matrix that maps standardised features to the hidden layer, C̃ included.

    For a block X (rows × width) and its C̃ (width × d), vec(X C̃) · W = vec(X) · F with
    F[(row, column), :] = Σ_k C̃[column, k] W[(row, k), :].

    Source: Le et al., AAAI 2022, Eq. 2.
    """
    architecture = state.architecture
    weight = state.arrays["hidden_weight"].astype(np.float64)
    d = architecture.projected_width
    if d is None:
        return weight
    projection = state.arrays["projection"].astype(np.float64)
    folded = []
    first_column = first_input = 0
    for rows, width in architecture.blocks:
        block_projection = projection[first_column : first_column + width]  # (width, d)
        block_weight = weight[first_input : first_input + rows * d].reshape(rows, d, -1)
        folded.append((block_projection @ block_weight).reshape(rows * width, -1))
        first_column += width
        first_input += rows * d
    return np.concatenate(folded)


def _frozen(array: NDArray[Any]) -> NDArray[np.float32]:
    copy = np.array(array, dtype=np.float32, order="C")
    copy.setflags(write=False)
    return copy
