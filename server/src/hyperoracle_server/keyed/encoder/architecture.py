"""What an encoder is made of: the blocks it reads, the sizes inside, its kind."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal, get_args

EncoderKind = Literal["vae", "random", "plain"]
"""`vae`: learned; `random`: a fixed random mapping; `plain`: the standardised features."""

FEATURE_LIMIT = 65_536
"""Most features that a hyper-state may have."""

LAYER_LIMIT = 4_096
"""Greatest hidden size and greatest key size of a mapping."""


@dataclass(frozen=True)
class Architecture:
    """The shape of an encoder; two encoders of equal architecture can exchange states.

    Prefer `of_sketch` and `of_statistics`, which fill in what follows from the kind.

    Args:
        kind: How keys are made, see `EncoderKind`.
        blocks: `(rows, width)` of each block of the flat hyper-state, in order. A sketch has one
            block W_m^n S_m per tensor and order; statistics are one block of one row.
        projected_width: Columns d of the learned C̃_m^n ∈ R^{width×d} that every block is
            multiplied by; None leaves the blocks as they are.
        hidden_size: Units of the hidden layer of encoder and decoder; 0 for `plain`.
        key_size: Length of a key; the feature count for `plain`.

    Raises:
        ValueError: Sizes do not fit one another or exceed the limits.

    Source: Le et al., Episodic Policy Gradient Training, AAAI 2022, Eq. 2 (d = 4, h = 32).
    """

    kind: EncoderKind
    blocks: tuple[tuple[int, int], ...]
    projected_width: int | None
    hidden_size: int
    key_size: int

    def __post_init__(self) -> None:
        """Check that the sizes fit one another."""
        if self.kind not in get_args(EncoderKind):
            raise ValueError(
                f"encoder kind: expected one of {get_args(EncoderKind)}, got {self.kind!r}"
            )
        if not self.blocks or any(
            len(block) != 2 or not all(_is_positive(size) for size in block)
            for block in self.blocks
        ):
            raise ValueError(
                f"encoder blocks: expected (rows, width) pairs of positive integers, "
                f"got {self.blocks!r}"
            )
        if self.feature_count > FEATURE_LIMIT:
            raise ValueError(
                f"hyper-state: expected at most {FEATURE_LIMIT} features, got "
                f"{self.feature_count}; sketch fewer tensors, or narrower"
            )
        if self.kind == "plain":
            self._check_plain()
        else:
            self._check_mapping()

    def _check_plain(self) -> None:
        expected = (None, 0, self.feature_count)
        got = (self.projected_width, self.hidden_size, self.key_size)
        if got != expected:
            raise ValueError(
                f"plain encoder: expected (projected_width, hidden_size, key_size) = {expected}, "
                f"got {got}; use Architecture.of_statistics"
            )

    def _check_mapping(self) -> None:
        for name, size in (("hidden_size", self.hidden_size), ("key_size", self.key_size)):
            if not _is_positive(size) or size > LAYER_LIMIT:
                raise ValueError(f"{name}: expected 1 to {LAYER_LIMIT}, got {size!r}")
        narrowest = min(width for _, width in self.blocks)
        width = self.projected_width
        if width is not None and not (_is_positive(width) and width <= narrowest):
            raise ValueError(
                f"projected_width: expected 1 to the narrowest block's width {narrowest}, "
                f"got {width!r}"
            )

    @classmethod
    def of_sketch(
        cls,
        blocks: tuple[tuple[int, int], ...],
        kind: Literal["vae", "random"] = "vae",
        projected_width: int = 4,
        hidden_size: int = 64,
        key_size: int = 32,
    ) -> Architecture:
        """Return the architecture for sketches W_m^n S_m of tensors and their gradients.

        Args:
            blocks: `(rows, width)` per tensor and order, in the order of the flat hyper-state.
            kind: Learned or fixed random mapping.
            projected_width: d of Eq. 2.
            hidden_size: Units of the hidden layer.
            key_size: h of the paper.
        """
        return cls(kind, tuple(blocks), projected_width, hidden_size, key_size)

    @classmethod
    def of_statistics(
        cls,
        feature_count: int,
        kind: EncoderKind = "plain",
        hidden_size: int = 64,
        key_size: int = 8,
    ) -> Architecture:
        """Return the architecture for one block of invariant numbers, without projection.

        Args:
            feature_count: How many statistics a hyper-state holds.
            kind: `plain` uses the standardised statistics as key and ignores the two sizes.
            hidden_size: Units of the hidden layer of a mapping.
            key_size: Length of the key of a mapping.
        """
        blocks = ((1, feature_count),)
        if kind == "plain":
            return cls(kind, blocks, None, 0, feature_count)
        return cls(kind, blocks, None, hidden_size, key_size)

    @property
    def feature_count(self) -> int:
        """D, the length of a flat hyper-state."""
        return sum(rows * width for rows, width in self.blocks)

    @property
    def projected_feature_count(self) -> int:
        """Length of [s_m^n] after C̃, the input of the hidden layer."""
        if self.projected_width is None:
            return self.feature_count
        return self.projected_width * sum(rows for rows, _ in self.blocks)

    def to_json(self) -> str:
        """Return the architecture as canonical JSON: equal architectures, equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Return the architecture that `to_json` wrote.

        Raises:
            ValueError: The text is not the JSON of a valid architecture.
        """
        try:
            fields = json.loads(text)
            fields["blocks"] = tuple(tuple(block) for block in fields["blocks"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"encoder architecture: expected the JSON of Architecture.to_json, got {text:.200}"
            ) from error


def _is_positive(size: object) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size > 0
