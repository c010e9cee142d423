"""Does a database hold together? SQLite's own checks, then what the oracle relies on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    inspect,
)
from sqlalchemy.exc import DatabaseError

from hyperoracle_protocol.hyper_state import HyperStateLayout
from hyperoracle_protocol.jobs import Proposal, Receipt, Report
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.ledger.numbers import HIGHEST_NUMBER
from hyperoracle_server.ledger.schema import metadata
from hyperoracle_server.snapshots.contents import senseless

LAWS = {
    "jobs of no study": "SELECT count(*) FROM jobs WHERE study_id NOT IN (SELECT id FROM studies)",
    "proposals of no job": "SELECT count(*) FROM proposals "
    "WHERE job_id NOT IN (SELECT id FROM jobs)",
    "reports of no job": "SELECT count(*) FROM reports WHERE job_id NOT IN (SELECT id FROM jobs)",
    "hyper-states of no proposal": "SELECT count(*) FROM hyper_states "
    "WHERE proposal_id NOT IN (SELECT id FROM proposals)",
    "memory entries of no study": "SELECT count(*) FROM memory_entries "
    "WHERE study_id NOT IN (SELECT id FROM studies)",
    "memory entries of no job": "SELECT count(*) FROM memory_entries "
    "WHERE job_id NOT IN (SELECT id FROM jobs)",
    "hyper-states of no study": "SELECT count(*) FROM hyper_states "
    "WHERE study_id NOT IN (SELECT id FROM studies)",
    "encoders of no study": "SELECT count(*) FROM encoder_versions "
    "WHERE study_id NOT IN (SELECT id FROM studies)",
    "states of hyper-agents of no study": "SELECT count(*) FROM hyper_agent_states "
    "WHERE study_id NOT IN (SELECT id FROM studies)",
    "memory entries whose proposal was not credited": "SELECT count(*) FROM memory_entries e "
    "WHERE NOT EXISTS (SELECT 1 FROM proposals p WHERE p.id = e.proposal_id "
    "AND p.job_id = e.job_id AND p.status = 'credited')",
    "proposals that were written to the memory twice": "SELECT count(*) FROM (SELECT 1 "
    "FROM memory_entries GROUP BY proposal_id HAVING count(*) > 1)",
    "memory entries without a key": "SELECT count(*) FROM memory_entries e WHERE NOT evicted "
    "AND NOT EXISTS (SELECT 1 FROM memory_keys k WHERE k.entry_id = e.id)",
    "keys of no live memory entry": "SELECT count(*) FROM memory_keys k WHERE NOT EXISTS "
    "(SELECT 1 FROM memory_entries e WHERE e.id = k.entry_id AND NOT e.evicted)",
    "proposals of an unknown status": "SELECT count(*) FROM proposals "
    "WHERE status NOT IN ('open', 'credited', 'not_applied', 'settled', 'held')",
    "reports of an unknown status": "SELECT count(*) FROM reports "
    "WHERE status NOT IN ('applied', 'waiting', 'late')",
    "jobs of an unknown status": "SELECT count(*) FROM jobs "
    "WHERE status NOT IN ('running', 'finished')",
    "proposals whose hyper-return and status disagree": "SELECT count(*) FROM proposals "
    "WHERE (status = 'credited') <> (hyper_return IS NOT NULL)",
    "open proposals of ended jobs": "SELECT count(*) FROM proposals "
    "WHERE status = 'open' AND job_id IN (SELECT id FROM jobs WHERE status = 'finished')",
    "jobs with more credits acknowledged than proposals credited": "SELECT count(*) FROM jobs j "
    "WHERE (SELECT coalesce(sum(json_extract(r.response, '$.credited')), 0) FROM reports r "
    "WHERE r.job_id = j.id) > (SELECT count(*) FROM proposals p WHERE p.job_id = j.id "
    "AND p.status = 'credited')",
    "jobs whose counts are not those of their proposals and reports": "SELECT count(*) FROM jobs j "
    "WHERE counts IS NOT NULL AND ("
    "json_extract(counts, '$.proposals') <> (SELECT count(*) FROM proposals p "
    "WHERE p.job_id = j.id AND p.id <= counted_through) "
    "OR json_extract(counts, '$.credited') <> (SELECT count(*) FROM proposals p "
    "WHERE p.job_id = j.id AND p.status = 'credited') "
    "OR json_extract(counts, '$.reports') <> (SELECT count(*) FROM reports r "
    "WHERE r.job_id = j.id) "
    "OR json_extract(counts, '$.last_sequence') < (SELECT max(sequence) FROM reports r "
    "WHERE r.job_id = j.id))",
}
"""What there must be none of: a query that counts them, by what they are."""

_DOCUMENTS: dict[tuple[str, str], type[BaseModel]] = {
    ("studies", "definition"): StudyDefinition,
    ("jobs", "layout"): HyperStateLayout,
    ("proposals", "response"): Proposal,
    ("reports", "body"): Report,
    ("reports", "response"): Receipt,
}
_JSON = {"credit_state", "held_decision", "hyper_agent_notes", "learning_curve", "counts",
         "base_values", "metadata", "signals", "studies", "report"}  # fmt: skip

LATEST_TIME = 253_402_300_799
"""Seconds since the epoch: the last second of the year 9999, the last that has a date."""

_GREATEST = "1.7976931348623157e308"
_PARTS_OF_INDEXES = {
    "proposals_open": "wherestatus='open'",
    "reports_waiting": "wherestatus='waiting'",
}


def findings(connection: Connection) -> list[str]:
    """What is wrong with a database of the newest schema, a line each; empty if nothing is."""
    try:
        # The schema first: what another one computes is not to be computed, not even by a check.
        return (
            [*strangers(connection)]
            or [*damage(connection)]
            or [*_content(connection)]
            or [*senseless(connection)]
        )
    except DatabaseError as error:
        return [f"it cannot be read: {error.orig!s}"]


def damage(connection: Connection, *, quick: bool = False) -> list[str]:
    """What SQLite finds wrong with a database, a line each; empty if nothing is.

    Args:
        connection: to the database.
        quick: leave out whether indexes match their tables, which takes most of the time.
    """
    check = "quick_check" if quick else "integrity_check"
    try:
        rows = connection.exec_driver_sql(f"PRAGMA {check}(10)").scalars().all()
    except DatabaseError as error:
        return [str(error.orig)]
    return [] if rows == ["ok"] else [" ".join(str(row).split()) for row in rows]


def strangers(connection: Connection) -> Iterator[str]:
    """What the schema has that no ledger's has, or lacks."""
    kinds = connection.exec_driver_sql(
        "SELECT type, name FROM sqlite_master WHERE type NOT IN ('table', 'index') "
        "UNION SELECT 'virtual table', name FROM sqlite_master "
        "WHERE type = 'table' AND sql NOT LIKE 'CREATE TABLE%'"
    )
    yield from (f"it has the {kind} {name}, which no ledger has" for kind, name in kinds.all())
    found = inspect(connection)
    expected = {*metadata.tables, "alembic_version"}
    names = set(found.get_table_names())
    for name in sorted(expected ^ names):
        yield f"the table {name} is {'missing' if name in expected else 'not one of a ledger'}"
    for name, table in metadata.tables.items():
        if name in names:
            columns = {column["name"] for column in found.get_columns(name)}
            for column in sorted(columns ^ set(table.columns.keys())):
                yield f"the column {name}.{column} is missing, or not one of a ledger"
            if columns == set(table.columns.keys()):
                yield from _strange_keys(connection, table)
    yield from _strange_indexes(connection)


