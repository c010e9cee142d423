"""The application: wiring, lifespan, error handlers."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from starlette.middleware import Middleware

from hyperoracle_server.api.access.audit import AuditLog
from hyperoracle_server.api.access.callers import Doorkeeper
from hyperoracle_server.api.access.guard import Guard, RateLimit
from hyperoracle_server.api.access.tokens import TokenStore
from hyperoracle_server.api.deployment import Deployment
from hyperoracle_server.api.gate import Gate
from hyperoracle_server.api.hot import add_hot_routes
from hyperoracle_server.api.openapi import PROBLEMS, add_docs
from hyperoracle_server.api.problems import add_error_handlers
from hyperoracle_server.api.routes import operations, studies
from hyperoracle_server.api.turns import Places, Turns
from hyperoracle_server.ledger.store import HEAD, Ledger, damaged
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.oracle.upkeep import Upkeep
from hyperoracle_server.settings import ServerSettings
from hyperoracle_server.snapshots.under_way import clear_leftovers
from hyperoracle_server.telemetry.logs import about
from hyperoracle_server.telemetry.metrics import Metrics
from hyperoracle_server.telemetry.observer import Observer, all_of
from hyperoracle_server.views.readiness import Readiness

if TYPE_CHECKING:
    from hyperoracle_server.telemetry.tracing import Tracing

log = logging.getLogger(__name__)


def create_app(
    settings: ServerSettings, *, is_embedded: bool = False, tracing: Tracing | None = None
) -> FastAPI:
    """The application on the store that the settings name.

    The store is opened here, so that a store that cannot be used is told before anything
    listens; it is closed at the end of the application's lifespan, or by `Deployment.close`.

    Args:
        settings: the server's.
        is_embedded: whether it is called by the process that holds the store's file, which is
            asked for no token, and not through a socket.
        tracing: makes a trace of each request; it is closed with the store.

    Raises:
        OSError: the audit log cannot be written, or the administrator's token not be read.
        StoreRefused: the store cannot be used.
    """
    admin_token = settings.read_admin_token()
    audit = None if is_embedded else AuditLog(settings.audit_log)
    metrics = Metrics()
    observer = metrics if tracing is None else all_of(metrics, tracing)
    began = time.perf_counter()
    ledger = Ledger(settings.store, observer, check=not settings.trust_store)
    clear_leftovers(ledger.path)
    oracle, tokens = _loaded(ledger, settings, observer)
    opened = about(
        store=str(ledger.path),
        megabytes=round(ledger.size_bytes() / 1e6, 1),
        schema=HEAD,
        studies=len(oracle.studies()),
        seconds=round(time.perf_counter() - began, 2),
        release=version("hyperoracle-server"),
    )
    doorkeeper = Doorkeeper(tokens, admin_token=admin_token, is_required=settings.require_token)
    readiness = Readiness(oracle, settings.disk_headroom_bytes)
    upkeep = Upkeep(oracle)

    def close() -> None:
        upkeep.close()
        ledger.close()
        if audit is not None:
            audit.close()
        if tracing is not None:
            tracing.close()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        log.info("store opened", extra=opened)
        yield
        close()

    app = FastAPI(
        title="HyperOracle",
        version=version("hyperoracle-server"),
        description="Which hyperparameters should this policy update use?",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # to wherever the header Host says
        responses=PROBLEMS,
        # The framework's own telemetry would send queries, and exceptions with their text, also to
        # what the process of an embedded oracle has set up. `tracing` says what a trace may hold.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        # For the OpenAPI document only: the guard is who asks.
        dependencies=[Depends(HTTPBearer(auto_error=False))],
        middleware=[
            *([] if tracing is None else [_traced(tracing, oracle)]),
            Middleware(
                Gate,
                body_limit_bytes=settings.body_limit_bytes,
                snapshot_limit_bytes=settings.snapshot_limit_bytes,
                metrics=metrics,
            ),
            Middleware(
                Guard,
                oracle=oracle,
                doorkeeper=None if is_embedded else doorkeeper,
                rate_limit=RateLimit(settings.rate_limit, oracle.clock.monotonic),
                audit=audit,
                takes_any_host=settings.insecure,
            ),
            Middleware(Places, oracle=oracle),
        ],
    )
    app.state.deployment = deployment = Deployment(
        oracle, metrics, readiness, tokens, doorkeeper, settings.rate_limit, close
    )
    add_error_handlers(app)
    for module in (studies, operations):
        app.include_router(module.router)
    add_docs(app)
    add_hot_routes(app, deployment, Turns(oracle))
    return app


def _traced(tracing: Tracing, oracle: Oracle) -> Middleware:
    from hyperoracle_server.api.traced import Traced  # which needs the extra `otel`

    return Middleware(Traced, tracing=tracing, study_of_job=oracle.study_of_job)


def _loaded(
    ledger: Ledger, settings: ServerSettings, observer: Observer
) -> tuple[Oracle, TokenStore]:
    """What the ledger remembers, in mind.

    Raises:
        StoreRefused: it remembers what cannot be; nothing was changed.
    """
    try:
        oracle = Oracle(
            ledger,
            lease_seconds=settings.lease_seconds,
            limits=settings.cost_limits,
            index_recall=settings.index_recall,
            quota=settings.token_quota,
            observer=observer,
        )
        return oracle, TokenStore(ledger)
    except Exception as error:  # what a damaged row leads to is not foreseeable
        log.debug("the store cannot be loaded", exc_info=True)
        ledger.close()
        what = (str(error).splitlines() or ["no reason given"])[0]
        raise damaged(ledger.path, f"it cannot be loaded: {type(error).__name__}: {what}") from None
