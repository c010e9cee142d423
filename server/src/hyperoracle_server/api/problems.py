"""Errors become `application/problem+json` here and nowhere else."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_server.api import refusals, wire
from hyperoracle_server.api.pages import security_headers
from hyperoracle_server.errors import OracleError
from hyperoracle_server.telemetry.logs import about
from hyperoracle_server.telemetry.redaction import shown_path

log = logging.getLogger(__name__)

_OF_STATUS = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.BODY_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
}

_METHODS = ("GET", "PUT", "POST", "DELETE")


def add_error_handlers(app: FastAPI) -> None:
    """Register the translations of every kind of error."""
    app.add_exception_handler(OracleError, _on_oracle_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_bug)


def respond(request: Request, error: OracleError) -> Response:
    """The error as an answer; busy ones say when to try again."""
    answer = wire.problem(error, request.scope.get("request_id"))
    headers = wire.problem_headers(error)
    refusals.note(request.scope, error, request.app.state.metrics)
    return Response(answer.body, answer.status, media_type=answer.media_type, headers=headers)


async def _on_oracle_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OracleError)
    return respond(request, error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    first = found[0]
    location = tuple(part for part in first["loc"] if part != "body")
    return respond(request, wire.refusal(location, first["msg"], first.get("input"), len(found)))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _OF_STATUS.get(error.status_code, ErrorCode.INVALID_REQUEST)
    call = f"{request.method} {shown_path(request.url.path)}"
    answer = respond(request, OracleError(code, f"{call}: {error.detail}; see /docs for the calls"))
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
    return respond(request, OracleError(ErrorCode.INVALID_REQUEST, detail))


async def _on_bug(request: Request, error: Exception) -> Response:
    call = f"{request.method} {shown_path(request.url.path)}"
    log.error("a bug", exc_info=error, extra=about(call=call))
    detail = "the oracle failed on this request; nothing is known to have changed"
    response = respond(request, OracleError(ErrorCode.INTERNAL, detail))
    # It is sent by the outermost of the framework's own, which the gate does not see.
    if "request_id" in request.scope:
        added = refusals.identity(request.scope["request_id"])
        response.raw_headers += [*added, *security_headers(response.raw_headers)]
    return response