def _strange_keys(connection: Connection, table: Table) -> Iterator[str]:
    """Computed columns, and keys other than a ledger's."""
    rows = connection.exec_driver_sql(f"PRAGMA table_xinfo({table.name})").all()
    for _, column, _, _, _, _, hidden in rows:
        if hidden:
            yield f"the column {table.name}.{column} is computed, which none of a ledger is"
    key = [row[1] for row in sorted(rows, key=lambda row: int(row[5])) if row[5]]
    unique = {
        frozenset(connection.exec_driver_sql(f"PRAGMA index_info('{index.name}')").scalars("name"))
        for index in connection.exec_driver_sql(f"PRAGMA index_list({table.name})").all()
        if index.unique and not index.partial
    }
    promised = {
        frozenset(constraint.columns.keys())
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    }
    if set(key) != set(table.primary_key.columns.keys()) or not promised <= unique:
        yield f"the table {table.name} has not the keys that a ledger's has"


def _strange_indexes(connection: Connection) -> Iterator[str]:
    """Indexes that no ledger has, or that hold something computed."""
    ours = {str(i.name) for table in metadata.tables.values() for i in table.indexes}
    rows = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    ).all()
    for name, sql in rows:
        if name not in ours:
            yield f"it has the index {name}, which no ledger has"
            continue
        parts = connection.exec_driver_sql(f"PRAGMA index_xinfo('{name}')").all()
        is_computed = any(part[1] == -2 for part in parts)  # SQLite's mark of an expression
        _, where, part_of = sql.lower().partition("where")
        condition = where + "".join(part_of.split())
        if is_computed or condition not in ("", _PARTS_OF_INDEXES.get(name, "")):
            yield f"the index {name} is not a ledger's"


