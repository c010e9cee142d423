"""Whether what an update used is what was proposed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hyperoracle_client.errors import OracleMisconfigured
from hyperoracle_protocol.space import Value

TOLERANCE = 1e-6
"""Relative difference up to which numbers are the same: float32 keeps 7 digits."""
LONGEST_TEXT = 128


def used_instead(proposed: Mapping[str, Value], used: Mapping[str, Any]) -> dict[str, Value]:
    """The values that differ from the proposed ones, as the wire takes them; empty if none do.

    Args:
        proposed: of a relative hyperparameter the factor.
        used: the same, as the loop had them; names may be left out.

    Raises:
        OracleMisconfigured: a name that was not proposed.
    """
    unknown = [name for name in used if name not in proposed]
    if unknown:
        raise OracleMisconfigured(
            f"expected applied values of {', '.join(proposed)}, got {', '.join(unknown)}"
        )
    return {
        name: _as_value(value) for name, value in used.items() if not _same(proposed[name], value)
    }


def in_words(proposed: Mapping[str, Value], used: Mapping[str, Value]) -> str:
    """A line about values that were used instead of the proposed ones."""
    pairs = [f"{name}={value!r} instead of {proposed[name]!r}" for name, value in used.items()]
    return f"an update used {', '.join(pairs)}: its proposal is credited nothing"


def _same(proposed: Value, used: Any) -> bool:
    if isinstance(proposed, str | bool):
        return bool(proposed == used)
    try:
        return math.isclose(proposed, float(used), rel_tol=TOLERANCE)
    except (TypeError, ValueError):  # no number at all
        return False


def _as_value(used: Any) -> Value:
    if isinstance(used, bool | int):
        return used
    try:
        number = float(used)
    except (TypeError, ValueError):
        return str(used)[:LONGEST_TEXT]
    return number if math.isfinite(number) else str(number)
