"""Snapshots that no release of ours would write today, with a seal that is whole."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Literal
from unittest.mock import patch

from hyperoracle_server.ledger.store import HEAD
from hyperoracle_server.snapshots import seal as seals

TO_SCHEMA_0005 = """
    ALTER TABLE studies DROP COLUMN token_id;
    ALTER TABLE jobs DROP COLUMN token_id;
    ALTER TABLE jobs DROP COLUMN chance_number;
    ALTER TABLE jobs DROP COLUMN counts;
    ALTER TABLE jobs DROP COLUMN counted_through;
    UPDATE alembic_version SET version_num = '0005';
"""
"""Makes of a database of today one of that schema, which a snapshot may have."""


def crafted(
    path: Path, script: str, kind: Literal["study", "store"] = "study", *, revision: str = HEAD
) -> bytes:
    """Change a snapshot by a script of SQL and seal it anew: its checksum is right.

    Args:
        path: of the snapshot; changed in place.
        script: SQL.
        kind: of the snapshot; of a study, its name is `s`.
        revision: of the schema that its manifest names.

    Returns:
        Its content.
    """
    with sqlite3.connect(path, isolation_level=None) as database:
        database.execute("PRAGMA journal_mode=OFF")
        database.executescript(script)
        pages, size = (
            database.execute(f"PRAGMA page_{n}").fetchone()[0] for n in ("count", "size")
        )
    database.close()
    with path.open("r+b") as file:
        file.truncate(pages * size)
    with patch.object(seals, "HEAD", revision):
        seals.seal(path, kind, "s" if kind == "study" else None)
    return path.read_bytes()


def with_another_manifest(content: bytes, **fields: object) -> bytes:
    """A snapshot whose manifest says something else, with the checksum of that."""
    database, line, _digest, _nothing = content.rsplit(b"\n", 3)
    line = json.dumps(json.loads(line) | fields).encode()
    sealed = database + b"\n" + line
    return sealed + b"\n" + hashlib.sha256(sealed).hexdigest().encode() + b"\n"
