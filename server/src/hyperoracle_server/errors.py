"""What can go wrong, in the domain's words; `api.problems` turns it into HTTP in one place.

RequestRefused         any refusal, with a wire code
├── StoreUnavailable   the ledger cannot be written now; nothing was changed
├── StoreRefused       the ledger's file cannot be used at all (start-up)
└── SnapshotRefused    a file cannot be restored; nothing was changed
"""

from __future__ import annotations

from typing import Literal

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_server.telemetry.logs import redacted

LONGEST_TEXT = 1000
"""Characters of what a refusal says: a name in it may be the caller's, and without end."""


class RequestRefused(Exception):
    """A request that the oracle refuses; it changed nothing.

    Attributes:
        code: the stable wire code.
        detail: one sentence that says what is wrong and what to do.
        expected: what would have been right, if that can be said.
        got: what came.
        retry_after_seconds: when to come again, if that is known.
    """

    def __init__(
        self,
        code: ErrorCode,
        detail: str,
        *,
        expected: object = None,
        got: object = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = _short(detail)
        self.expected = None if expected is None else _short(str(expected))
        self.got = None if got is None else redacted(str(got))[:500]
        self.retry_after_seconds = retry_after_seconds


class StoreUnavailable(RequestRefused):
    """The ledger could not make a change durable, or be read; whoever asked may try again."""

    def __init__(self, reason: str, *, doing: Literal["written", "read"] = "written") -> None:
        super().__init__(
            ErrorCode.STORE_UNAVAILABLE,
            f"the store cannot be {doing} now ({reason}); nothing was recorded, try again",
        )


class StoreRefused(RequestRefused):
    """The file given as the store cannot be used as one."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.STORE_UNAVAILABLE, detail)


class SnapshotRefused(RequestRefused):
    """The file given as a snapshot cannot be restored; nothing was changed."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.SNAPSHOT_REFUSED, detail)


def _short(text: str) -> str:
    text = redacted(text)
    half = LONGEST_TEXT // 2
    return text if len(text) <= LONGEST_TEXT else f"{text[:half]}…{text[-half:]}"
