"""Whole numbers as arguments of a command."""

from __future__ import annotations

import argparse


def at_least_zero(text: str) -> int:
    """Return a whole number from 0 on.

    Raises:
        ArgumentTypeError: it is none.
    """
    # Imported late: it brings all settings with it, which `--help` does not need.
    from hyperoracle_trainers.hyperparameters.arguments import whole_number

    try:
        number = whole_number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, got {text!r}") from None
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return number


def at_least_one(text: str) -> int:
    """Return a whole number from 1 on.

    Raises:
        ArgumentTypeError: it is none.
    """
    number = at_least_zero(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number
