"""Connections: how many there may be, how long a request may take to arrive, an answer to be read.

uvicorn waits for ever for the rest of a request. Here a client that sends its headers or its body
drop by drop is answered 408 and let go; one that comes when all places are taken is answered 503.
It takes headers and waiting requests without end, too, and all of them into memory: here 413, 400.
What it answers as text, because no application has seen it, is a problem document here.
For who reads its answer it waits for ever, too, and keeps the place of a connection that is to be
closed until all of it is read; here who does not read is cut off.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import struct
from http import HTTPStatus
from typing import Any, NamedTuple, NoReturn

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_server.api import problems
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.telemetry.logs import about
from hyperoracle_server.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

LEAST_BYTES_PER_SECOND = 64 * 1024
"""What has arrived prolongs the wait for the rest at this rate, so that a long snapshot over a
line of this speed comes through, and a byte now and then prolongs nothing. So does what has to be
read."""

LOOKS = 8
"""How often, within the time that a request has, it looks whether an answer is being read."""

LONGEST_HEAD_BYTES = 64 * 1024
"""What a request may have beside its body: request line, headers, trailers."""

HEAD_PIECE_BYTES = 4 * 1024
"""What is no body of a known length is looked at in pieces of so much: what has come of a head is
known at the end of each."""

ONCE = frozenset(
    {b"host", b"authorization", b"content-type", b"origin", b"sec-fetch-site",
     b"hyperoracle-protocol"}
)  # fmt: skip
"""Headers that a request has once: of two, a proxy may have looked at the other one."""

FRAMING_BYTES = 8
"""And this much more for each byte of the body: a chunk of one byte takes five besides."""

MOST_WAITING = 256
"""Requests that may wait on a connection for the answer to one before them."""

REFUSED_POLITELY = 100
"""So many connections past the limit are told that it is reached; the next are cut."""

RETRY_SECONDS = 2.0

_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 s


class Limits(NamedTuple):
    """What a server's connections have in common.

    Attributes:
        connections: that may be open at once.
        request_seconds: within which a request has to arrive, and what it has already brought
            at `LEAST_BYTES_PER_SECOND` on top; what is written of an answer has so long to be
            read, from when it is noticed that it is not.
        metrics: count what is refused here.
    """

    connections: int
    request_seconds: float
    metrics: Metrics


class BoundedProtocol(HttpToolsProtocol):
    """One connection of uvicorn's, within limits; a request in one piece costs no timer.

    Between requests, and before the first one, a connection may be silent for as long as uvicorn
    keeps it alive; one past the limit for as long as a request may take.
    """

    def __init__(self, *args: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limits = limits
        self._is_arriving = False
        self._began = 0.0
        self._received = 0
        self._body_bytes = 0
        self._body_to_come = 0  # of a body whose length is known
        self._malformed = _NO_HTTP
        self._is_over = False  # what still comes is nobody's
        self._check: asyncio.TimerHandle | None = None
        self._unread_until: float | None = None  # what is unread now has to be read by then
        self._look: asyncio.TimerHandle | None = None
        self._answering: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Take the connection, or see that it is refused."""
        super().connection_made(transport)
        excess = len(self.connections) - self._limits.connections
        if excess > REFUSED_POLITELY:
            self._limits.metrics.count_rejection(ErrorCode.OVERLOADED)
            transport.abort()
            return
        silence: float = self.timeout_keep_alive
        if excess > 0:
            self.app = _Overloaded(self.app, self._limits.metrics)
            silence = self._limits.request_seconds
        self.timeout_keep_alive_task = self.loop.call_later(
            silence, self.timeout_keep_alive_handler
        )
        self._look = self.loop.call_later(self._limits.request_seconds, self._look_at_reader)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_checking()
        if self._look is not None:
            self._look.cancel()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a piece; from a request's first one on the rest is awaited for a limited time."""
        taken = 0
        while taken < len(data) and not self._is_closing():
            if not self._is_arriving:
                self._begin()
            room = LONGEST_HEAD_BYTES + self._body_bytes * (1 + FRAMING_BYTES) - self._received
            if room <= 0:
                self._end(_too_long())
                return
            size = max(min(room, HEAD_PIECE_BYTES), self._body_to_come)
            piece = data[taken : taken + size]
            taken += size
            self._received += len(piece)
            super().data_received(piece)
        if self._is_arriving and self._check is None and not self._is_closing():
            self._check = self.loop.call_later(self._limits.request_seconds, self._check_arrival)

    def on_message_begin(self) -> None:
        """A request begins, with its own piece or behind another in the same one."""
        if not self._is_arriving:
            self._begin()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A request can be answered, or has to wait for the answer to the one before.

        Raises:
            _MalformedError: no answer is due but that it is malformed; the parser stops, and
                `send_400_response` is called.
        """
        self._malformed = _NO_HTTP  # whatever is raised below
        if len(self.pipeline) >= MOST_WAITING:
            self._refuse_head(
                "too many requests wait on this connection for the answer to the one before",
                expected=f"at most {MOST_WAITING}",
            )
        names = [name for name, _ in self.headers]
        twice = next((name for name in ONCE if names.count(name) > 1), None)
        if twice is not None:
            name = twice.decode().title()
            self._refuse_head(f"the header {name} is there more than once", expected="one of it")
        parser = self.parser
        assert parser is not None, "it calls this"
        version = parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._refuse_head(f"the request is of HTTP/{version}", expected="HTTP/1.1 or HTTP/1.0")
        if b"host" not in names and version != "1.0":
            self._refuse_head("the header Host is missing", expected="one of it")
        super().on_headers_complete()
        given = dict(self.headers).get(b"content-length", b"0")
        self._body_to_come = int(given) if given.isdigit() else 0

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request: the application never sees it."""
        del msg
        self._end(self._malformed)

    def _refuse_head(self, detail: str, *, expected: str) -> NoReturn:
        self._malformed = _malformed(detail, expected=expected)
        raise _MalformedError

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        self._body_to_come = max(0, self._body_to_come - len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has arrived."""
        self._is_arriving = False
        self._body_to_come = 0
        self._stop_checking()
        super().on_message_complete()

    def _begin(self) -> None:
        self._is_arriving = True
        self._began = self.loop.time()
        self._received = 0
        self._body_bytes = 0

    def _is_closing(self) -> bool:
        return self._is_over or self.transport.is_closing()

    def _stop_checking(self) -> None:
        if self._check is not None:
            self._check.cancel()
            self._check = None

    def _check_arrival(self) -> None:
        """End the wait if it has lasted too long for what came."""
        self._check = None
        if self.transport.is_closing():
            return
        allowed = self._limits.request_seconds + self._received / LEAST_BYTES_PER_SECOND
        left = self._began + allowed - self.loop.time()
        cycle = self.cycle
        is_answering = cycle is not None and not cycle.response_complete and not cycle.more_body
        if is_answering:  # an earlier request of this connection
            left = max(left, self._limits.request_seconds)
        if left > 0:
            self._check = self.loop.call_later(left, self._check_arrival)
            return
        self._end(self._too_slow())

    def _end(self, error: RequestRefused) -> None:
        """Refuse the request that is arriving, and let the client go.

        Where an earlier request is still being answered, that answer is the last thing that comes:
        a refusal in its place would be taken for it.
        """
        self._is_over = True
        self._stop_checking()
        self._limits.metrics.count_rejection(error.code)
        status, headers, body = problems.answer(error, secrets.token_hex(8))
        fields = about(status=status, code=error.code.value, client=self.client)
        log.info("refused", extra=fields)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            cycle.keep_alive = False
            return
        if cycle is None or cycle.response_complete or not cycle.response_started:
            head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
            phrase = HTTPStatus(status).phrase.encode()
            self.transport.write(b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, phrase, head, body))
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # whoever waits for the body learns that none will come
            cycle.message_event.set()
        self.transport.close()

    def resume_writing(self) -> None:
        """Most of what was written is read."""
        self._unread_until = None
        super().resume_writing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begin to answer: of requests behind each other uvicorn knows only the newest."""
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _look_at_reader(self) -> None:
        """Cut the connection off if nobody reads what is written to it, its closing included."""
        unread = self.transport.get_write_buffer_size()
        seconds = self._limits.request_seconds
        now = self.loop.time()
        if not unread:
            self._unread_until = None
        elif self._unread_until is None:
            self._unread_until = now + seconds + unread / LEAST_BYTES_PER_SECOND
        elif now >= self._unread_until:
            log.info("cut off, its answer was not read", extra=about(client=self.client))
            connection = self.transport.get_extra_info("socket")
            if connection is not None:  # what the kernel has of it goes, too
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self.transport.abort()
            return
        wait = seconds if self._unread_until is None else seconds / LOOKS
        self._look = self.loop.call_later(wait, self._look_at_reader)

    def _too_slow(self) -> RequestRefused:
        seconds = self._limits.request_seconds
        return RequestRefused(
            ErrorCode.REQUEST_TIMEOUT,
            "the request did not arrive in time; send it again, in one go",
            expected=f"all of it within {seconds:g} s, and 1 s more for each "
            f"{LEAST_BYTES_PER_SECOND // 1024} KiB",
            got=f"{self._received} bytes",
        )


class _MalformedError(Exception):
    """Stops the parser."""


def _malformed(detail: str, *, expected: str) -> RequestRefused:
    return RequestRefused(ErrorCode.MALFORMED_REQUEST, detail, expected=expected)


_NO_HTTP = _malformed(
    "what came is no HTTP request: its first line, a header, or the length of its body",
    expected="HTTP/1.1 or HTTP/1.0, such as GET /livez HTTP/1.1",
)


def _too_long() -> RequestRefused:
    return RequestRefused(
        ErrorCode.BODY_TOO_LARGE,
        "the request's head is too large",
        expected=f"at most {LONGEST_HEAD_BYTES} bytes of request line, headers and trailers",
        got="more",
    )


class _Overloaded:
    """Stands in for the application on a connection past the limit; it lives, and says no more."""

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self._app: ASGIApp = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/livez":
            await self._app(scope, receive, send)
            return
        error = RequestRefused(
            ErrorCode.OVERLOADED,
            "all connections are taken; nothing was recorded, try again",
            retry_after_seconds=RETRY_SECONDS,
        )
        problems.note(scope, error, self._metrics)
        status, headers, body = problems.answer(error, secrets.token_hex(8))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
