"""Reads what a command line says about settings (`name=value`) and the search space."""

from __future__ import annotations

import dataclasses
import os
import types
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hyperoracle_client import Choice, OracleMisconfigured, Scale
from hyperoracle_protocol.names import did_you_mean
from hyperoracle_trainers.hyperparameters.schedulable import (
    HYPERPARAMETERS,
    SchedulableHyperparameter,
)
from hyperoracle_trainers.hyperparameters.settings import SETTINGS_CLASSES

DEFAULT_SPACE = ("learning_rate=scale:0.5,1,2", "clip_range=choice:0.1,0.2,0.3@0.2")
"""The search space where none is given, as far as the algorithm knows the hyperparameters."""

Space = dict[str, Scale | Choice]


class ArgumentError(ValueError):
    """An argument has no meaning; the message is one line: expected, got, remedy."""


def parse_settings(algorithm: str, assignments: Iterable[str]) -> dict[str, Any]:
    """Return settings by name, each of the type that the algorithm's settings want.

    Args:
        algorithm: a key of `SETTINGS_CLASSES`.
        assignments: such as ``"learning_rate=1e-3"`` or ``"hidden_sizes=64,64"``.

    Raises:
        ArgumentError: no ``name=value``, an unknown or repeated name, or a value of another type.
    """
    settings_class = SETTINGS_CLASSES[algorithm]
    hints = get_type_hints(settings_class)
    names = [field.name for field in dataclasses.fields(settings_class)]
    parsed: dict[str, Any] = {}
    for assignment in assignments:
        name, text = _split(assignment, "--set", "name=value")
        if name not in names or name == "env_id":
            raise ArgumentError(
                f"--set {assignment}: expected a setting of {algorithm}, got {name!r}"
                f"{_remedy(name, names)}"
            )
        if name in parsed:
            raise ArgumentError(f"--set {assignment}: expected {name} once, got it twice")
        try:
            parsed[name] = _converted(text, hints[name])
        except ValueError as error:
            raise ArgumentError(f"--set {assignment}: {error}, got {text!r}") from None
    return parsed


