"""Error answers: `application/problem+json` with a stable code."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from hyperoracle_protocol.base import Message

PROBLEM_MEDIA_TYPE = "application/problem+json"


class ErrorCode(StrEnum):
    """Stable error codes; a client decides by these, never by the text."""

    INVALID_REQUEST = "invalid_request"
    MALFORMED_REQUEST = "malformed_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
    TOKEN_NOT_FOUND = "token_not_found"  # noqa: S105 - no secret
    TOKEN_CONFLICT = "token_conflict"  # noqa: S105 - no secret
    STUDY_NOT_FOUND = "study_not_found"
    STUDY_CONFLICT = "study_conflict"
    JOB_NOT_FOUND = "job_not_found"
    JOB_FINISHED = "job_finished"
    PROPOSAL_NOT_FOUND = "proposal_not_found"
    SEQUENCE_CONFLICT = "sequence_conflict"
    HYPER_STATE_MISMATCH = "hyper_state_mismatch"
    SNAPSHOT_REFUSED = "snapshot_refused"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    PROTOCOL_MISMATCH = "protocol_mismatch"
    STORE_UNAVAILABLE = "store_unavailable"
    OVERLOADED = "overloaded"
    INTERNAL = "internal"


HTTP_STATUS: dict[ErrorCode, int] = {
    ErrorCode.INVALID_REQUEST: 422,
    ErrorCode.MALFORMED_REQUEST: 400,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.QUOTA_EXCEEDED: 403,
    ErrorCode.TOKEN_NOT_FOUND: 404,
    ErrorCode.TOKEN_CONFLICT: 409,
    ErrorCode.STUDY_NOT_FOUND: 404,
    ErrorCode.STUDY_CONFLICT: 409,
    ErrorCode.JOB_NOT_FOUND: 404,
    ErrorCode.JOB_FINISHED: 409,
    ErrorCode.PROPOSAL_NOT_FOUND: 404,
    ErrorCode.SEQUENCE_CONFLICT: 422,
    ErrorCode.HYPER_STATE_MISMATCH: 422,
    ErrorCode.SNAPSHOT_REFUSED: 422,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.REQUEST_TIMEOUT: 408,
    ErrorCode.BODY_TOO_LARGE: 413,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: 415,
    ErrorCode.PROTOCOL_MISMATCH: 426,
    ErrorCode.STORE_UNAVAILABLE: 503,
    ErrorCode.OVERLOADED: 503,
    ErrorCode.INTERNAL: 500,
}
"""The HTTP status that goes with each code."""


class Problem(Message):
    """An error answer (RFC 9457) with what was expected and what came."""

    type: str = "about:blank"
    title: str
    status: int
    code: ErrorCode
    detail: str = Field(description="One sentence: what is wrong and what to do.")
    expected: str | None = None
    got: str | None = None
    request_id: str | None = None
