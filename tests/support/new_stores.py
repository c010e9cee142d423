"""New stores that are copies of one: a store's way through all migrations takes longer than a test.

The one is made by the migrations, once a process. What makes stores otherwise goes the whole way:
the servers and commands in processes of their own, and the tests of migrations.
"""

from __future__ import annotations

import functools
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, inspect

from hyperoracle_server.ledger import store

_migrate = store.upgrade


@functools.cache
def _schema() -> str:
    """What makes a database what the migrations make of a new one, as SQL in a transaction."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.db"
        engine = store._engine(path)
        _migrate(engine, store.HEAD)
        engine.dispose()
        with sqlite3.connect(path) as made:
            statements = "\n".join(made.iterdump())
        made.close()
    return statements


def upgrade(engine: Engine, revision: str) -> None:
    """`ledger.store.upgrade`, but that a database without tables gets them all at once."""
    if revision != store.HEAD or inspect(engine).get_table_names():
        _migrate(engine, revision)
        return
    connection: Any = engine.raw_connection()
    try:
        connection.driver_connection.executescript(_schema())
    finally:
        connection.close()
