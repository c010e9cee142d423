"""Tokens: how one is made, checked against what is stored, and what it allows.

A token is `ho_`, 12 hexadecimal digits that name it, `_`, and 43 characters of secret: 256 bits
from the system's random source. The name finds the stored row, the whole is compared by its
SHA-256, in constant time. A slow hash, as passwords need, would protect nothing: 256 random bits
cannot be guessed.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from hyperoracle_protocol.tokens import Scope

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
