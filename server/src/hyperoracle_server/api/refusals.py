"""What is refused is counted, logged and answered alike, wherever that happens."""

from __future__ import annotations

import logging

from starlette.types import Scope

from hyperoracle_protocol.errors import HTTP_STATUS
from hyperoracle_protocol.version import PROTOCOL_HEADER, PROTOCOL_VERSION
from hyperoracle_server.api import wire
from hyperoracle_server.errors import OracleError
from hyperoracle_server.telemetry.logs import about
from hyperoracle_server.telemetry.metrics import Metrics
from hyperoracle_server.telemetry.redaction import shown_path

log = logging.getLogger(__name__)


def note(scope: Scope, error: OracleError, metrics: Metrics) -> None:
    """Count a refusal, and log what was refused and why.

    What was expected and what came are for the caller alone: they may repeat the request's body.
    """
    metrics.count_rejection(error.code)
    status = HTTP_STATUS[error.code]
    level = logging.WARNING if status >= 500 else logging.INFO
    if log.isEnabledFor(level):
        call = f"{scope['method']} {shown_path(scope['path'])}"
        log.log(level, "refused", extra=about(call=call, status=status, code=error.code.value))


def answer(error: OracleError, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """A refusal outside the routes, after which the connection ends: status, headers and body."""
    problem = wire.problem(error, request_id)
    headers = [
        (b"content-type", problem.media_type.encode()),
        (b"content-length", str(len(problem.body)).encode()),
        (b"connection", b"close"),  # the rest of the request is not read
        *((n.encode(), value.encode()) for n, value in wire.problem_headers(error).items()),
        *identity(request_id),
    ]
    return problem.status, headers, problem.body


def identity(request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers that every answer has."""
    return [
        (PROTOCOL_HEADER.encode(), PROTOCOL_VERSION.encode()),
        (b"x-request-id", request_id.encode("latin-1")),
    ]
