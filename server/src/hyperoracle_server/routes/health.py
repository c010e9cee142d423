"""Liveness, readiness, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from hyperoracle_protocol.inspection import Health
from hyperoracle_server.errors import StoreUnavailable
from hyperoracle_server.metrics import Metrics
from hyperoracle_server.routes.dependencies import TheOracle

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> Health:
    """The process answers; nothing else is touched."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Health}})
def readyz(oracle: TheOracle, response: Response) -> Health:
    """Studies are loaded and the store can be written."""
    try:
        oracle.ledger.writer.flush()
    except StoreUnavailable as error:
        response.status_code = 503
        return Health(status="failing", checks={"store": error.detail})
    return Health(status="ok", checks={"store": "ok", "studies": str(len(oracle.studies()))})


@router.get("/metrics", response_class=Response)
def metrics(request: Request, oracle: TheOracle) -> Response:
    """Prometheus metrics."""
    collected: Metrics = request.app.state.metrics
    return Response(collected.render(oracle), media_type=collected.media_type)
