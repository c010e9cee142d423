"""The two hot calls as plain Starlette routes: no parsing but the wire's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hyperoracle_protocol.codec import BINARY_MEDIA_TYPE
from hyperoracle_protocol.jobs import Proposal, Propose, Receipt, Report
from hyperoracle_server import wire
from hyperoracle_server.metrics import Metrics
from hyperoracle_server.oracle import Oracle

HotCall = Callable[[Oracle, str, str, bytes], wire.WireAnswer]


def add_hot_routes(app: FastAPI) -> None:
    """Add propose and report, first in the order of matching, and to the OpenAPI document."""
    calls = (
        ("propose", wire.propose, Propose, Proposal, "Ask which hyperparameters to use now"),
        ("report", wire.report, Report, Receipt, "Tell what an environment phase brought"),
    )
    for name, call, request_model, response_model, summary in calls:
        endpoint = _endpoint(name, call)
        path = f"/v1/jobs/{{job}}/{name}"
        body = {
            "content": {
                "application/json": {"schema": request_model.model_json_schema()},
                BINARY_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
            },
            "required": True,
        }
        job = {"name": "job", "in": "path", "required": True, "schema": {"type": "string"}}
        app.add_api_route(path, endpoint, methods=["POST"], summary=summary, name=name,
                          response_model=response_model, tags=["jobs"],
                          openapi_extra={"requestBody": body, "parameters": [job]})  # fmt: skip
        app.router.routes.insert(0, Route(path, endpoint, methods=["POST"]))


def _endpoint(name: str, call: HotCall) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        body = await request.body()
        media_type = request.headers.get("content-type", "")
        state = request.app.state
        answer = call(state.oracle, request.path_params["job"], media_type, body)
        if answer.durable is not None and not answer.durable.done():
            await asyncio.wrap_future(answer.durable)
        elif answer.durable is not None:
            answer.durable.result()
        metrics: Metrics = state.metrics
        metrics.observe_request(name, answer.status, time.perf_counter() - started)
        return Response(answer.body, answer.status, media_type=answer.media_type)

    return endpoint
