"""Access tokens: what a caller may do, and to which studies."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from hyperoracle_protocol.base import Count, Finite, Message, Name, with_known_fields

Scope = Literal["read", "train", "admin"]
"""What a token allows, each including the ones before it.

read: look at studies. train: create studies, start jobs, propose and report. admin: delete
studies, and (over all studies, `*`) hand out tokens.
"""

StudyPattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._*?\[\]!-]{1,128}$")]
"""Names of studies as a shell pattern: `cartpole*`, or `*` for all."""


class CreateToken(Message):
    """A token to be made.

    A field that is not known is an error: `expires_in_second` would be a token without an end.

    Attributes:
        name: what people call it; no two tokens in force have the same.
        scope: what it allows.
        studies: to which studies, by patterns; one that fits suffices.
        expires_in_seconds: how long it lasts, null for ever.
    """

    model_config = ConfigDict(extra="forbid")
    _known_fields = model_validator(mode="before")(with_known_fields)

    name: Name
    scope: Scope = "train"
    studies: list[StudyPattern] = Field(default=["*"], min_length=1, max_length=100)
    expires_in_seconds: float | None = Field(default=None, gt=0, le=100 * 366 * 86400)


class TokenUsage(Message):
    """What belongs to a token, or may at most.

    Attributes:
        studies: that it created and that still exist.
        jobs: that it started, of studies that still exist.
        store_bytes: what these take in the store, about.
    """

    studies: Count = 0
    jobs: Count = 0
    store_bytes: Count = 0


class Token(Message):
    """What is known of a token; never the token itself.

    Attributes:
        token_id: the part of the token that is no secret.
        status: whether it can be used.
        used: what belongs to it.
        quota: the most that may; 0 is no limit. Null where nothing bounds it: only `train` tokens
            are bound.
        calls_per_second: that it may make in the long run; 0 is no limit.
    """

    name: Name
    token_id: str
    scope: Scope
    studies: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    status: Literal["active", "expired", "revoked"]
    used: TokenUsage = TokenUsage()
    quota: TokenUsage | None = None
    calls_per_second: Finite = 0.0


class CreatedToken(Token):
    """A new token, with the secret that is told this once.

    Attributes:
        closes_the_oracle: whether it is the first of an oracle that was open: from now on everybody
            needs a token, jobs that run included.
    """

    token: str = Field(repr=False)
    closes_the_oracle: bool = False


class TokenList(Message):
    """All tokens, the newest first."""

    tokens: list[Token]
