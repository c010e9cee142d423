"""The two hot calls as plain Starlette routes: no parsing but the wire's own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from hyperoracle_protocol.codec import BINARY_MEDIA_TYPE
from hyperoracle_protocol.errors import HTTP_STATUS
from hyperoracle_protocol.jobs import Proposal, Propose, Receipt, Report
from hyperoracle_server.api import wire
from hyperoracle_server.api.documents import self_contained
from hyperoracle_server.api.turns import Turns
from hyperoracle_server.errors import OracleError
from hyperoracle_server.oracle.load import Call
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.telemetry.logs import about
from hyperoracle_server.telemetry.metrics import Metrics
from hyperoracle_server.telemetry.observer import Observer

log = logging.getLogger(__name__)

HotCall = Callable[[Oracle, str, str, bytes], wire.WireAnswer]


def add_hot_routes(app: FastAPI) -> None:
    """Add propose and report, first in the order of matching, and to the OpenAPI document."""
    calls: tuple[tuple[Call, HotCall, Any, Any, str], ...] = (
        ("propose", wire.propose, Propose, Proposal, "Ask which hyperparameters to use now"),
        ("report", wire.report, Report, Receipt, "Tell what an environment phase brought"),
    )
    for name, call, request_model, response_model, summary in calls:
        endpoint = _endpoint(name, call)
        path = f"/v1/jobs/{{job}}/{name}"
        body = {
            "content": {
                "application/json": {"schema": self_contained(request_model)},
                BINARY_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
            },
            "required": True,
        }
        job = {"name": "job", "in": "path", "required": True, "schema": {"type": "string"}}
        app.add_api_route(path, endpoint, methods=["POST"], summary=summary, name=name,
                          response_model=response_model, tags=["jobs"],
                          openapi_extra={"requestBody": body, "parameters": [job]})  # fmt: skip
        app.router.routes.insert(0, _HotRoute(path, endpoint, methods=["POST"]))


class _HotRoute(Route):
    """A route that leaves itself in the request's scope, as the framework's own kind does."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether it is meant, and what the scope gets."""
        match, found = super().matches(scope)
        if match is not Match.NONE:
            found["route"] = self
        return match, found


def _endpoint(name: Call, call: HotCall) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        body = await request.body()
        media_type = request.headers.get("content-type", "")
        state = request.app.state
        metrics: Metrics = state.metrics
        job = request.path_params["job"]
        try:
            turns: Turns = state.turns
            json_bytes = 0 if media_type == BINARY_MEDIA_TYPE else len(body)
            answer = await turns.take(
                name, job, json_bytes, partial(call, state.oracle, job, media_type, body)
            )
            if answer.durable is not None:
                await _durable(answer.durable, state.oracle.observer)
        except OracleError as error:
            if name == "report":
                metrics.count_report("rejected")
            status = HTTP_STATUS[error.code]
            metrics.observe_request(name, status, time.perf_counter() - started)
            raise
        if answer.outcome is not None:
            metrics.count_report(answer.outcome)
        seconds = time.perf_counter() - started
        metrics.observe_request(name, answer.status, seconds)
        if log.isEnabledFor(logging.DEBUG):
            study = state.oracle.study_of_job(job)
            log.debug("%s answered", name, extra=about(study=study, job=job, seconds=seconds))
        return Response(answer.body, answer.status, media_type=answer.media_type)

    return endpoint


async def _durable(future: Future[Any], observer: Observer) -> None:
    waiting_since = time.perf_counter()
    if future.done():
        future.result()
    else:
        await asyncio.wrap_future(future)
    observer.stage("commit", time.perf_counter() - waiting_since)
