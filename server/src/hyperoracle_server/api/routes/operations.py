"""What operators ask for: liveness, readiness and metrics; snapshots of studies; tokens.

Snapshots are for administrators of the study's name, tokens for those of all studies
(`access.rules`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from hyperoracle_protocol import tokens as messages
from hyperoracle_protocol.inspection import Health
from hyperoracle_protocol.studies import Study
from hyperoracle_server.api.access.guard import AUDITED
from hyperoracle_server.api.access.tokens import StoredToken
from hyperoracle_server.api.deployment import Deployment, TheDeployment, TheOracle
from hyperoracle_server.api.routes.studies import StudyName
from hyperoracle_server.errors import SnapshotRefused
from hyperoracle_server.oracle.admission import Usage
from hyperoracle_server.oracle.services import as_datetime
from hyperoracle_server.snapshots.restoring import restore_study
from hyperoracle_server.snapshots.stores import verify
from hyperoracle_server.snapshots.taking import snapshot_study
from hyperoracle_server.snapshots.under_way import folder_beside
from hyperoracle_server.views.studies import describe_study, totals_of

router = APIRouter()
_snapshots = APIRouter(prefix="/v1/studies", tags=["snapshots"])
_tokens = APIRouter(prefix="/v1/tokens", tags=["tokens"])
_health = APIRouter(tags=["health"])

MEDIA_TYPE = "application/vnd.hyperoracle.snapshot"
_FILE = {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}


@_snapshots.post("/{study}/snapshots", response_class=FileResponse, responses={200: _FILE})
def take_snapshot(study: StudyName, oracle: TheOracle) -> FileResponse:
    """The study as one file: all that was acknowledged before this call, at one moment."""
    with ExitStack() as stack:
        folder = stack.enter_context(folder_beside(oracle.ledger.path))
        path = folder / f"{study}.snapshot"
        snapshot_study(oracle, study, path)
        _, wrong = verify(path)
        if wrong:  # better told now than when it is needed
            raise SnapshotRefused(
                f"a snapshot of the study {study!r} could not be restored ({wrong[0]}): see "
                "`hyperoracle db verify` on the store"
            )
        clean_up = BackgroundTask(stack.pop_all().close)  # once the file is sent
    return FileResponse(path, media_type=MEDIA_TYPE, filename=path.name, background=clean_up)


@_snapshots.post(
    "/{study}/restore",
    status_code=201,
    openapi_extra={"requestBody": {**_FILE, "required": True}},
)
async def restore_snapshot(study: StudyName, request: Request, oracle: TheOracle) -> Study:
    """Make the study, under this name, from the snapshot that is the request's body."""
    with folder_beside(oracle.ledger.path) as folder:
        path = folder / "body"
        received = 0
        with path.open("wb") as file:
            async for chunk in request.stream():
                received += len(chunk)
                await run_in_threadpool(file.write, chunk)
        promised = request.headers.get("content-length")  # digits: the gate has seen to that
        if promised is not None and received != int(promised):
            raise SnapshotRefused("the snapshot did not arrive whole: send it again")
        try:
            restored = await run_in_threadpool(restore_study, oracle, path, study)
        except SnapshotRefused as refused:  # where it lay meanwhile says nothing to the caller
            raise SnapshotRefused(refused.detail.replace(str(path), "what was sent")) from None
    request.scope[AUDITED].update(restored=study, jobs=len(restored.jobs))
    return await run_in_threadpool(describe_study, oracle, restored)


@_tokens.post("", status_code=201)
def create_token(
    wanted: messages.CreateToken, request: Request, deployment: TheDeployment
) -> messages.CreatedToken:
    """Make a token. The answer holds it; it is told this once and kept nowhere."""
    deployment.doorkeeper.check_first(wanted)
    was_open = not deployment.doorkeeper.asks_for_tokens
    token, secret = deployment.tokens.create(wanted)
    request.scope[AUDITED].update(created=token.name, token_id=token.id, scope=token.scope,
                                  studies=list(token.studies))  # fmt: skip
    described = _described([token], deployment)[0]
    return messages.CreatedToken(**described, token=secret, closes_the_oracle=was_open)


@_tokens.get("")
def list_tokens(deployment: TheDeployment) -> messages.TokenList:
    """All tokens, the newest first, without the secrets."""
    described = _described(deployment.tokens.all(), deployment)
    return messages.TokenList(tokens=[messages.Token(**fields) for fields in described])


@_tokens.delete("/{token}")
def revoke_token(token: str, request: Request, deployment: TheDeployment) -> messages.Token:
    """End a token, by its name or its id. It is refused from now on and stays in the list."""
    revoked = deployment.tokens.revoke(token)
    request.scope[AUDITED].update(revoked=revoked.name, token_id=revoked.id)
    return messages.Token(**_described([revoked], deployment)[0])


def _described(tokens: Sequence[StoredToken], deployment: Deployment) -> list[dict[str, Any]]:
    quotas = deployment.oracle.quotas
    now, used = deployment.tokens.now(), quotas.usage()
    quota = messages.TokenUsage(**quotas.most._asdict())
    return [
        {
            "name": token.name,
            "token_id": token.id,
            "scope": token.scope,
            "studies": list(token.studies),
            "created_at": as_datetime(token.created_at),
            "expires_at": None if token.expires_at is None else as_datetime(token.expires_at),
            "revoked_at": None if token.revoked_at is None else as_datetime(token.revoked_at),
            "status": token.status(now),
            "used": messages.TokenUsage(**used.get(token.id, Usage())._asdict()),
            "quota": quota if token.scope == "train" else None,
            "calls_per_second": deployment.calls_per_second,
        }
        for token in tokens
    ]


@_health.get("/livez")
async def livez() -> Health:
    """The process answers; nothing else is touched."""
    return Health(status="ok")


@_health.get("/readyz", responses={503: {"model": Health}})
def readyz(deployment: TheDeployment, response: Response) -> Health:
    """Studies are loaded, the store can be written, and there is room for it to grow."""
    health = deployment.readiness.check()
    if health.status != "ok":
        response.status_code = 503
    return health


@_health.get("/metrics", response_class=Response)
def metrics(deployment: TheDeployment) -> Response:
    """Prometheus metrics."""
    text = deployment.metrics.render(*totals_of(deployment.oracle))
    return Response(text, media_type=deployment.metrics.media_type)


for part in (_snapshots, _tokens, _health):
    router.include_router(part)
