"""Errors become `application/problem+json` here and nowhere else, counted and logged alike."""

from __future__ import annotations

import logging
import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from hyperoracle_protocol.errors import HTTP_STATUS, PROBLEM_MEDIA_TYPE, ErrorCode, Problem
from hyperoracle_protocol.version import PROTOCOL_HEADER, PROTOCOL_VERSION
from hyperoracle_server.api.deployment import deployment_of
from hyperoracle_server.api.openapi import security_headers
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.telemetry.logs import about, shown_path
from hyperoracle_server.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

LONGEST_NAME = 128
"""Characters of a field's name that a refusal repeats."""

_OF_STATUS = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.BODY_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
}

_METHODS = ("GET", "PUT", "POST", "DELETE")


# -- from an error to an answer ----------------------------------------------------------------


def invalid_request(error: ValidationError) -> RequestRefused:
    """What pydantic found, as a refusal that names the field."""
    first = error.errors(include_url=False)[0]
    return refusal(first["loc"], first["msg"], first.get("input"), error.error_count())


def refusal(location: tuple[Any, ...], message: str, got: Any, count: int) -> RequestRefused:
    """A refusal of one field of a request."""
    where = ".".join(map(_shown, location)) or "the body"
    more = f" (and {count - 1} more)" if count > 1 else ""
    text = message.removeprefix("Value error, ")
    return RequestRefused(
        ErrorCode.INVALID_REQUEST, f"{where}: {text}{more}", expected=text, got=repr(got)
    )


def _shown(part: Any) -> str:
    """A field's name, which may be a key of the caller's: short, and fit to be answered."""
    text = str(part).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + "…"


def problem(error: RequestRefused, request_id: str | None = None) -> tuple[int, bytes]:
    """A refusal's status, and its body as `application/problem+json`."""
    status = HTTP_STATUS[error.code]
    answer = Problem(
        title=error.code.value.replace("_", " "),
        status=status,
        code=error.code,
        detail=error.detail,
        expected=error.expected,
        got=error.got,
        request_id=request_id,
    )
    return status, answer.model_dump_json().encode()


def problem_headers(error: RequestRefused) -> dict[str, str]:
    """The headers that go with a refusal: when to come again, or what to come with."""
    status = HTTP_STATUS[error.code]
    if status == 401:
        return {"www-authenticate": 'Bearer realm="hyperoracle"'}
    if error.retry_after_seconds is not None:
        return {"retry-after": str(max(1, math.ceil(error.retry_after_seconds)))}
    return {"retry-after": "1"} if status == 503 else {}


def note(scope: Scope, error: RequestRefused, metrics: Metrics) -> None:
    """Count a refusal, and log what was refused and why.

    What was expected and what came are for the caller alone: they may repeat the request's body.
    """
    metrics.count_rejection(error.code)
    status = HTTP_STATUS[error.code]
    level = logging.WARNING if status >= 500 else logging.INFO
    if log.isEnabledFor(level):
        call = f"{scope['method']} {shown_path(scope['path'])}"
        log.log(level, "refused", extra=about(call=call, status=status, code=error.code.value))


def answer(error: RequestRefused, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """A refusal outside the routes, after which the connection ends: status, headers and body."""
    status, body = problem(error, request_id)
    headers = [
        (b"content-type", PROBLEM_MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # the rest of the request is not read
        *((n.encode(), value.encode()) for n, value in problem_headers(error).items()),
        *identity(request_id),
    ]
    return status, headers, body


def identity(request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers that every answer has."""
    return [
        (PROTOCOL_HEADER.encode(), PROTOCOL_VERSION.encode()),
        (b"x-request-id", request_id.encode("latin-1")),
    ]


# -- where the framework meets them -----------------------------------------------------------


def add_error_handlers(app: FastAPI) -> None:
    """Register the translations of every kind of error."""
    app.add_exception_handler(RequestRefused, _on_oracle_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_bug)


def respond(request: Request, error: RequestRefused) -> Response:
    """The error as an answer; busy ones say when to try again."""
    status, body = problem(error, request.scope.get("request_id"))
    note(request.scope, error, deployment_of(request.app).metrics)
    headers = problem_headers(error)
    return Response(body, status, media_type=PROBLEM_MEDIA_TYPE, headers=headers)


async def _on_oracle_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)
    return respond(request, error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    first = found[0]
    location = tuple(part for part in first["loc"] if part != "body")
    return respond(request, refusal(location, first["msg"], first.get("input"), len(found)))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _OF_STATUS.get(error.status_code, ErrorCode.INVALID_REQUEST)
    call = f"{request.method} {shown_path(request.url.path)}"
    answer = respond(
        request, RequestRefused(code, f"{call}: {error.detail}; see /docs for the calls")
    )
    if error.status_code == 405:
        answer.headers["allow"] = ", ".join(sorted(_allowed(request)))
    return answer


def _allowed(request: Request) -> set[str]:
    """The methods that a path takes: the framework names those of the first route alone."""
    found = {
        method
        for method in _METHODS
        for route in request.app.router.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    }
    return found | ({"HEAD"} if "GET" in found else set())


async def _on_disconnect(request: Request, error: Exception) -> Response:
    """Nobody will read the answer; it is for the log."""
    del error
    detail = "the caller hung up before the body had come whole"
    return respond(request, RequestRefused(ErrorCode.INVALID_REQUEST, detail))


async def _on_bug(request: Request, error: Exception) -> Response:
    call = f"{request.method} {shown_path(request.url.path)}"
    log.error("a bug", exc_info=error, extra=about(call=call))
    detail = "the oracle failed on this request; nothing is known to have changed"
    response = respond(request, RequestRefused(ErrorCode.INTERNAL, detail))
    # It is sent by the outermost of the framework's own, which the gate does not see.
    if "request_id" in request.scope:
        added = identity(request.scope["request_id"])
        response.raw_headers += [*added, *security_headers(response.raw_headers)]
    return response
