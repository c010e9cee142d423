"""Tokens: how one is made, checked against what is stored, and what it allows.

A token is `ho_`, 12 hexadecimal digits that name it, `_`, and 43 characters of secret: 256 bits
from the system's random source. The name finds the stored row, the whole is compared by its
SHA-256, in constant time. A slow hash, as passwords need, would protect nothing: 256 random bits
cannot be guessed. The ledger's are held in mind as well: looking one up touches no disk.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import json
import re
import secrets
import threading
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from sqlalchemy import select

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.tokens import CreateToken, Scope
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.ledger import schema as t
from hyperoracle_server.ledger.statements import Change
from hyperoracle_server.ledger.store import Ledger
from hyperoracle_server.oracle.services import Clock

PREFIX = "ho_"
_ID_BYTES = 6
_SECRET_BYTES = 32
_ID_START, _ID_END = len(PREFIX), len(PREFIX) + 2 * _ID_BYTES

RANK: dict[Scope, int] = {"read": 0, "train": 1, "admin": 2}
"""Each scope includes those of a lower rank."""

ALL_STUDIES = "*"


@dataclass(frozen=True)
class StoredToken:
    """A token as the ledger knows it.

    Attributes:
        id: names it; a part of the token that is no secret.
        name: what people call it.
        scope: what it allows.
        studies: patterns of the studies that it is for.
        digest: SHA-256 of the whole token.
        created_at: seconds since the epoch, UTC.
        expires_at: seconds since the epoch, None for never.
        revoked_at: seconds since the epoch, None while it was not.
    """

    id: str
    name: str
    scope: Scope
    studies: tuple[str, ...]
    digest: bytes
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None

    def status(self, now: float) -> Literal["active", "expired", "revoked"]:
        """Whether it can be used at a time, in seconds since the epoch."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and now >= self.expires_at:
            return "expired"
        return "active"

    def allows(self, scope: Scope, study: str | None) -> bool:
        """Whether its scope reaches so far, in this study.

        Args:
            scope: what is to be done.
            study: a study's name; None for what concerns all of them.
        """
        if RANK[self.scope] < RANK[scope]:
            return False
        if study is None:
            return ALL_STUDIES in self.studies
        return self._pattern.match(study) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(fnmatch.translate(pattern) for pattern in self.studies))


def new_token() -> tuple[str, str]:
    """A fresh token: its id and the whole."""
    token_id = secrets.token_hex(_ID_BYTES)
    return token_id, f"{PREFIX}{token_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def id_of(token: bytes) -> str:
    """The id that a token claims; of anything else some text that is no id."""
    return token[_ID_START:_ID_END].decode("latin-1")


def digest_of(token: bytes) -> bytes:
    """What is stored of a token: its SHA-256."""
    return hashlib.sha256(token).digest()


def is_same(stored: bytes, offered: bytes) -> bool:
    """Whether two digests are equal; takes the same time wherever they differ."""
    return hmac.compare_digest(stored, offered)


class TokenStore:
    """Creates, finds, lists and revokes tokens. Thread-safe.

    One process owns a ledger, so what is in mind is all there is: a revoked token is refused from
    the moment its revocation is on disk.

    Args:
        ledger: the durable store; the caller closes it.
        clock: wall time, for expiry.
    """

    def __init__(self, ledger: Ledger, clock: Clock | None = None) -> None:
        self._ledger = ledger
        self._clock = clock or Clock()
        self._lock = threading.Lock()  # one change at a time; readers need none
        with ledger.reading() as connection:
            rows = connection.execute(select(t.tokens)).all()
        self._by_id = {
            row.id: StoredToken(
                id=row.id,
                name=row.name,
                scope=row.scope,
                studies=tuple(json.loads(row.studies)),
                digest=row.digest,
                created_at=row.created_at,
                expires_at=row.expires_at,
                revoked_at=row.revoked_at,
            )
            for row in rows
        }

    def __len__(self) -> int:
        """How many there are, whatever their status."""
        return len(self._by_id)

    def now(self) -> float:
        """The time by which tokens expire, in seconds since the epoch."""
        return self._clock.now()

    def find(self, token_id: str) -> StoredToken | None:
        """The token with this id, whatever its status."""
        return self._by_id.get(token_id)

    def all(self) -> list[StoredToken]:
        """All tokens, the newest first."""
        return sorted(self._by_id.values(), key=lambda token: -token.created_at)

    def create(self, wanted: CreateToken) -> tuple[StoredToken, str]:
        """Make a token.

        Returns:
            What is stored, and the token itself, which is kept nowhere.

        Raises:
            RequestRefused: `token_conflict`, one of this name is in force; `store_unavailable`.
        """
        with self._lock:
            now = self._clock.now()
            if self._active(wanted.name, now) is not None:
                raise RequestRefused(
                    ErrorCode.TOKEN_CONFLICT,
                    f"a token named {wanted.name!r} is in force: choose another name, or revoke it "
                    "first",
                    expected="a name that no token in force has",
                    got=wanted.name,
                )
            token_id, secret = new_token()
            lifetime = wanted.expires_in_seconds
            token = StoredToken(
                id=token_id,
                name=wanted.name,
                scope=wanted.scope,
                studies=tuple(wanted.studies),
                digest=digest_of(secret.encode()),
                created_at=now,
                expires_at=None if lifetime is None else now + lifetime,
            )
            row = {
                "id": token.id,
                "name": token.name,
                "scope": token.scope,
                "studies": json.dumps(token.studies),
                "digest": token.digest,
                "created_at": token.created_at,
                "expires_at": token.expires_at,
                "revoked_at": None,
            }
            self._commit(Change("insert_token", row))
            self._by_id[token.id] = token
            return token, secret

    def revoke(self, name: str) -> StoredToken:
        """End a token, by its name or its id; it stays in the list.

        Raises:
            RequestRefused: `token_not_found`, none of this name or id is in force;
                `store_unavailable`.
        """
        with self._lock:
            now = self._clock.now()
            token = self._active(name, now) or self._by_id.get(name)
            if token is None or token.revoked_at is not None:
                raise RequestRefused(
                    ErrorCode.TOKEN_NOT_FOUND,
                    f"no token {name!r} is in force; `hyperoracle token list` shows them",
                    expected="the name or the id of a token in force, never the token itself",
                    got=name,
                )
            self._commit(Change("revoke_token", {"where_id": token.id, "revoked_at": now}))
            self._by_id[token.id] = revoked = replace(token, revoked_at=now)
            return revoked

    def _active(self, name: str, now: float) -> StoredToken | None:
        named = (token for token in self._by_id.values() if token.name == name)
        return next((token for token in named if token.status(now) == "active"), None)

    def _commit(self, change: Change) -> None:
        writer = self._ledger.writer
        writer.submit_durably([change], writer.epoch).result()