def _content(connection: Connection) -> Iterator[str]:
    for name, table in metadata.tables.items():
        documents = [
            column.name
            for column in table.columns
            if (name, column.name) in _DOCUMENTS
            or (column.name in _JSON and isinstance(column.type, Text))
        ]
        for column in documents:
            yield from _unreadable(connection, name, column)
        yield from _senseless(connection, table)
    for what, query in LAWS.items():
        try:
            count = connection.exec_driver_sql(query).scalar_one()
        except DatabaseError as error:
            yield f"{what} cannot be counted: {error.orig!s}"
            continue
        if count:
            yield f"it has {count} {what}"


def _senseless(connection: Connection, table: Table) -> Iterator[str]:
    """Values that are not of their column's type, or beyond what the oracle can reckon with.

    SQLite takes any value in any column.
    """
    names = list(table.columns.keys())
    counts = ", ".join(f"sum(NOT ({_makes_sense(column)}))" for column in table.columns)
    row = connection.exec_driver_sql(f"SELECT {counts} FROM {table.name}").one()  # noqa: S608 - ours
    for name, count in zip(names, row, strict=True):
        if count:
            yield f"{count} of {table.name}.{name} are not what a ledger has there"


def _makes_sense(column: Column[Any]) -> str:
    """The condition, in SQL, that holds of each value of a column."""
    name, kind = column.name, column.type
    if isinstance(kind, Boolean):
        condition = f"typeof({name}) = 'integer' AND {name} IN (0, 1)"
    elif isinstance(kind, Integer):  # BigInteger is one
        condition = f"typeof({name}) = 'integer'"
        if name in ("id", "version", "chance_number"):
            condition += f" AND {name} BETWEEN 0 AND {HIGHEST_NUMBER}"
    elif isinstance(kind, Float):
        least, most = f"-{_GREATEST}", _GREATEST
        if name.endswith("_at"):
            least, most = "0", str(LATEST_TIME)
        condition = f"typeof({name}) IN ('real', 'integer') AND {name} BETWEEN {least} AND {most}"
    else:
        storage = "blob" if isinstance(kind, LargeBinary) else "text"
        condition = f"typeof({name}) = '{storage}'"
    return f"({name} IS NULL OR {condition})" if column.nullable else condition


def _unreadable(connection: Connection, table: str, column: str) -> Iterator[str]:
    kind = _DOCUMENTS.get((table, column))
    query = f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608 - our names
    broken = sum(not _reads(kind, text) for text in connection.exec_driver_sql(query).scalars())
    if broken:
        yield f"{broken} of {table}.{column} cannot be read"


def _reads(kind: type[BaseModel] | None, text: Any) -> bool:
    try:
        json.loads(text) if kind is None else kind.model_validate_json(text)
    except (TypeError, ValueError):
        return False
    return True
