"""Prints messages: JSON for scripts, plain aligned columns for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel


def print_json(value: BaseModel | Any) -> None:
    """Print a message, or plain data, as JSON; in ASCII, which every terminal takes."""
    plain = json.loads(value.model_dump_json()) if isinstance(value, BaseModel) else value
    print(json.dumps(plain, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print aligned columns below their names; numbers to the right, nothing else."""
    cells = [[cell(value) for value in row] for row in rows]
    widths = [
        max(len(name), *(len(row[index]) for row in cells), 0) for index, name in enumerate(columns)
    ]
    right = [
        bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
        for index in range(len(columns))
    ]
    for row in [list(columns), *cells]:
        padded = [
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(row, widths, right, strict=True)
        ]
        print("  ".join(padded).rstrip())


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print one name and value per line."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        print(f"{name.ljust(width)}  {cell(value)}")


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
    if isinstance(value, Mapping):
        return " ".join(f"{key}={cell(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return " ".join(cell(inner) for inner in value)
    return str(value)
