"""The application: wiring, lifespan, error handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware import Middleware

from hyperoracle_server.ledger.store import Ledger
from hyperoracle_server.metrics import Metrics
from hyperoracle_server.oracle import Oracle
from hyperoracle_server.routes import health, jobs, studies
from hyperoracle_server.routes.gate import Gate
from hyperoracle_server.routes.hot import add_hot_routes
from hyperoracle_server.routes.problems import add_error_handlers
from hyperoracle_server.settings import ServerSettings
from hyperoracle_server.upkeep import Upkeep


def create_app(settings: ServerSettings) -> FastAPI:
    """The application on the store that the settings name.

    The store is opened here, so that a store that cannot be used is told before anything
    listens; it is closed at the end of the application's lifespan.

    Raises:
        StoreRefused: the store cannot be used.
    """
    ledger = Ledger(settings.store)
    oracle = Oracle(ledger, lease_seconds=settings.lease_seconds)
    upkeep = Upkeep(oracle)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        upkeep.close()
        ledger.close()

    app = FastAPI(
        title="HyperOracle",
        version=version("hyperoracle-server"),
        description="Which hyperparameters should this policy update use?",
        lifespan=lifespan,
        middleware=[Middleware(Gate, body_limit_bytes=settings.body_limit_bytes)],
    )
    app.state.oracle = oracle
    app.state.metrics = Metrics()
    add_error_handlers(app)
    for module in (studies, jobs, health):
        app.include_router(module.router)
    add_hot_routes(app)
    return app
