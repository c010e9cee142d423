"""Snapshots of a study: take one, restore one. For administrators of the study's name."""

from __future__ import annotations

from contextlib import ExitStack

from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from hyperoracle_protocol.studies import Study
from hyperoracle_server.api.guard import AUDITED
from hyperoracle_server.api.routes.dependencies import TheOracle
from hyperoracle_server.api.routes.studies import StudyName
from hyperoracle_server.errors import SnapshotRefused
from hyperoracle_server.snapshots.restoring import restore_study
from hyperoracle_server.snapshots.stores import verify
from hyperoracle_server.snapshots.taking import snapshot_study
from hyperoracle_server.snapshots.under_way import folder_beside
from hyperoracle_server.views import inspection

router = APIRouter(prefix="/v1/studies", tags=["snapshots"])

MEDIA_TYPE = "application/vnd.hyperoracle.snapshot"
_FILE = {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}


@router.post("/{study}/snapshots", response_class=FileResponse, responses={200: _FILE})
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


@router.post(
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
    return await run_in_threadpool(inspection.describe_study, oracle, restored)
