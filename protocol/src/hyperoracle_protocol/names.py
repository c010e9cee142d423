"""What to say of a name that is none of those expected: the nearest, and all if they are few."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

FEW = 7
"""So many names are listed; of more, a message names the nearest alone."""


def nearest(name: str, names: Iterable[str], most: int = 1) -> list[str]:
    """Return the names that were probably meant, the likeliest first; none if none is like it.

    Args:
        name: as it was given; upper and lower case are one.
        names: those that there are.
        most: how many to return at most.
    """
    known = {each.lower(): each for each in names}
    return [known[each] for each in difflib.get_close_matches(name.lower(), known, n=most)]


def did_you_mean(name: str, names: Iterable[str], otherwise: str) -> str:
    """Return `did you mean gamma?`, or the remedy `otherwise` if no name is near."""
    near = nearest(name, names, most=2)
    return f"did you mean {' or '.join(near)}?" if near else otherwise


def expected_one_of(names: Iterable[str], got: str, what: str) -> str:
    """Return `expected one of 28 settings, got 'gama'; did you mean gamma?`.

    Args:
        names: those that there are; up to `FEW` are listed.
        got: the name that is none of them.
        what: what they are, in the plural.
    """
    known = list(names)
    listed = " or ".join(known) if len(known) <= FEW else f"one of {len(known)} {what}"
    meant = did_you_mean(got, known, "")
    return f"expected {listed}, got {got!r}" + (f"; {meant}" if meant else "")
