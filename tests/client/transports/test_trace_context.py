"""The oracle's spans stand below the span that the training loop is in."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from client.scripted_oracle import ScriptedOracle
from opentelemetry import propagate, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from hyperoracle_client.transports import Request
from hyperoracle_client.transports.http import HttpChannel, trace_headers

SPAN = NonRecordingSpan(
    SpanContext(
        trace_id=int("0af7651916cd43dd8448eb211c80319c", 16),
        span_id=int("b7ad6b7169203331", 16),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState([("vendor", "value")]),
    )
)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_call_within_a_span_names_it(server: ScriptedOracle) -> None:
    channel = HttpChannel(server.url)
    with trace.use_span(SPAN):
        channel.begin(Request("GET", "/livez", {"x": "y"}), time.monotonic() + 5)
    head = channel._sent.decode().split("\r\n")
    channel.complete(time.monotonic() + 5)
    channel.close()
    assert f"traceparent: {PARENT}" in head
    assert "tracestate: vendor=value" in head
    assert "x: y" in head


def test_a_call_outside_of_spans_names_none() -> None:
    assert trace_headers() == {}


def test_a_propagator_that_fails_costs_the_job_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(propagate, "inject", fails)
    with trace.use_span(SPAN):
        assert trace_headers() == {}


@pytest.mark.slow
def test_the_client_does_not_load_opentelemetry() -> None:
    code = (
        "import sys, hyperoracle_client\n"
        "from hyperoracle_client.transports.http import trace_headers\n"
        "assert trace_headers() == {}\n"
        "sys.exit('opentelemetry' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
