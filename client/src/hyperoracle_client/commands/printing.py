"""Prints messages: JSON for scripts, plain aligned columns for people."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel

_GAP = "  "
_JOINT = "\x00"  # stands for a space that no line may end at
_LEAST_TEXT = 20  # characters that wrapped text can be read in
_NO_TERMINAL = 1_000_000  # of a pipe or a file: whoever reads it cuts it as he likes
_BY_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def print_json(value: BaseModel | Any) -> None:
    """Print a message, or plain data, as JSON; in ASCII, which every terminal takes."""
    plain = json.loads(value.model_dump_json()) if isinstance(value, BaseModel) else value
    print(json.dumps(plain, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print aligned columns below their names; numbers to the right, nothing else.

    What is wider than the terminal has its last column wrapped, or else is a list: each row's
    first cell on a line of its own, the others with their names below it.
    """
    cells = [[cell(value) for value in row] for row in rows]
    widths = [
        max(len(name), *(len(row[index]) for row in cells), 0) for index, name in enumerate(columns)
    ]
    right = [
        bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
        for index in range(len(columns))
    ]
    before_last = sum(widths[:-1]) + len(_GAP) * (len(columns) - 1)
    room = terminal_width() - before_last
    if room < widths[-1] and (right[-1] or room < _LEAST_TEXT):
        _print_list(columns, cells) if rows else print_wrapped(_GAP.join(columns))
        return
    for row in [list(columns), *cells]:
        padded = [
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(row, widths, right, strict=True)
        ]
        _print_hanging(_GAP.join(padded[:-1]) + _GAP * (len(columns) > 1), padded[-1].rstrip())


def _print_list(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print each row as a paragraph, for a terminal that has no room for its columns."""
    for first, *others in cells:
        print(first)
        # A name and its value stay on one line: what joins them is no white space to textwrap.
        said = (f"{name} {text}" for name, text in zip(columns[1:], others, strict=True))
        flowing = ", ".join(text.replace(" ", _JOINT) for text in said)
        _print_hanging("  ", flowing)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print one name and value per line."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        _print_hanging(f"{name.ljust(width)}{_GAP}", cell(value))


def print_wrapped(text: str, indent: str = "") -> None:
    """Print a sentence; what follows its first line on a terminal is indented below it."""
    print(textwrap.fill(text, terminal_width(), subsequent_indent=indent, **_BY_WORDS))


def terminal_width() -> int:
    """How many characters a line has: `COLUMNS` or the terminal's; as good as all of a pipe."""
    return max(_LEAST_TEXT, shutil.get_terminal_size((_NO_TERMINAL, 24)).columns)


def _print_hanging(before: str, text: str) -> None:
    """Print a text whose further lines begin below its first."""
    width = max(_LEAST_TEXT, terminal_width() - len(before))
    lines = textwrap.wrap(text, width, **_BY_WORDS) if len(text) > width else [text]
    for number, line in enumerate(lines):
        start = before if number == 0 else " " * len(before)
        print((start + line).replace(_JOINT, " ").rstrip())


def cell(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Mapping | list | tuple) and not value:
        return "-"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={cell(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return " ".join(cell(inner) for inner in value)
    return str(value)
