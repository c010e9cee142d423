"""What benchmarks measured, as one document: a page for people, and a comparison with another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyperoracle_trainers.bench.figures import Figure

Document = Mapping[str, Any]
"""Of `hyperoracle bench --json`: `machine`, `packages`, and `benchmarks`, each with its `name`,
`description`, `command` and `figures`."""


class NoDocument(Exception):
    """A file that `hyperoracle bench` did not write; the message says what it is."""


def read(path: Path) -> Document:
    """Read a document.

    Raises:
        NoDocument: it cannot be read, or is none.
    """
    try:
        document: Document = json.loads(path.read_text(encoding="utf-8"))
        for _ in _figures(document):
            pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoDocument(
            f"expected what `hyperoracle bench all --json` prints in {path}, got none: {error}"
        ) from None
    return document


def worse(document: Document, against: Document, tolerance: float) -> tuple[list[str], int]:
    """Which ratios are worse than they were.

    Args:
        document: measured now.
        against: measured before, anywhere: only figures that are the same on any machine count.
        tolerance: how many times worse is still as good.

    Returns:
        A line for each that is worse, and how many could be compared.
    """
    before = {key: figure for key, figure in _figures(against) if figure.stands}
    lines, compared = [], 0
    for key, now in _figures(document):
        then = before.get(key)
        if then is None or not now.stands or then.value <= 0 or now.value <= 0:
            continue
        compared += 1
        times = then.value / now.value if now.at_least else now.value / then.value
        if times > tolerance:
            lines.append(
                f"{key[0]}: {now.what}: {now.value:.3g} {now.unit}, before {then.value:.3g}: "
                f"{times:.2f} times worse"
            )
    return lines, compared


def page(document: Document) -> str:
    """The document as a page in Markdown."""
    packages = ", ".join(f"{name} {version}" for name, version in document["packages"].items())
    origin = (
        "Written by `hyperoracle bench report` from what `hyperoracle bench all --json` measured, "
        f"on {document['machine']} ({packages}). Only figures of one run are compared with each "
        "other; medians of interleaved rounds."
    )
    lines = ["# Performance", "", origin, ""]
    figures = [figure for _, figure in _figures(document)]
    judged = [figure for figure in figures if figure.ok is not None]
    missed = [figure for figure in judged if not figure.ok]
    lines += [f"Of {len(judged)} budgets {len(judged) - len(missed)} are kept.", ""]
    for benchmark in document["benchmarks"]:
        lines += [f"## {benchmark['name']}", "", benchmark["description"].strip(), ""]
        lines += [f"    {benchmark['command']}", ""]
        lines += ["| measured | value | beside it | budget | |", "|---|---|---|---|---|"]
        lines += [_row(Figure.from_json(each)) for each in benchmark["figures"]]
        lines += [""]
    return "\n".join(lines)


def short(value: float, unit: str) -> str:
    """Three significant digits, no exponent, with the unit."""
    if not unit:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f} {unit}"


def budget(figure: Figure) -> str:
    """What must be kept, and what is aimed at; nothing without a budget."""
    if figure.budget is None:
        return ""
    sign = ">=" if figure.at_least else "<="
    goal = "" if figure.goal is None else f" (goal {figure.goal:g})"
    return f"{sign} {figure.budget:g}{goal}"


def verdict(figure: Figure) -> str:
    """Whether the budget is kept; nothing without one."""
    return {True: "kept", False: "missed", None: ""}[figure.ok]


def _row(figure: Figure) -> str:
    beside = "; ".join(f"{name} {short(each, figure.unit)}" for name, each in figure.beside.items())
    told = verdict(figure)
    cells = (figure.what, short(figure.value, figure.unit), beside, budget(figure),
             f"**{told}**" if told == "missed" else told)  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _figures(document: Document) -> Iterator[tuple[tuple[str, str], Figure]]:
    benchmarks: Sequence[Mapping[str, Any]] = document["benchmarks"]
    for benchmark in benchmarks:
        for fields in benchmark["figures"]:
            figure = Figure.from_json(fields)
            yield (benchmark["name"], figure.what), figure
