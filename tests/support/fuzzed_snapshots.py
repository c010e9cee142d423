"""Snapshots of which one value is another than an oracle would write; the seal is whole."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from hyperoracle_server.ledger.schema import metadata
from support.crafted_snapshots import crafted

OTHER_NUMBERS: tuple[Any, ...] = (
    -1, 0, 1, 2, 7, 2**31, 2**40, 2**53, 2**62, -(2**62), 0.5, 1e16, 1e100, 1e300, -1e300, 1e-320,
)  # fmt: skip
OTHER_JSON: tuple[Any, ...] = (
    None, True, "x", "", [], {}, [1], {"x": 1}, float("nan"), float("inf"), 10**400, *OTHER_NUMBERS,
)  # fmt: skip
OTHER_TEXTS = (
    "", "x", "auto", "control", "explore", "running", "finished", "failed", "open", "waiting",
    "late", "credited", "held", "settled", "fixed", "../x", "\ud7ff", "a" * 5000,
)  # fmt: skip


class Mutation(NamedTuple):
    """One value of one row that is another."""

    table: str
    column: str
    row: int
    value: Any

    def __str__(self) -> str:
        return f"{self.table}.{self.column} of row {self.row} is {str(self.value)[:300]!r}"


def mutations(snapshot: Path, chance: random.Random) -> Iterator[Mutation]:
    """Without end; all columns come equally often."""
    with closing(sqlite3.connect(snapshot)) as database:
        found = {
            (table.name, column.name): database.execute(
                f"SELECT rowid, {column.name} FROM {table.name} WHERE {column.name} IS NOT NULL"
            ).fetchall()
            for table in metadata.tables.values()
            for column in table.columns
        }
    filled = [(place, rows) for place, rows in found.items() if rows]
    while True:
        chance.shuffle(filled)
        for (table, column), rows in filled:
            row, value = chance.choice(rows)
            yield Mutation(table, column, row, _another(value, chance))


def mutated(snapshot: Path, mutation: Mutation, target: Path) -> bytes | None:
    """The snapshot with this mutation, sealed anew; None where SQLite itself does not take it."""
    target.write_bytes(snapshot.read_bytes())
    with closing(sqlite3.connect(target, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=OFF")
        try:
            database.execute(
                f"UPDATE {mutation.table} SET {mutation.column} = ? WHERE rowid = ?",
                (mutation.value, mutation.row),
            )
        except (sqlite3.IntegrityError, OverflowError):
            return None
    return crafted(target, "SELECT 1")


def _another(value: Any, chance: random.Random) -> Any:
    if isinstance(value, bytes):
        return _other_bytes(value, chance)
    if isinstance(value, str):
        try:
            document = json.loads(value)
        except ValueError:
            return chance.choice(OTHER_TEXTS)
        return json.dumps(_other_json(document, chance))
    other = chance.choice((*OTHER_NUMBERS, value + 1, value - 1))
    return int(other) if isinstance(value, int) and abs(other) < 2**62 else other


def _other_bytes(value: bytes, chance: random.Random) -> bytes:
    kind = chance.randrange(6)
    if kind == 0:
        return b""
    if kind == 1:
        return value[: len(value) // 2]
    if kind == 2:
        return b"\xff" * len(value)  # NaN of any size
    if kind == 3:
        return value * 2
    if kind == 4:
        return value + b"\0"
    place = chance.randrange(max(1, len(value)))
    return value[:place] + chance.randbytes(8) + value[place + 8 :]


def _other_json(document: Any, chance: random.Random) -> Any:
    """One place of a document becomes another, or goes, or comes."""
    if isinstance(document, dict) and document and chance.random() < 0.85:
        key = chance.choice(sorted(document))
        if chance.random() < 0.1:
            return {k: v for k, v in document.items() if k != key}
        if chance.random() < 0.1:
            return {**document, "more": 1}
        return {**document, key: _other_json(document[key], chance)}
    if isinstance(document, list) and document and chance.random() < 0.85:
        place = chance.randrange(len(document))
        if chance.random() < 0.15:
            return document[:place] + document[place + 1 :]
        if chance.random() < 0.15:
            return document[:place] + document[place : place + 1] * 2 + document[place + 1 :]
        changed = list(document)
        changed[place] = _other_json(document[place], chance)
        return changed
    if (
        isinstance(document, int | float)
        and not isinstance(document, bool)
        and chance.random() < 0.3
    ):
        return document + chance.choice((-1, 1))
    return chance.choice(OTHER_JSON)
