"""The seal of a snapshot: what it is, and that not a bit of it has changed.

    database of SQLite | newline, manifest as one line of JSON | newline, SHA-256 in hex, newline

The checksum is over everything before it and is looked at first: SQLite is never handed a damaged
file. It finds damage, not forgery; only take snapshots from whom you would take a token.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from hyperoracle_protocol.base import Name
from hyperoracle_server.errors import SnapshotRefused
from hyperoracle_server.ledger.files import make_private
from hyperoracle_server.ledger.store import HEAD

FORMAT: Final = "hyperoracle-snapshot-1"
_SQLITE = b"SQLite format 3\0"
_DIGEST_LINE = 2 + 64  # newline, hex digits, newline
_LONGEST_MANIFEST = 4096
_CHUNK = 1 << 20


class Manifest(BaseModel):
    """What a snapshot says of itself.

    Attributes:
        format: of the seal.
        kind: one study, or a whole store with its tokens.
        study: the study's name; None of a store.
        schema_revision: of the ledger that it was taken from.
        release: of the server that made it.
        created_at: when.
        database_bytes: length of the database before the manifest.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal["hyperoracle-snapshot-1"] = FORMAT
    kind: Literal["study", "store"]
    study: Name | None = None
    schema_revision: str
    release: str
    created_at: datetime
    database_bytes: int


class Sealed(NamedTuple):
    """A snapshot whose seal is whole."""

    path: Path
    manifest: Manifest


def seal(path: Path, kind: Literal["study", "store"], study: str | None = None) -> Manifest:
    """Append manifest and checksum to a finished database, and bring it all to the disk."""
    manifest = Manifest(
        kind=kind,
        study=study,
        schema_revision=HEAD,
        release=version("hyperoracle-server"),
        created_at=datetime.now(UTC),
        database_bytes=path.stat().st_size,
    )
    with path.open("r+b") as file:
        digest = _digest(file, manifest.database_bytes)
        line = b"\n" + manifest.model_dump_json().encode()
        digest.update(line)
        file.write(line + b"\n" + digest.hexdigest().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return manifest


def check_seal(path: Path) -> Sealed:
    """Read a snapshot's manifest, after its checksum.

    Raises:
        SnapshotRefused: it is missing, empty, cut short, damaged, foreign, or of a newer release.
    """
    if path.is_dir():
        raise SnapshotRefused(f"expected a snapshot, got the directory {path}: name the file in it")
    try:
        with path.open("rb") as file:
            manifest = _read(file, path)
    except OSError as error:
        raise SnapshotRefused(f"the snapshot {path} cannot be read: {error.strerror}") from None
    if manifest.schema_revision > HEAD:
        raise SnapshotRefused(
            f"the snapshot {path} has schema {manifest.schema_revision}, this program knows up to "
            f"{HEAD}: upgrade hyperoracle-server"
        )
    return Sealed(path, manifest)


def unseal(sealed: Sealed, target: Path) -> None:
    """Write a snapshot's database to a new file of its own.

    Raises:
        OSError: it is there, or cannot be written.
    """
    make_private(target)
    with sealed.path.open("rb") as source, target.open("r+b") as file:
        shutil.copyfileobj(source, file, _CHUNK)
        file.truncate(sealed.manifest.database_bytes)
        file.flush()
        os.fsync(file.fileno())


def _read(file: BinaryIO, path: Path) -> Manifest:
    start = file.read(len(_SQLITE))
    if not start:
        raise SnapshotRefused(f"{path} is empty: copy it again, or take another snapshot")
    if start != _SQLITE:
        raise SnapshotRefused(
            f"{path} is no snapshot, or damaged from its first bytes on: name a file that "
            "`hyperoracle db backup` or `hyperoracle study backup` wrote"
        )
    sealed_bytes = file.seek(0, os.SEEK_END) - _DIGEST_LINE
    file.seek(max(sealed_bytes, 0))
    last = file.read()
    digest = last[1:-1]
    if sealed_bytes <= 0 or last[:1] + last[-1:] != b"\n\n" or not _is_hex(digest):
        raise SnapshotRefused(
            f"{path} does not end in a checksum: it was cut short or is a store and no snapshot; "
            "copy it again, or take another snapshot"
        )
    file.seek(0)
    if _digest(file, sealed_bytes).hexdigest().encode() != digest:
        raise SnapshotRefused(
            f"{path} is damaged, its checksum does not match: copy it again, or take another "
            "snapshot"
        )
    return _manifest(file, path, sealed_bytes)


def _manifest(file: BinaryIO, path: Path, sealed_bytes: int) -> Manifest:
    first = max(sealed_bytes - _LONGEST_MANIFEST, 0)
    file.seek(first)
    tail = file.read(sealed_bytes - first)
    line = tail[tail.rfind(b"\n") + 1 :]
    try:
        manifest = Manifest.model_validate_json(line)
    except ValidationError:
        raise SnapshotRefused(
            f"{path} is a snapshot of a form that this program does not know: upgrade "
            "hyperoracle-server"
        ) from None
    if manifest.database_bytes != sealed_bytes - len(line) - 1:
        raise SnapshotRefused(f"{path} does not hold what its manifest says: take another snapshot")
    return manifest


def _is_hex(digits: bytes) -> bool:
    return all(byte in b"0123456789abcdef" for byte in digits)


def _digest(file: BinaryIO, size: int) -> hashlib._Hash:
    """SHA-256 of the file's next `size` bytes."""
    digest, left = hashlib.sha256(), size
    while left > 0:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            break
        digest.update(chunk)
        left -= len(chunk)
    return digest
