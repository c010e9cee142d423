"""From an `Authorization` header to a caller, and what the caller may do."""

from __future__ import annotations

from datetime import UTC, datetime

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.tokens import CreateToken, Scope
from hyperoracle_server.api.access.rules import Requirement
from hyperoracle_server.api.access.tokens import (
    ALL_STUDIES,
    RANK,
    StoredToken,
    TokenStore,
    digest_of,
    id_of,
    is_same,
)
from hyperoracle_server.errors import RequestRefused

_SCHEME = b"bearer "
_NO_DIGEST = bytes(32)


class Caller:
    """Somebody who calls.

    Attributes:
        token: what the caller came with, None where no token is asked for.
    """

    __slots__ = ("token",)

    def __init__(self, token: StoredToken | None) -> None:
        self.token = token

    @property
    def name(self) -> str | None:
        """The token's name."""
        return None if self.token is None else self.token.name

    @property
    def owner(self) -> str | None:
        """Whose quota counts what the caller makes: a `train` token's id; None for nobody's."""
        is_bound = self.token is not None and self.token.scope == "train"
        return self.token.id if self.token is not None and is_bound else None

    def may(self, scope: Scope, study: str | None) -> bool:
        """Whether the caller may do this in a study, or (None) in all of them."""
        return self.token is None or self.token.allows(scope, study)

    def check(self, needed: Requirement) -> None:
        """Refuse what the caller may not do.

        Raises:
            RequestRefused: `forbidden`, saying which scope and study it takes.
        """
        token = self.token
        if token is None:
            return
        if needed.any_study:
            allowed = RANK[token.scope] >= RANK[needed.scope]
        else:
            allowed = token.allows(needed.scope, needed.study)
        if not allowed:
            where = "" if needed.any_study else f" for {_studies(needed.study)}"
            raise RequestRefused(
                ErrorCode.FORBIDDEN,
                f"the token {token.name!r} does not allow this call; ask the operator for one that "
                "does (`hyperoracle token create`)",
                expected=f"the scope {needed.scope}{where}",
                got=f"the scope {token.scope} for {', '.join(token.studies)}",
            )


ANYBODY = Caller(None)
"""Who calls an oracle that asks for no token."""


class Doorkeeper:
    """Tells callers by their tokens. Used by one thread.

    While there is no token at all, everybody is let in: a person with a laptop has nothing to set
    up. From the first token on every caller needs one.

    Args:
        tokens: those of the store.
        admin_token: one that the environment gives, for all studies; it is not stored.
        is_required: ask for a token even while there is none.
    """

    def __init__(
        self, tokens: TokenStore, *, admin_token: str | None = None, is_required: bool = False
    ) -> None:
        self._tokens = tokens
        self._is_required = is_required
        self._administrator = None
        if admin_token is not None:
            self._administrator = StoredToken(
                id="environment",
                name="administrator",
                scope="admin",
                studies=("*",),
                digest=digest_of(admin_token.encode()),
                created_at=tokens.now(),
            )

    @property
    def asks_for_tokens(self) -> bool:
        """Whether a caller without a token is refused."""
        return self._is_required or self._administrator is not None or len(self._tokens) > 0

    def check_first(self, wanted: CreateToken) -> None:
        """See that the token with which an oracle ceases to be open lets somebody administer it.

        Raises:
            RequestRefused: `invalid_request`, with another one everybody would be locked out
                for good.
        """
        if self._administrator is not None or len(self._tokens) > 0:
            return
        reaches_all = wanted.scope == "admin" and ALL_STUDIES in wanted.studies
        if not reaches_all or wanted.expires_in_seconds is not None:
            raise RequestRefused(
                ErrorCode.INVALID_REQUEST,
                "from the first token on everybody needs one, running jobs included, so the first "
                "is an administrator's, of all studies and without an end: make that one before "
                "(`hyperoracle token create --name admin --scope admin`)",
                expected='scope "admin", studies ["*"], no expires_in_seconds',
                got=f"scope {wanted.scope!r}, studies {list(wanted.studies)}, "
                f"expires_in_seconds {wanted.expires_in_seconds}",
            )

    def admit(self, authorization: bytes | None) -> Caller:
        """Who comes with this header.

        Args:
            authorization: the header's value as it came, None where there is none.

        Raises:
            RequestRefused: `unauthenticated`.
        """
        if not self.asks_for_tokens:
            return ANYBODY
        if authorization is None:
            raise unauthenticated("this oracle asks for a token and none came")
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise unauthenticated("the header Authorization holds no token")
        return Caller(self._checked(authorization[len(_SCHEME) :].strip()))

    def _checked(self, offered: bytes) -> StoredToken:
        digest = digest_of(offered)
        stored = self._tokens.find(id_of(offered))
        # Compared whether or not there is such an id: no answer comes sooner than another.
        is_stored = is_same(_NO_DIGEST if stored is None else stored.digest, digest)
        if stored is not None and is_stored:
            status = stored.status(self._tokens.now())
            if status == "active":
                return stored
            ended = stored.revoked_at if status == "revoked" else stored.expires_at
            assert ended is not None
            since = f"{datetime.fromtimestamp(ended, UTC):%Y-%m-%d %H:%M} UTC"
            raise unauthenticated(f"the token {stored.name!r} is {status} since {since}")
        if self._administrator is not None and is_same(self._administrator.digest, digest):
            return self._administrator
        raise unauthenticated("the token is not one of this oracle's")


def unauthenticated(why: str) -> RequestRefused:
    """A refusal that says how to come with a token."""
    return RequestRefused(
        ErrorCode.UNAUTHENTICATED,
        f"{why}; set HYPERORACLE_TOKEN or send Authorization: Bearer TOKEN (the operator makes one "
        "with `hyperoracle token create`)",
    )


def _studies(study: str | None) -> str:
    return "all studies" if study is None else f"the study {study}"
