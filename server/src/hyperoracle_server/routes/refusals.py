"""What is refused is counted and logged, wherever that happens."""

from __future__ import annotations

import logging

from starlette.types import Scope

from hyperoracle_protocol.errors import HTTP_STATUS
from hyperoracle_server.errors import OracleError
from hyperoracle_server.logs import about
from hyperoracle_server.metrics import Metrics

log = logging.getLogger(__name__)


def note(scope: Scope, error: OracleError, metrics: Metrics) -> None:
    """Count a refusal, and log what was refused and why.

    What was expected and what came are for the caller alone: they may repeat the request's body.
    """
    metrics.count_rejection(error.code)
    status = HTTP_STATUS[error.code]
    level = logging.WARNING if status >= 500 else logging.INFO
    if log.isEnabledFor(level):
        call = f"{scope['method']} {scope['path']}"
        log.log(level, "refused", extra=about(call=call, status=status, code=error.code.value))
