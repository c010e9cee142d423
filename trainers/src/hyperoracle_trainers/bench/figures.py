"""What a benchmark measures: figures beside floors and peers of the same run, and their budgets."""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

Say = Callable[[str], object]
"""Tells people what is being measured, a line at a time."""

_PACKAGES = ("hyperoracle-trainers", "torch", "numpy", "gymnasium", "uvicorn", "hnswlib",
             "stable-baselines3", "optuna")  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """One number that a benchmark prints.

    Attributes:
        what: is measured, in words; unique within its benchmark.
        value: in `unit`.
        unit: "ms", "s", "x" (a ratio), "per s", "MB", "points" (of per cent), "" of a count.
        beside: what was measured in the same run for comparison, by name, in the same unit: floors
            and peers.
        budget: that must be kept; None sets none.
        goal: that is aimed at.
        at_least: whether budget and goal are lower bounds; else they are upper ones.
        repeats: the values that `value` is the median of, where there are several.
        stands: whether the number is the same on any machine, as a ratio is: those are compared
            with earlier ones (`bench check`).
    """

    what: str
    value: float
    unit: str
    beside: Mapping[str, float] = field(default_factory=dict)
    budget: float | None = None
    goal: float | None = None
    at_least: bool = False
    repeats: tuple[float, ...] = ()
    stands: bool = False

    @property
    def ok(self) -> bool | None:
        """Whether the budget is kept; None without one."""
        if self.budget is None:
            return None
        return self.value >= self.budget if self.at_least else self.value <= self.budget

    def as_json(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return {
            "what": self.what, "value": self.value, "unit": self.unit, "beside": dict(self.beside),
            "budget": self.budget, "goal": self.goal, "at_least": self.at_least, "ok": self.ok,
            "repeats": list(self.repeats), "stands": self.stands,
        }  # fmt: skip

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Figure:
        """The figure of `as_json`."""
        given = {name: value for name, value in fields.items() if name != "ok"}
        return cls(**{**given, "repeats": tuple(given["repeats"])})


def median_of(what: str, values: Sequence[float], unit: str, **fields: Any) -> Figure:
    """The figure that is the median of these values."""
    return Figure(what, statistics.median(values), unit, repeats=tuple(values), **fields)


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def machine() -> dict[str, Any]:
    """What figures depend on and no argument says."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "packages": packages,
    }
