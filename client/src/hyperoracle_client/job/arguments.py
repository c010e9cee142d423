"""What a training loop gives to `propose` and `report`, as numbers that can be sent.

A loop may give what it has: Python's numbers, NumPy's, tensors of one element, arrays, generators.
What is none of these is left out, counted and said; what is left of the call goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hyperoracle_client.errors import OracleMisconfigured
from hyperoracle_client.job.delivery.spool import OutgoingReport
from hyperoracle_client.job.stats import Counts
from hyperoracle_protocol.base import MAX_COUNT, MAX_RETURN
from hyperoracle_protocol.jobs import MAX_EPISODE_RETURNS
from hyperoracle_protocol.space import Value
from hyperoracle_protocol.studies import ReturnSetting

Tell = Callable[[str, str], None]
"""Takes a kind, each of which is said once, and a line."""

MOST_SIGNALS = 64
"""As many signals or base values the protocol takes."""


def number(value: Any) -> float:
    """A number, infinite if it is too large for a float.

    Args:
        value: any kind of number, or an array or a tensor of one element.

    Raises:
        TypeError, ValueError: it is none.
    """
    if type(value) is float:
        return value
    if isinstance(value, str | bytes):  # also "12": who gives text has mistaken something
        raise TypeError("text is no number")
    if not isinstance(value, int | float) and hasattr(value, "item"):
        value = value.item()
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


class ArgumentReader:
    """Reads the arguments of one job's calls."""

    def __init__(
        self, returns: ReturnSetting, counts: Counts, tell: Tell, on_error: str = "default"
    ) -> None:
        """Make a reader.

        Args:
            returns: which number is the study's return.
            counts: counted up here.
            tell: says something once of each kind.
            on_error: `raise`: what is no number is raised instead of left out.
        """
        self._returns = returns
        self._counts = counts
        self._tell = tell
        self._is_strict = on_error == "raise"

    def count(self, name: str, value: Any, otherwise: int) -> int:
        """A count of steps: a whole number from 0 on; `otherwise` if it is none."""
        try:
            found = int(number(value)) if not isinstance(value, int) else value
        except (TypeError, ValueError, OverflowError):
            found = -1
        if 0 <= found <= MAX_COUNT:
            return found
        self._left_out(name, "a number of steps from 0 on", value, f"{otherwise} stands for it")
        return otherwise

    def numbers(self, name: str, given: Any) -> dict[str, float]:
        """Signals or base values by name; without those that are not finite."""
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            self._left_out(name, "a mapping of names to numbers", given, "it is left out")
            return {}
        found: dict[str, float] = {}
        for key, value in given.items():
            try:
                found[str(key)] = number(value)
            except (TypeError, ValueError):
                self._left_out(f"{name}[{key!r}]", "a number", value, "it is left out")
        finite = {key: value for key, value in found.items() if math.isfinite(value)}
        if len(finite) < len(found):
            self._counts.non_finite_signals += len(found) - len(finite)
            names = sorted(found.keys() - finite.keys())
            self._tell(f"{name}_not_finite", f"{name} are not finite and left out: {names}")
        if len(finite) > MOST_SIGNALS:
            expected = f"at most {MOST_SIGNALS} numbers"
            self._left_out(name, expected, len(finite), "those after them are left out")
            finite = dict(list(finite.items())[:MOST_SIGNALS])
        return finite

    def proposal(
        self, known_env_step: int, updates: int,
        env_step: Any, update_step: Any, signals: Any, base_values: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """The protocol's `ProposeMetadata` but for its sequences and signature.

        Args:
            known_env_step: stands for an env step that is none.
            updates: counted by the job: stands for an update step that is none, or None.
            env_step: see `Job.propose`, as for the others.
            update_step: policy updates made so far.
            signals: of the last update.
            base_values: what relative factors multiply.
        """
        update_step = updates if update_step is None else update_step
        return {
            "update_step": self.count("update_step", update_step, updates),
            "env_step": self.count("env_step", env_step, known_env_step),
            "signals": self.numbers("signals", signals),
            "base_values": self.numbers("base_values", base_values),
        }

    def report(
        self, episode_returns: Any, phase_return: Any, custom_return: Any, env_step: int
    ) -> OutgoingReport:
        """A report of these numbers; those that are not finite are left out and counted."""
        found = {
            "episode_returns": self._many("episode_returns", episode_returns),
            "phase_return": self._one("phase_return", phase_return),
            "custom_return": self._one("custom_return", custom_return),
        }
        finite = {
            name: [value for value in values if abs(value) <= MAX_RETURN]
            for name, values in found.items()
        }
        dropped = {
            name: len(found[name]) - len(values)
            for name, values in finite.items()
            if len(found[name]) > len(values)
        }
        if dropped:
            self._counts.non_finite_returns += sum(dropped.values())
            self._tell(
                "returns_not_finite",
                f"{sum(dropped.values())} of the returns at env step {env_step} are not finite "
                "numbers: the oracle counts this phase as the worst",
            )
        return OutgoingReport(
            self._few(finite["episode_returns"]),
            env_step,
            next(iter(finite["phase_return"]), None),
            next(iter(finite["custom_return"]), None),
            dropped,
        )

    def _one(self, name: str, value: Any) -> list[float]:
        if value is None:
            return []
        try:
            return [number(value)]
        except (TypeError, ValueError):
            self._left_out(name, "a number", value, "it is left out")
            return []

    def _many(self, name: str, given: Any) -> list[float]:
        """The numbers of anything that has some; a number alone is one return."""
        expected, consequence = "numbers, one for each episode", "it is left out"
        if hasattr(given, "reshape") and hasattr(given, "tolist"):  # an array of any shape
            given = given.reshape(-1).tolist()
        if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
            values = []
            for value in given:
                try:
                    values.append(number(value))
                except (TypeError, ValueError):
                    self._left_out(name, expected, value, consequence)
            return values
        try:
            return [number(given)]
        except (TypeError, ValueError):
            self._left_out(name, expected, given, consequence)
            return []

    def _few(self, returns: list[float]) -> list[float]:
        """As many returns as one report takes, of which the study's return is the same."""
        if len(returns) <= MAX_EPISODE_RETURNS:
            return returns
        is_mean = self._returns.kind == "phase_episodes"
        self._tell(
            "returns_summarised",
            f"{len(returns)} returns in one report, which takes {MAX_EPISODE_RETURNS}: "
            + ("their mean is sent" if is_mean else "the last ones are sent"),
        )
        if is_mean:
            return [math.fsum(value / len(returns) for value in returns)]
        return returns[-MAX_EPISODE_RETURNS:]  # a study's last episodes are fewer

    def _left_out(self, name: str, expected: str, got: Any, consequence: str) -> None:
        """Count and say what is not as expected, and what happens instead."""
        self._counts.arguments_left_out += 1
        shown = " ".join(repr(got).split())
        shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
        line = f"expected {expected} as {name}, got {shown} ({type(got).__name__})"
        if self._is_strict:
            raise OracleMisconfigured(line)
        self._tell(f"{name}_left_out", f"{line}: {consequence}")


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
