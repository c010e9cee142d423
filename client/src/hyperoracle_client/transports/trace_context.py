"""The trace that the training loop is in, for the oracle to continue.

Only where the job's own process traces with OpenTelemetry, which this package does not need and
does not load.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

_FIELDS = ("traceparent", "tracestate")
_NOTHING: Mapping[str, str] = {}


def trace_headers() -> Mapping[str, str]:
    """W3C trace context of the current span of this thread; empty where there is none."""
    propagation = sys.modules.get("opentelemetry.propagate")
    if propagation is None:
        return _NOTHING
    carrier: dict[str, str] = {}
    try:
        propagation.inject(carrier)
    except Exception:  # a propagator of the job's own is no reason to go without advice
        return _NOTHING
    return {name: carrier[name] for name in _FIELDS if name in carrier}
