"""How training fails: it diverges, or its environment raises or gives what is no number.

What an environment does wrong is said of the environment: which copy, at which step, what it did.
Otherwise a NaN reward shows as a loss that is no number, and the learning rate is blamed.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_LARGEST = float(np.finfo(np.float32).max)
_SQUARES = 1e76  # below it no single number was larger than `_LARGEST`
_SHOWN = 160


class TrainingDivergedError(ArithmeticError):
    """A loss or an action is no longer a finite number; the message is one line with the remedy."""


class EnvironmentFailed(Exception):
    """An environment raised, or gave what is no number; the message is one line with the remedy.

    Args:
        index: which of the batch.
        what: happened, as "expected …, got …".
        when: at which of its steps, once that is known.

    Attributes:
        index: as given.
        what: as given.
    """

    def __init__(self, index: int, what: str, when: str = "") -> None:
        place = f"environment {index}" + (f", {when}" if when else "")
        super().__init__(f"{place}: {what}; correct the environment")
        self.index = index
        self.what = what

    def at(self, when: str) -> EnvironmentFailed:
        """Return the same failure with its moment."""
        return EnvironmentFailed(self.index, self.what, when)


def raised(index: int, call: str, error: Exception) -> EnvironmentFailed:
    """Return the failure of an environment whose own code raised.

    Args:
        index: which of the batch.
        call: what was called, such as ``"step(3)"``.
        error: what it raised.
    """
    frame = traceback.extract_tb(error.__traceback__)[-1]
    reason = shortened(f"{type(error).__name__}: {error}".removesuffix(": "))
    where = f"{Path(frame.filename).name}, line {frame.lineno}"
    return EnvironmentFailed(
        index, f"expected {shortened(call)} to succeed, got {reason} ({where})"
    )


def answered(index: int, call: str, expected: str, answer: Any) -> EnvironmentFailed:
    """Return the failure of an environment whose answer has another form than Gymnasium's.

    Args:
        index: which of the batch.
        call: what was called.
        expected: what it should have answered.
        answer: what it did.
    """
    parts = answer if isinstance(answer, tuple) else (answer,)
    got = ", ".join(_form(each) for each in parts)
    got = f"({got})" if isinstance(answer, tuple) else got
    return EnvironmentFailed(index, f"expected {expected} of {call}, got {shortened(got)}")


def are_numbers(array: npt.NDArray[Any]) -> bool:
    """Whether all are numbers that single precision holds: no NaN, no infinity, at most 3.4e38."""
    if array.dtype.kind != "f":
        return True
    flat = array.ravel()
    # One product says of all numbers that nothing is wrong; it nearly always is the answer.
    return bool(flat.dot(flat) < _SQUARES or no_numbers(array).sum() == 0)


def no_numbers(array: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which are NaN, infinite, or larger than 3.4e38; of the same shape."""
    wrong: npt.NDArray[np.bool_] = ~(np.abs(array) <= _LARGEST)  # NaN is in no relation
    return wrong


def no_number(index: int, what: str, array: npt.NDArray[Any]) -> EnvironmentFailed:
    """Return the failure of an environment that gave what is no number.

    Args:
        index: which of the batch.
        what: it gave, such as ``"observation"``.
        array: that, at least one of which is no number.
    """
    flat = array.ravel()
    first = int(no_numbers(flat).argmax())
    part = f" (number {first} of {flat.size})" if flat.size > 1 else ""
    got = f"{flat[first]:g}{part}"
    return EnvironmentFailed(index, f"expected a finite {what}, got {got}")


def check_first_observations(observations: npt.NDArray[Any]) -> None:
    """Do nothing if what environments show after their first reset are numbers.

    Args:
        observations: [environments, …].

    Raises:
        EnvironmentFailed: they are not.
    """
    if not are_numbers(observations):
        wrong = no_numbers(observations).reshape(len(observations), -1).any(axis=1)
        index = int(wrong.argmax())
        raise no_number(index, "observation", observations[index]).at("first reset")


def shortened(text: str) -> str:
    """Return text as one line that is not too long for one."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


def _form(value: Any) -> str:
    kind = type(value).__name__
    return f"{kind} of shape {value.shape}" if isinstance(value, np.ndarray) else kind
