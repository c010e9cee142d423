"""What every request passes first: protocol version, no compressed bodies, the body cap.

HEAD is answered as GET is, without a body.

Every answer passes it last, and gets its identity and the headers that keep browsers careful.
"""

from __future__ import annotations

import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.version import PROTOCOL_HEADER, PROTOCOL_VERSION, is_compatible
from hyperoracle_server.api import problems
from hyperoracle_server.api.openapi import security_headers
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.telemetry import logs
from hyperoracle_server.telemetry.metrics import Metrics

_PROTOCOL = PROTOCOL_HEADER.encode()
_LONGEST_LENGTH = 18  # digits of a body's length


class Gate:
    """Pure ASGI middleware that refuses what no route should see.

    Args:
        app: the application behind it.
        body_limit_bytes: longest request body,
        snapshot_limit_bytes: but for a snapshot's, which goes to a file and not into memory.
        metrics: count what is refused here.
    """

    def __init__(
        self, app: ASGIApp, *, body_limit_bytes: int, snapshot_limit_bytes: int, metrics: Metrics
    ) -> None:
        self.app = app
        self._metrics = metrics
        self._limit = body_limit_bytes
        self._snapshot_limit = snapshot_limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with a counted body and an identified answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        limit = self._snapshot_limit if is_restoration(scope) else self._limit
        request_id = headers.get(b"x-request-id", b"").decode("latin-1")[:64]
        scope["request_id"] = request_id = request_id or secrets.token_hex(8)
        logs.request_id.set(request_id)  # each request is a task of its own
        is_head = scope["method"] == "HEAD"
        inner = {**scope, "method": "GET"} if is_head else scope  # the server has its own view
        refusal = _refusal(headers, limit)
        if refusal is not None:
            await self._refuse(refusal, scope, send)
            return
        received = 0
        answering = False

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit)
            return message

        async def identified_send(message: Message) -> None:
            nonlocal answering
            if is_head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            if message["type"] == "http.response.start":
                answering = True
                headers = message["headers"]
                identity = problems.identity(scope["request_id"])
                message["headers"] = [*headers, *security_headers(headers), *identity]
            await send(message)

        try:
            await self.app(inner, counted_receive, identified_send)
        except RequestRefused as error:  # outside the routes' handlers: counted_receive, the guard
            if answering:
                raise
            await self._refuse(error, scope, send)
        finally:
            if is_head:  # for whoever asks what it was about
                scope.update({key: inner[key] for key in ("route", "path_params") if key in inner})

    async def _refuse(self, error: RequestRefused, scope: Scope, send: Send) -> None:
        problems.note(scope, error, self._metrics)
        status, headers, body = problems.answer(error, scope["request_id"])
        if scope["method"] == "HEAD":
            body = b""
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _refusal(headers: dict[bytes, bytes], limit: int) -> RequestRefused | None:
    offered = headers.get(_PROTOCOL)
    if offered is not None and not is_compatible(offered.decode("latin-1")):
        return RequestRefused(
            ErrorCode.PROTOCOL_MISMATCH,
            "client and server do not speak the same protocol; upgrade the older one",
            expected=PROTOCOL_VERSION,
            got=offered.decode("latin-1"),
        )
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        return RequestRefused(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE, "compressed request bodies are not taken",
            expected="no Content-Encoding", got=encoding.decode("latin-1"),
        )  # fmt: skip
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > _LONGEST_LENGTH or int(length) > limit:
        return _too_large(limit)
    return None


def _too_large(limit: int) -> RequestRefused:
    return RequestRefused(
        ErrorCode.BODY_TOO_LARGE,
        "the request's body is too large",
        expected=f"at most {limit} bytes",
        got="more",
    )


def is_restoration(scope: Scope) -> bool:
    """Whether a call brings a snapshot."""
    is_post: bool = scope["method"] == "POST"
    return is_post and str(scope["path"]).endswith("/restore")
