"""Checks of what a memory is given, before anything changes."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyperoracle_server.strategies.decisions import Entries

if TYPE_CHECKING:
    from jaxtyping import Float

LARGEST_COMPONENT = 1e15
"""Keys with a component beyond are refused: their squares would overflow float32."""


def checked_keys(keys: npt.ArrayLike, shape: tuple[int, ...]) -> Float[np.ndarray, "*shape"]:
    """Keys as contiguous float32 of this shape, negative zeros made positive.

    Raises:
        ValueError: another shape, or a component that is not finite or beyond ±1e15.
    """
    given = np.asarray(keys)
    if given.shape != shape:
        raise ValueError(f"expected keys of shape {shape}, got {given.shape}")
    if given.dtype != np.float32:
        with np.errstate(over="ignore", invalid="ignore"):
            given = given.astype(np.float32)
    # Equal keys shall have equal bytes, and -0.0 == 0.0; the sum is a contiguous copy besides.
    checked: Float[np.ndarray, "*shape"] = np.add(given, np.float32(0), order="C")
    # False for NaN too.
    if not (np.abs(checked) <= LARGEST_COMPONENT).all():
        raise ValueError(
            f"expected finite key components within ±{LARGEST_COMPONENT:g}, got NaN, infinity "
            "or more: check the hyper-state and the encoder"
        )
    return checked


def checked_write(
    action: int, hyper_return: float, entry_id: int, n_actions: int, newest_id: int
) -> tuple[int, float, int]:
    """The arguments of a write as Python numbers.

    Raises:
        ValueError: one is off.
    """
    try:
        action, entry_id = operator.index(action), operator.index(entry_id)
    except TypeError:
        raise ValueError(
            f"expected whole numbers as action and entry_id, got {action!r} and {entry_id!r}"
        ) from None
    if not 0 <= action < n_actions:
        raise ValueError(f"expected an action from 0 to {n_actions - 1}, got {action}")
    if not newest_id < entry_id < 2**63:
        raise ValueError(
            f"expected an entry_id above {newest_id}, the newest stored, got {entry_id}"
        )
    hyper_return = float(hyper_return)
    if not math.isfinite(hyper_return):
        raise ValueError(f"expected a finite hyper-return, got {hyper_return}")
    return action, hyper_return, entry_id


def checked_entries(
    ids: npt.ArrayLike,
    keys: npt.ArrayLike,
    actions: npt.ArrayLike,
    values: npt.ArrayLike,
    key_size: int,
    n_actions: int,
) -> Entries:
    """Entries for a bulk load.

    Raises:
        ValueError: a shape is off, ids do not increase, an action is out of range, or a number is
            not finite.
    """
    ids = np.array(ids, np.int64)
    actions = np.array(actions, np.int64)
    values = np.array(values, np.float64)
    if not ids.shape == actions.shape == values.shape == (ids.size,):
        raise ValueError(
            "expected one id, action and value per entry, got shapes "
            f"{ids.shape}, {actions.shape} and {values.shape}"
        )
    checked = checked_keys(keys, (len(ids), key_size))
    if len(ids) and (ids[0] < 0 or (np.diff(ids) <= 0).any()):
        raise ValueError("expected strictly increasing ids of at least 0")
    if len(ids) and (actions.min() < 0 or actions.max() >= n_actions):
        raise ValueError(f"expected actions from 0 to {n_actions - 1}")
    if not np.isfinite(values).all():
        raise ValueError("expected finite values, got NaN or infinity")
    return Entries(ids, checked, actions, values)
