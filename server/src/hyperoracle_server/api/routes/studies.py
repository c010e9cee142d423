"""Studies: create, list, read, delete; their memory and schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response

from hyperoracle_protocol.base import MAX_COUNT
from hyperoracle_protocol.gain import StudyGain
from hyperoracle_protocol.inspection import Diagnosis, MemoryMap, MemoryPage, Schedule
from hyperoracle_protocol.jobs import JobList, StartedJob, StartJob
from hyperoracle_protocol.studies import Study, StudyDefinition, StudyList
from hyperoracle_server.api.routes.dependencies import TheCaller, TheOracle
from hyperoracle_server.api.routes.listings import listing
from hyperoracle_server.views import diagnosis, inspection, schedules
from hyperoracle_server.views.gain import study_gain

router = APIRouter(prefix="/v1/studies", tags=["studies"])
StudyName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


@router.put("/{study}", responses={201: {"model": Study}})
def put_study(
    study: StudyName,
    definition: StudyDefinition,
    oracle: TheOracle,
    caller: TheCaller,
    response: Response,
) -> Study:
    """Create a study, or confirm it: same definition 200, new 201, a different one 409."""
    runtime, created = oracle.create_study(study, definition, caller.owner)
    response.status_code = 201 if created else 200
    return inspection.describe_study(oracle, runtime)


@router.get("", response_model=StudyList)
def list_studies(oracle: TheOracle, caller: TheCaller) -> Response:
    """The studies that the caller may read, by name."""
    found = inspection.list_studies(oracle, lambda study: caller.may("read", study))
    return listing(found, "studies")


@router.get("/{study}")
def get_study(study: StudyName, oracle: TheOracle) -> Study:
    """A study with its counts."""
    return inspection.describe_study(oracle, oracle.found(study))


@router.delete("/{study}", status_code=204)
def delete_study(study: StudyName, oracle: TheOracle) -> None:
    """Forget a study with its jobs and memory."""
    oracle.delete_study(study)


@router.post("/{study}/jobs", status_code=201)
def start_job(
    study: StudyName, start: StartJob, oracle: TheOracle, caller: TheCaller
) -> StartedJob:
    """Start a job, or find the one with the same `job_key`."""
    return oracle.start_job(study, start, caller.owner)


@router.get("/{study}/jobs", response_model=JobList)
def list_jobs(study: StudyName, oracle: TheOracle) -> Response:
    """A study's jobs, newest first."""
    return listing(inspection.list_jobs(oracle, study), "jobs")


@router.get("/{study}/gain")
def get_gain(study: StudyName, oracle: TheOracle) -> StudyGain:
    """Gain over default and regret of exploration over whole jobs, with uncertainty."""
    return study_gain(oracle, study)


@router.get("/{study}/memory", response_model=MemoryPage)
def get_memory(
    study: StudyName,
    oracle: TheOracle,
    after: Annotated[int, Query(ge=0, le=MAX_COUNT)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Memory entries in order of their ids."""
    return listing(inspection.memory_page(oracle, study, after, limit), "entries")


@router.get("/{study}/memory/map", response_model=MemoryMap)
def get_memory_map(
    study: StudyName, oracle: TheOracle, limit: Annotated[int, Query(ge=1, le=10_000)] = 2000
) -> Response:
    """The newest keys in the plane of their two main axes."""
    return listing(inspection.memory_map(oracle, study, limit), "points")


@router.get("/{study}/diagnosis")
def get_diagnosis(
    study: StudyName, oracle: TheOracle, neighbours: Annotated[int, Query(ge=1, le=100)] = 5
) -> Diagnosis:
    """Whether the keys of a study's records can be shared between its jobs."""
    return diagnosis.diagnose(oracle, study, neighbours)


@router.get(
    "/{study}/schedule", response_model=Schedule, responses={200: {"content": {"text/csv": {}}}}
)
def get_schedule(
    study: StudyName,
    oracle: TheOracle,
    form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> Response:
    """The schedule that each job used."""
    found = schedules.schedule(oracle, study)
    if form == "csv":
        return Response(schedules.schedule_csv(found), media_type="text/csv")
    return listing(found, "rows")
