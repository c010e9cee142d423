"""Liveness, readiness, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from hyperoracle_protocol.inspection import Health
from hyperoracle_server.api.routes.dependencies import TheOracle
from hyperoracle_server.telemetry.metrics import Metrics
from hyperoracle_server.telemetry.readiness import Readiness

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> Health:
    """The process answers; nothing else is touched."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Health}})
def readyz(request: Request, response: Response) -> Health:
    """Studies are loaded, the store can be written, and there is room for it to grow."""
    readiness: Readiness = request.app.state.readiness
    health = readiness.check()
    if health.status != "ok":
        response.status_code = 503
    return health


@router.get("/metrics", response_class=Response)
def metrics(request: Request, oracle: TheOracle) -> Response:
    """Prometheus metrics."""
    collected: Metrics = request.app.state.metrics
    return Response(collected.render(oracle), media_type=collected.media_type)
