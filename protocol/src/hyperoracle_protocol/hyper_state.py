"""The hyper-state's layout and its random sketch (Le et al., AAAI 2022, Eq. 2).

Eq. 2 maps each weight tensor and its last gradients to `vec(W C)` with a learned matrix `C`. The
work is cut in two: the client multiplies by a fixed random *sketch* `S` of `width` columns, the
server learns the rest, `C = S C̃`. No raw weight leaves the job, and the client needs no training.

`S` for a tensor with `columns` input columns has the entries ±1/sqrt(width), by this rule, which
any language can follow:

    digest = SHA-256(f"{seed}:{tensor name}:{column}", UTF-8)
    S[column, j] = +1/sqrt(width) if bit j of the digest is 1, else -1/sqrt(width)

where bit j is bit (j mod 8), counted from the least significant, of byte (j div 8). The same `S`
serves the parameter and every gradient order, so the sketch of the newest gradient is the next
update's sketch of order 2.

The features are laid out tensor by tensor; for each tensor the parameter (order 0), then its
gradients, newest first (orders 1 to `orders`); each block is `rows x width` in C order. Gradients
are multiplied by `gradient_scale` and everything is clipped to ±`CLIP` before it is stored as
float16.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Literal, TypeAlias

from pydantic import Field, computed_field

from hyperoracle_protocol.base import Count, Message, Positive

MAX_FEATURES = 65_536
"""More features than this are refused."""

MAX_SKETCH_WIDTH = 256
"""SHA-256 gives 256 signs per column."""

MAX_ORDERS = 8
"""Past gradients of a sketch, at most."""

CLIP = 60_000.0
"""Features are clipped to ±CLIP, inside float16's range."""

Dtype: TypeAlias = Literal["float16", "float32"]

POOLS = ("mean", "least", "greatest", "first", "last")
"""How a per-tensor statistic is pooled over the weight matrices, in the job's order."""

STATISTICS_POOLED = {
    "log_weight_norm": ("mean",),
    "log_gradient_norm": POOLS,
    "log_top_singular_value": ("mean",),
    "gradient_cosine": POOLS,
    "log_update_ratio": POOLS,
}
"""Per-tensor statistics, and by which of `POOLS` each is told.

Each must mean the same in every run. What is a property of one layer's weights names the run: it
begins with an accident of the initialisation and changes slowly. So the weights are told by means
over the layers, and their kurtosis not at all.
"""

STATISTICS_SIGNALS = ("approx_kl", "clip_fraction", "entropy_fraction", "explained_variance")
"""Training signals that the statistics include; a missing one counts as 0."""

STATISTICS_FEATURES = (
    *(f"{statistic}.{pool}" for statistic, pools in STATISTICS_POOLED.items() for pool in pools),
    *STATISTICS_SIGNALS,
    "progress",
)
"""The features of the `statistics` layout, in order."""


class TensorShape(Message):
    """A parameter tensor of the job's actor-critic, as its framework holds it.

    Attributes:
        name: unique within the job.
        shape: output units first, as in PyTorch; everything after the first axis is input.
    """

    name: str = Field(min_length=1, max_length=256)
    shape: tuple[Positive, ...] = Field(max_length=8)


class SketchedTensor(Message):
    """A tensor as the sketch sees it: a matrix of `rows` output units by `columns` inputs."""

    name: str
    rows: Positive
    columns: Positive


class HyperStateLayout(Message):
    """What the client is asked to compute at each proposal, told by the server at job start."""

    kind: Literal["none", "statistics", "sketch"]
    dtype: Dtype = "float16"
    seed: Count = 0
    width: int = Field(default=0, ge=0, le=MAX_SKETCH_WIDTH)
    orders: int = Field(default=0, ge=0, le=MAX_ORDERS)
    gradient_scale: float = 1024.0
    tensors: tuple[SketchedTensor, ...] = ()

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented spelling
    @cached_property
    def feature_count(self) -> int:
        """The number of features of a hyper-state."""
        if self.kind == "statistics":
            return len(STATISTICS_FEATURES)
        rows = sum(tensor.rows for tensor in self.tensors)
        return rows * self.width * (self.orders + 1)

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented spelling
    @cached_property
    def signature(self) -> str:
        """16 hexadecimal digits that name this layout: equal layouts, equal signatures."""
        fields = self.model_dump(exclude={"signature", "feature_count"})
        if self.kind == "statistics":
            fields = {"kind": self.kind, "features": STATISTICS_FEATURES}
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """A tensor's shape as a matrix: output units by everything else; a vector is one row."""
    if len(shape) <= 1:
        return 1, shape[0] if shape else 1
    columns = 1
    for extent in shape[1:]:
        columns *= extent
    return shape[0], columns


def sketch_layout(
    tensors: list[TensorShape] | tuple[TensorShape, ...],
    *,
    seed: int,
    width: int,
    orders: int,
    dtype: Dtype = "float16",
    last_weights: int = 10,
    last_biases: int = 10,
) -> HyperStateLayout:
    """The sketch layout for a job's tensors: its last weight and bias tensors, in model order.

    Args:
        tensors: the job's tensors in the model's order.
        seed: the study's seed.
        width: columns of the sketch, 1 to 256.
        orders: how many past gradients (N_order).
        dtype: of the features on the wire.
        last_weights: how many of the last tensors with two or more axes are used.
        last_biases: how many of the last tensors with one axis are used.

    Raises:
        ValueError: more than `MAX_FEATURES` features, or no tensor.
    """
    weights = [t.name for t in tensors if len(t.shape) >= 2]
    biases = [t.name for t in tensors if len(t.shape) < 2]
    chosen = {*weights[max(0, len(weights) - last_weights) :],
              *biases[max(0, len(biases) - last_biases) :]}  # fmt: skip
    sketched = []
    for tensor in tensors:
        if tensor.name in chosen:
            rows, columns = matrix_shape(tensor.shape)
            sketched.append(SketchedTensor(name=tensor.name, rows=rows, columns=columns))
    if not sketched:
        raise ValueError("expected at least one tensor, got none: pass the model to start_job")
    layout = HyperStateLayout(kind="sketch", dtype=dtype, seed=seed, width=width, orders=orders,
                              tensors=tuple(sketched))  # fmt: skip
    if layout.feature_count > MAX_FEATURES:
        raise ValueError(
            f"expected at most {MAX_FEATURES} features, got {layout.feature_count}: "
            "use a smaller sketch width, fewer orders or fewer tensors"
        )
    return layout


def sketch_bits(seed: int, tensor: str, column: int) -> bytes:
    """The 256 sign bits of one row of the sketch matrix (see the module's docstring)."""
    return hashlib.sha256(f"{seed}:{tensor}:{column}".encode()).digest()
