"""Whether traces are asked for, and where they go. Needs nothing of OpenTelemetry.

Turned on as the field does: by `--otlp-endpoint`, or by OpenTelemetry's own environment variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from hyperoracle_server.telemetry.tracing import Tracing

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
        from hyperoracle_server.telemetry.tracing import Tracing
    except ModuleNotFoundError as error:
        raise ValueError(
            f"traces are asked for, and {error.name} is not installed: "
            f"pip install 'hyperoracle-server[otel]', {_OFF}"
        ) from None
    return Tracing(endpoint)
