"""A small OpenTelemetry collector: takes spans over HTTP on loopback, or never answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

PATIENCE_SECONDS = 60.0


class Span(NamedTuple):
    """A span as it arrived; ids in hexadecimal, times in ns since 1970."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    is_server: bool
    is_error: bool
    message: str
    began: int
    ended: int
    events: int
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    """Listens until it is left.

    Args:
        hangs: whether it takes connections and requests and answers none.
    """

    def __init__(self, *, hangs: bool = False) -> None:
        self._hangs = hangs
        self._release = threading.Event()
        self._arrived = threading.Condition()
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()
        self.headers: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector._take(self.path, dict(self.headers.items()), body)
                if collector._hangs:
                    collector._release.wait()
                    return
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release.set()
        self._server.shutdown()
        self._server.server_close()

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        with self._arrived:
            self.bodies.append(body)
            self.paths.add(path)
            self.headers.append(headers)
            self._arrived.notify_all()

    def spans(self) -> list[Span]:
        """What has arrived so far."""
        with self._arrived:
            return [span for body in self.bodies for span in decoded(body)]

    def wait_for(self, wanted: Callable[[list[Span]], Any]) -> list[Span]:
        """What has arrived once `wanted` says that it suffices."""
        until = time.monotonic() + PATIENCE_SECONDS
        with self._arrived:
            while True:
                found = [span for body in self.bodies for span in decoded(body)]
                if wanted(found):
                    return found
                left = until - time.monotonic()
                assert left > 0, f"only these arrived: {sorted(span.name for span in found)}"
                self._arrived.wait(left)

    def wait_for_a_request(self) -> None:
        """Wait until anything has arrived, answered or not."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.bodies, PATIENCE_SECONDS)


def decoded(body: bytes) -> list[Span]:
    """The spans of a request's body."""
    message = ExportTraceServiceRequest.FromString(body)
    return [
        _span(span, _values(resource.resource.attributes))
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _span(span: SpanMessage, resource: dict[str, Any]) -> Span:
    return Span(
        span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
        span.kind == SpanMessage.SPAN_KIND_SERVER,
        span.status.code == Status.STATUS_CODE_ERROR, span.status.message,
        span.start_time_unix_nano, span.end_time_unix_nano, len(span.events),
        _values(span.attributes), resource,
    )  # fmt: skip


def _values(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}
