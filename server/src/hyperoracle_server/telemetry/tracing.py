"""Traces: one span for each request, spans for its stages and for work beside the calls.

An `Observer` that sends what it is told to an OpenTelemetry collector. Needs the extra `otel`,
which is imported only where traces are asked for: by `--otlp-endpoint`, or, as the field does, by
OpenTelemetry's own environment variables.

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
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hyperoracle_server.telemetry import logs
from hyperoracle_server.telemetry.logs import about
from hyperoracle_server.telemetry.observer import Observer, Stage, Work

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
"""How long a shutdown waits until the last spans are sent."""

QUIET_SECONDS = 300.0
"""After a warning that spans get lost no other is given for so long."""

_stages: ContextVar[list[tuple[Stage, int, int]] | None] = ContextVar("stages", default=None)
"""The stages of the request that is being answered here: name, begin and end in ns since 1970;
None where no recorded span wants them."""

_PATH = "/v1/traces"
_DEFAULT = "http://localhost:4318"
_OFF = "or set OTEL_SDK_DISABLED=true"


def traces_endpoint(given: str | None, environment: Mapping[str, str]) -> str | None:
    """The URL that spans are posted to, None where nobody asked for traces.

    Args:
        given: a collector's address, as of `--otlp-endpoint`; beats the environment's.
        environment: `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` (used as it is),
            `OTEL_EXPORTER_OTLP_ENDPOINT` (an address), `OTEL_TRACES_EXPORTER` (`otlp` turns them
            on at the usual address, `none` off), `OTEL_SDK_DISABLED`; an empty one says nothing.

    Raises:
        ValueError: something else is asked for than OTLP over HTTP, or this is no URL.

    Source: OpenTelemetry Protocol Exporter, "Endpoint URLs for OTLP/HTTP".
    """

    def said(name: str) -> str:
        return environment.get(f"OTEL_{name}", "").strip()

    if said("SDK_DISABLED").lower() == "true":
        return None
    exporter = said("TRACES_EXPORTER").lower()
    name, url = "otlp_endpoint", None if given is None else _of_traces(given)
    if url is None:
        if exporter == "none":
            return None
        if exporter not in ("", "otlp"):
            raise ValueError(f"OTEL_TRACES_EXPORTER: expected otlp or none, got {exporter}")
        name, url = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", said("EXPORTER_OTLP_TRACES_ENDPOINT")
    if not url:
        name = "OTEL_EXPORTER_OTLP_ENDPOINT"
        address = said("EXPORTER_OTLP_ENDPOINT") or (_DEFAULT if exporter == "otlp" else "")
        if not address:
            return None
        url = _of_traces(address)
    protocol = said("EXPORTER_OTLP_TRACES_PROTOCOL") or said("EXPORTER_OTLP_PROTOCOL")
    if protocol not in ("", "http/protobuf"):
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf, got {protocol}")
    return _checked(name, url)


def _of_traces(address: str) -> str:
    """Where a collector at this address takes spans."""
    return address.rstrip("/").removesuffix(_PATH) + _PATH


def _checked(name: str, url: str) -> str:
    """The URL, if spans can be posted to it; what cannot be used is not repeated."""
    wrong = ValueError(f"{name}: expected a URL such as {_DEFAULT}")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise wrong from None
    if not usable:
        raise wrong
    if "@" in parts.netloc:
        raise ValueError(f"{name}: give credentials in OTEL_EXPORTER_OTLP_HEADERS, not in the URL")
    return url


def open_tracing(endpoint: str) -> Tracing:
    """Send traces there from now on.

    Raises:
        ValueError: OpenTelemetry is not installed, or a variable of its own cannot be used.
    """
    try:
        return Tracing(endpoint)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"traces are asked for, and {error.name} is not installed: "
            f"pip install 'hyperoracle-server[otel]', {_OFF}"
        ) from None


class Tracing(Observer):
    """Makes spans and sends them. Thread-safe.

    Sampler, batches, headers, timeout, resource and propagators are set by OpenTelemetry's own
    environment variables.

    Args:
        endpoint: the URL that spans are posted to (`traces_endpoint`).

    Raises:
        ModuleNotFoundError: OpenTelemetry is not installed.
        ValueError: one of these variables cannot be used.
    """

    def __init__(self, endpoint: str) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.propagate import get_global_textmap
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._trace = trace
        self._root = Context()  # no parent, whatever this thread is doing
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
        parent = self._propagator.extract(carrier, self._root) if carrier else self._root
        span = self._tracer.start_span(name, parent, self._trace.SpanKind.SERVER, attributes)
        logs.trace_id.set(self._trace.format_trace_id(span.get_span_context().trace_id))
        _stages.set([] if span.is_recording() else None)
        return span

    def end(self, span: Span, ended: int) -> None:
        """End a request's span, and make those of the stages noted in this context.

        Args:
            span: the request's.
            ended: when it ended, in ns since 1970.
        """
        within = self._trace.set_span_in_context(span, self._root)
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
            work, self._root, attributes={"hyperoracle.study": study},
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
