"""Whether traces are asked for, and where they go."""

from __future__ import annotations

import pytest

from hyperoracle_server.telemetry.tracing import traces_endpoint

HERE = "http://localhost:4318/v1/traces"


@pytest.mark.parametrize(
    ("given", "environment", "endpoint"),
    [
        (None, {}, None),
        (None, {"EXPORTER_OTLP_ENDPOINT": ""}, None),
        ("http://c:4318", {}, "http://c:4318/v1/traces"),
        ("http://c:4318/", {}, "http://c:4318/v1/traces"),
        ("http://c:4318/v1/traces", {}, "http://c:4318/v1/traces"),
        ("https://c/prefix", {}, "https://c/prefix/v1/traces"),
        (None, {"EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        (None, {"EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/as/it/is"}, "http://c/as/it/is"),
        (
            None,
            {"EXPORTER_OTLP_ENDPOINT": "http://a", "EXPORTER_OTLP_TRACES_ENDPOINT": "http://b"},
            "http://b",
        ),
        ("http://a", {"EXPORTER_OTLP_TRACES_ENDPOINT": "http://b"}, "http://a/v1/traces"),
        (None, {"TRACES_EXPORTER": "otlp"}, HERE),
        (None, {"TRACES_EXPORTER": "none", "EXPORTER_OTLP_ENDPOINT": "http://a"}, None),
        ("http://a", {"TRACES_EXPORTER": "none"}, "http://a/v1/traces"),
        ("http://a", {"SDK_DISABLED": "true"}, None),
        (None, {"SDK_DISABLED": "false", "TRACES_EXPORTER": "otlp"}, HERE),
        ("http://a", {"EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http://a/v1/traces"),
        (None, {"EXPORTER_OTLP_PROTOCOL": "grpc"}, None),
    ],
)
def test_traces_go_where_the_option_or_opentelemetrys_own_variables_say(
    given, environment, endpoint
):
    variables = {f"OTEL_{name}": value for name, value in environment.items()}
    assert traces_endpoint(given, variables) == endpoint


@pytest.mark.parametrize(
    ("given", "environment", "says"),
    [
        ("localhost:4318", {}, "otlp_endpoint: expected a URL"),
        ("ftp://a", {}, "otlp_endpoint: expected a URL"),
        ("http://a:port", {}, "otlp_endpoint: expected a URL"),
        ("http://[a", {}, "otlp_endpoint: expected a URL"),
        (None, {"EXPORTER_OTLP_ENDPOINT": "a"}, "OTEL_EXPORTER_OTLP_ENDPOINT: expected a URL"),
        (None, {"EXPORTER_OTLP_TRACES_ENDPOINT": "a"}, "OTLP_TRACES_ENDPOINT: expected a URL"),
        ("http://a", {"EXPORTER_OTLP_PROTOCOL": "grpc"}, "expected http/protobuf, got grpc"),
        (None, {"TRACES_EXPORTER": "zipkin"}, "expected otlp or none, got zipkin"),
    ],
)
def test_what_cannot_be_done_is_refused(given, environment, says):
    variables = {f"OTEL_{name}": value for name, value in environment.items()}
    with pytest.raises(ValueError, match=says):
        traces_endpoint(given, variables)


def test_a_url_with_a_password_is_refused_without_repeating_it():
    with pytest.raises(ValueError, match="OTEL_EXPORTER_OTLP_HEADERS") as caught:
        traces_endpoint("http://me:secret@collector:4318", {})
    assert "secret" not in str(caught.value)
