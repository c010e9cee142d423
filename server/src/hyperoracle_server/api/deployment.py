"""What an application is made of, and how a route gets at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from hyperoracle_server.api.access.callers import Caller, Doorkeeper
from hyperoracle_server.api.access.guard import CALLER
from hyperoracle_server.api.access.tokens import TokenStore
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.telemetry.metrics import Metrics
from hyperoracle_server.views.readiness import Readiness


@dataclass(frozen=True)
class Deployment:
    """One oracle, and what stands around it in one application.

    Attributes:
        oracle: the studies and jobs of its store.
        metrics: what is counted of them and of the calls.
        readiness: whether calls can be taken now.
        tokens: those of the store.
        doorkeeper: tells callers by them.
        calls_per_second: what one token may make in the long run; 0 is no limit.
        close: lets go of all of it, the store too.
    """

    oracle: Oracle
    metrics: Metrics
    readiness: Readiness
    tokens: TokenStore
    doorkeeper: Doorkeeper
    calls_per_second: float
    close: Callable[[], None]


def deployment_of(app: FastAPI) -> Deployment:
    """What an application that `create_app` made consists of."""
    deployment: Deployment = app.state.deployment
    return deployment


def _the_deployment(request: Request) -> Deployment:
    return deployment_of(request.app)


def _the_oracle(request: Request) -> Oracle:
    return deployment_of(request.app).oracle


def the_caller(request: Request) -> Caller:
    """Who makes a request; the guard has put it there."""
    caller: Caller = request.scope[CALLER]
    return caller


TheDeployment = Annotated[Deployment, Depends(_the_deployment)]
"""In a route's signature: what the application is made of."""

TheOracle = Annotated[Oracle, Depends(_the_oracle)]
"""In a route's signature: the application's oracle."""

TheCaller = Annotated[Caller, Depends(the_caller)]
"""In a route's signature: who makes the request."""