def whole_number(text: str) -> int:
    """Return a whole number, also of the spelling ``1e6`` or ``1_000_000``.

    Raises:
        ValueError: it is none.
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
        if number == int(number):
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise ValueError("expected a whole number")


def check_folder(argument: str, folder: Path) -> None:
    """Check, without making it, that a folder can be made and written.

    Args:
        argument: that names the folder, as it was given.
        folder: need not be there.

    Raises:
        ArgumentError: something of its path is a file, or may not be written.
    """
    there = next(each for each in (folder, *folder.parents) if os.access(each, os.F_OK))
    if not there.is_dir():
        got = "a file" if there == folder else f"a path through the file {there}"
        raise ArgumentError(f"{argument}: expected a folder, got {got}; choose another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ArgumentError(
            f"{argument}: expected a folder that may be written, got {there}, which may not; "
            "choose another"
        )


def parse_space(entries: Iterable[str], base: Mapping[str, float]) -> Space:
    """Return a search space.

    Args:
        entries: such as ``"learning_rate=scale:0.5,1,2"``, factors on the base value, or
            ``"clip_range=choice:0.1,0.2,0.3@0.2"``, values, of which 0.2 is the default. Without
            ``@`` the default of a scale is 1 and that of a choice the base value.
        base: the base values of the hyperparameters that the algorithm can schedule.

    Raises:
        ArgumentError: another syntax, a hyperparameter that cannot be scheduled or appears twice,
            or values that it cannot have.
    """
    space: Space = {}
    for entry in entries:
        name, text = _split(entry, "--space", "name=scale:0.5,1,2 or name=choice:0.1,0.2,0.3@0.2")
        if name not in base:
            remedy = did_you_mean(name, base, f"those of this algorithm are {', '.join(base)}")
            raise ArgumentError(
                f"--space {entry}: expected a hyperparameter that can be scheduled, got {name!r}; "
                f"{remedy}"
            )
        if name in space:
            raise ArgumentError(f"--space {entry}: expected {name} once, got it twice")
        space[name] = _parse_bins(entry, HYPERPARAMETERS[name], text, base[name])
    return space


def default_space(base: Mapping[str, float]) -> Space:
    """Return the search space for a run that names none.

    Args:
        base: as for :func:`parse_space`.
    """
    return parse_space([entry for entry in DEFAULT_SPACE if entry.split("=")[0] in base], base)


def _remedy(name: str, names: Collection[str]) -> str:
    """Say what to do about an argument of `--set` that is no setting of the algorithm."""
    if name == "env_id":
        return "; name the environment as ENV"
    owners = [each for each, has in SETTINGS_CLASSES.items() if name in has.__dataclass_fields__]
    if owners:
        return f", which is one of {' and '.join(owners)}; leave it out"
    return "; " + did_you_mean(name, names, "--dry-run prints them all")


def _split(assignment: str, option: str, form: str) -> tuple[str, str]:
    name, equals, text = assignment.partition("=")
    if not (name and equals and text):
        raise ArgumentError(f"{option} {assignment}: expected {form}, got {assignment!r}")
    return name.strip(), text.strip()


def _parse_bins(
    entry: str, hyperparameter: SchedulableHyperparameter, text: str, base_value: float
) -> Scale | Choice:
    kind, colon, bins = text.partition(":")
    if kind not in ("scale", "choice") or not colon:
        raise ArgumentError(
            f"--space {entry}: expected scale:FACTORS or choice:VALUES after the =, got {text!r}"
        )
    listed, at, default_text = bins.partition("@")
    try:
        values = [float(each) for each in listed.split(",")]
        default = float(default_text) if at else None
    except ValueError:
        raise ArgumentError(
            f"--space {entry}: expected numbers separated by commas, got {bins!r}"
        ) from None
    if default is None:
        default = 1.0 if kind == "scale" else base_value
    if default not in values:
        raise ArgumentError(
            f"--space {entry}: expected the default among the values, got {default:g}; "
            "add it, or say which value is the default with @VALUE"
        )
    if kind == "choice":
        _check_range(entry, hyperparameter, values)
        if hyperparameter.whole:
            values, default = [int(value) for value in values], int(default)
    elif not hyperparameter.whole:
        _check_products(entry, hyperparameter, values, base_value)
    takes_effect = hyperparameter.takes_effect.value
    bins_class = Scale if kind == "scale" else Choice
    try:
        return bins_class(values, default=default, takes_effect=takes_effect)
    except OracleMisconfigured as error:
        raise ArgumentError(f"--space {entry}: {error}; correct the values") from None


def _check_range(
    entry: str, hyperparameter: SchedulableHyperparameter, values: Iterable[float]
) -> None:
    for value in values:
        try:
            possible = hyperparameter.brought_into_range(value) == value
        except ValueError:
            possible = False
        if not possible:
            kind = "whole numbers" if hyperparameter.whole else "numbers"
            raise ArgumentError(
                f"--space {entry}: expected {kind} between {hyperparameter.minimum:g} and "
                f"{hyperparameter.maximum:g}, got {value:g}"
            )


def _check_products(
    entry: str,
    hyperparameter: SchedulableHyperparameter,
    factors: Iterable[float],
    base_value: float,
) -> None:
    """Check that no factor leads out of the range; whole values are rounded into it anyway."""
    for factor in factors:
        product = factor * base_value
        if not hyperparameter.minimum <= product <= hyperparameter.maximum:
            raise ArgumentError(
                f"--space {entry}: expected products with {hyperparameter.name} = {base_value:g} "
                f"between {hyperparameter.minimum:g} and {hyperparameter.maximum:g}, "
                f"got {product:g}; correct the factors"
            )


def _converted(text: str, hint: Any) -> Any:
    """Return ``text`` as a value of the type that ``hint`` describes."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if text.lower() == "none":
            return None
        return _converted(text, next(each for each in arguments if each is not type(None)))
    if origin is Literal:
        return text  # the settings check it
    if origin is tuple:
        return tuple(whole_number(each) for each in text.split(","))
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError("expected true or false")
        return text.lower() == "true"
    if hint is int:
        return whole_number(text)
    if hint is str:
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError("expected a number") from None
