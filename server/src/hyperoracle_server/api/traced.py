"""A span for every request: what HTTP's semantic conventions say of it, and whose job it is.

Written here rather than taken from OpenTelemetry's instrumentation, see decision 0017.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import Span, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hyperoracle_server.telemetry.logs import redacted, shown_path
from hyperoracle_server.telemetry.tracing import Tracing

UNTRACED = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked for by machines every few seconds: their spans would bury the others."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_LONGEST = 256  # characters of a text that the caller chose


class Traced:
    """Pure ASGI middleware, before all other, that begins and ends a request's span.

    Args:
        app: the application behind it.
        tracing: makes the spans.
        study_of_job: the study of a job, None of a job that does not exist.
    """

    def __init__(
        self, app: ASGIApp, *, tracing: Tracing, study_of_job: Callable[[str], str | None]
    ) -> None:
        self.app = app
        self._tracing = tracing
        self._study_of_job = study_of_job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, within a span."""
        if scope["type"] != "http" or scope["path"] in UNTRACED:
            await self.app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "HTTP"
        span = self._tracing.start(method, scope["headers"], _asked(scope))
        status = 0

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        bug = None
        try:
            await self.app(scope, receive, noting_send)
        except Exception as error:  # answered by the error handlers, which stand before all else
            bug = type(error).__name__
            raise
        finally:
            if span.is_recording():
                # In the loop's next round, before which it writes the answer (uvloop does not
                # sooner): nobody waits for the making of spans.
                loop = asyncio.get_running_loop()
                loop.call_soon(self._end, span, method, scope, status, bug, time.time_ns())

    def _end(
        self, span: Span, method: str, scope: Scope, status: int, bug: str | None, ended: int
    ) -> None:
        """Say what is known of a request at its end, and end its span."""
        route = getattr(scope.get("route"), "path_format", None)
        if route is not None:
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
        if bug is not None and not status:
            status = 500
        if status:
            span.set_attribute("http.response.status_code", status)
        if status >= 500 or bug is not None:
            span.set_attribute("error.type", bug or str(status))
            span.set_status(StatusCode.ERROR)
        given = scope.get("path_params", {})
        job = given.get("job") or given.get("proposal", "").rpartition(".")[0] or None
        study = given.get("study") if job is None else self._study_of_job(job)
        for name, value in (
            ("request_id", scope.get("request_id")), ("study", study), ("job", job),
        ):  # fmt: skip
            if value is not None:
                span.set_attribute(f"hyperoracle.{name}", redacted(value)[:_LONGEST])
        self._tracing.end(span, ended)


def _asked(scope: Scope) -> dict[str, str | int]:
    """What is known of a request at its beginning. The query is left out."""
    method = scope["method"]
    found: dict[str, Any] = {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "url.path": shown_path(scope["path"]),
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
    }
    server, client = scope.get("server"), scope.get("client")
    if server is not None:
        found["server.address"], found["server.port"] = server[0], server[1]
    if client is not None:
        found["client.address"] = client[0]
    return found
