"""What can go wrong between a training run and its oracle.

    OracleError
    ├── OracleUnreachable      no usable answer: nobody listens, connection lost, garbage
    │   └── DeadlineMissed     no answer in time
    ├── OracleRefused          the oracle answered with an error; `.code` is the wire's
    │   └── ProtocolMismatch   the two ends speak different versions of the protocol
    └── OracleMisconfigured    a setting or an argument of the user's that cannot work

With `on_error="default"` only `OracleMisconfigured` and `OracleRefused` are ever raised, and only
by `Oracle(...)` and `start_job`: a mistake is best told before training starts, never later.
"""

from __future__ import annotations

from pydantic import ValidationError

from hyperoracle_protocol.base import OracleError, OracleMisconfigured, one_line
from hyperoracle_protocol.errors import ErrorCode, Problem

__all__ = [
    "DeadlineMissed",
    "OracleError",
    "OracleMisconfigured",
    "OracleRefused",
    "OracleUnreachable",
    "ProtocolMismatch",
    "one_line",
    "refusal",
]


class OracleUnreachable(OracleError):
    """No usable answer came: nobody listens, the connection broke, or the answer is garbage."""


class DeadlineMissed(OracleUnreachable):
    """No answer came in time."""


class OracleRefused(OracleError):
    """The oracle answered with an error.

    Attributes:
        status: the HTTP status.
        code: the wire's stable code, None where the answer carried none (a proxy's page).
        request_id: of the request that was refused, as the oracle's log has it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: ErrorCode | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.status = status
        self.code = code


class ProtocolMismatch(OracleRefused):
    """The two ends speak different versions of the protocol."""


def refusal(status: int, body: bytes) -> OracleRefused:
    """The exception for an answer that is not 2xx.

    Args:
        status: the HTTP status.
        body: the answer's body, a `Problem` if it comes from an oracle.
    """
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        text = body[:120].decode("utf-8", "replace").strip()
        return OracleRefused(f"the oracle answered {status}: {text}", status=status)
    return as_refusal(problem, status)


def as_refusal(problem: Problem, status: int) -> OracleRefused:
    """The exception for a problem that an oracle tells."""
    message = f"{problem.detail} ({problem.code})"
    if problem.expected is not None:
        message += f"; expected {problem.expected}, got {problem.got}"
    if problem.code == ErrorCode.INVALID_REQUEST and problem.detail.startswith("strategy:"):
        # The client knows the strategy, or it would not have sent it.
        message += "; upgrade the oracle, which is of an earlier release, or name another strategy"
    if problem.request_id is not None:
        message += f" [request {problem.request_id}]"
    kind = ProtocolMismatch if problem.code is ErrorCode.PROTOCOL_MISMATCH else OracleRefused
    return kind(message, status=status, code=problem.code, request_id=problem.request_id)
