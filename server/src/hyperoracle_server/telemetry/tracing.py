"""Traces: one span for each request, spans for its stages and for work beside the calls.

An `Observer` that sends what it is told to an OpenTelemetry collector. Needs the extra `otel`, and
is imported only where traces are asked for (`otlp.py`).

A span holds names of studies and jobs, the request's id and what HTTP says of a call: never a
body, a header, a query, or an exception's text, which may repeat any of these. Spans are sent by a
thread of their own from a bounded queue; what does not fit, or cannot be sent, is lost, and no call
waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from importlib.metadata import version
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import get_global_textmap
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, format_trace_id, set_span_in_context

from hyperoracle_server.telemetry import logs
from hyperoracle_server.telemetry.logs import about
from hyperoracle_server.telemetry.observer import Observer, Stage, Work

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
"""How long a shutdown waits until the last spans are sent."""

QUIET_SECONDS = 300.0
"""After a warning that spans get lost no other is given for so long."""

_ROOT = Context()  # no parent, whatever this thread is doing

_stages: ContextVar[list[tuple[Stage, int, int]] | None] = ContextVar("stages", default=None)
"""The stages of the request that is being answered here: name, begin and end in ns since 1970;
None where no recorded span wants them."""


class Tracing(Observer):
    """Makes spans and sends them. Thread-safe.

    Sampler, batches, headers, timeout, resource and propagators are set by OpenTelemetry's own
    environment variables.

    Args:
        endpoint: the URL that spans are posted to (`otlp.traces_endpoint`).

    Raises:
        ValueError: one of these variables cannot be used.
    """

    def __init__(self, endpoint: str) -> None:
        own = {"service.name": "hyperoracle", "service.version": version("hyperoracle-server")}
        resource = Resource.create().merge(Resource(own)).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer(
            "hyperoracle_server", version("hyperoracle-server")
        )
        self._propagator = get_global_textmap()
        self._headers = {name.encode(): name for name in self._propagator.fields}
        _quieten(logging.getLogger("opentelemetry"))
        parts = urlsplit(endpoint)
        log.info("traces are sent", extra=about(to=f"{parts.scheme}://{parts.netloc}"))

    def start(
        self, name: str, headers: Iterable[tuple[bytes, bytes]], attributes: Mapping[str, str | int]
    ) -> Span:
        """Begin a request's span, as a part of the caller's trace if the headers name one.

        Stages and log lines of this context belong to it from now on.

        Args:
            name: of the span.
            headers: the request's, names in lower case.
            attributes: what is known at the beginning, which samplers see.
        """
        carrier: dict[str, list[str]] = {}
        for header, value in headers:
            if header in self._headers:
                carrier.setdefault(self._headers[header], []).append(value.decode("latin-1"))
        parent = self._propagator.extract(carrier, _ROOT) if carrier else _ROOT
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        logs.trace_id.set(format_trace_id(span.get_span_context().trace_id))
        _stages.set([] if span.is_recording() else None)
        return span

    def end(self, span: Span, ended: int) -> None:
        """End a request's span, and make those of the stages noted in this context.

        Args:
            span: the request's.
            ended: when it ended, in ns since 1970.
        """
        within = set_span_in_context(span, _ROOT)
        for stage, began, finished in _stages.get() or ():
            self._tracer.start_span(stage, within, start_time=began).end(finished)
        span.end(ended)

    def stage(self, stage: Stage, seconds: float) -> None:
        """Note a stage of the request that is being answered here."""
        stages = _stages.get()
        if stages is not None:
            now = time.time_ns()
            stages.append((stage, now - int(seconds * 1e9), now))

    def worked(self, work: Work, study: str, seconds: float) -> None:
        """A trace of its own for work beside the calls."""
        now = time.time_ns()
        self._tracer.start_span(
            work, _ROOT, attributes={"hyperoracle.study": study},
            start_time=now - int(seconds * 1e9),
        ).end(now)  # fmt: skip

    def close(self) -> None:
        """Send what is left, within `FLUSH_SECONDS`; what is not sent by then is lost."""
        flush = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        flush.start()
        flush.join(FLUSH_SECONDS)


class _Sparing(logging.Handler):
    """Passes on one of many warnings: a collector that is away would be told of for every batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._quiet_until = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, or be quiet."""
        now = time.monotonic()
        if now < self._quiet_until:
            return
        self._quiet_until = now + QUIET_SECONDS
        why = record.getMessage()[:300]
        log.warning("spans get lost; no call waits for them", extra=about(why=why))


def _quieten(logger: logging.Logger) -> None:
    logger.handlers = [_Sparing()]
    logger.propagate = False
