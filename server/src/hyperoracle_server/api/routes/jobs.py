"""Jobs beside the two hot calls: read, heartbeat, finish; explanations of proposals."""

from __future__ import annotations

from fastapi import APIRouter

from hyperoracle_protocol.inspection import Explanation
from hyperoracle_protocol.jobs import FinishedJob, FinishJob, Heartbeat, Job
from hyperoracle_server.api import job_calls
from hyperoracle_server.api.routes.dependencies import TheOracle
from hyperoracle_server.views import inspection

router = APIRouter(prefix="/v1", tags=["jobs"])


@router.get("/jobs/{job}")
def get_job(job: str, oracle: TheOracle) -> Job:
    """A job with its counts."""
    with oracle.job(job) as (study, state):
        return inspection.describe_job(oracle, study, state)


@router.post("/jobs/{job}/heartbeat", status_code=204)
def heartbeat(job: str, oracle: TheOracle, beat: Heartbeat | None = None) -> None:
    """Keep a job's lease."""
    job_calls.heartbeat(oracle, job, beat or Heartbeat())


@router.post("/jobs/{job}/finish")
def finish(job: str, oracle: TheOracle, end: FinishJob | None = None) -> FinishedJob:
    """End a job; a finished one stays finished."""
    end = end or FinishJob()
    job_calls.finish(oracle, job, end)
    with oracle.job(job) as (study, state):
        described = inspection.describe_job(oracle, study, state)
    return FinishedJob(**described.model_dump(), unknown_fields=end.unknown_fields)


@router.get("/proposals/{proposal}/explanation")
def explanation(proposal: str, oracle: TheOracle) -> Explanation:
    """Why a proposal is what it is."""
    return inspection.explain(oracle, proposal)
