"""Studies and their jobs: make, list, read, delete; what people read of them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response

from hyperoracle_protocol.base import MAX_COUNT, Message
from hyperoracle_protocol.gain import StudyGain
from hyperoracle_protocol.inspection import (
    Diagnosis,
    Explanation,
    MemoryMap,
    MemoryPage,
    Schedule,
)
from hyperoracle_protocol.jobs import (
    FinishedJob,
    FinishJob,
    Heartbeat,
    Job,
    JobList,
    StartedJob,
    StartJob,
)
from hyperoracle_protocol.studies import Study, StudyDefinition, StudyList
from hyperoracle_server.api.deployment import TheCaller, TheOracle
from hyperoracle_server.oracle import calls
from hyperoracle_server.views import diagnosis, memory
from hyperoracle_server.views import studies as views
from hyperoracle_server.views.explanation import explain
from hyperoracle_server.views.gain import study_gain

router = APIRouter()
_studies = APIRouter(prefix="/v1/studies", tags=["studies"])
_jobs = APIRouter(prefix="/v1", tags=["jobs"])
StudyName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


@_studies.put("/{study}", responses={201: {"model": Study}})
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
    return views.describe_study(oracle, runtime)


@_studies.get("", response_model=StudyList)
def list_studies(oracle: TheOracle, caller: TheCaller) -> Response:
    """The studies that the caller may read, by name."""
    found = views.list_studies(oracle, lambda study: caller.may("read", study))
    return listing(found, "studies")


@_studies.get("/{study}")
def get_study(study: StudyName, oracle: TheOracle) -> Study:
    """A study with its counts."""
    return views.describe_study(oracle, oracle.found(study))


@_studies.delete("/{study}", status_code=204)
def delete_study(study: StudyName, oracle: TheOracle) -> None:
    """Forget a study with its jobs and memory."""
    oracle.delete_study(study)


@_studies.post("/{study}/jobs", status_code=201)
def start_job(
    study: StudyName, start: StartJob, oracle: TheOracle, caller: TheCaller
) -> StartedJob:
    """Start a job, or find the one with the same `job_key`."""
    return oracle.start_job(study, start, caller.owner)


@_studies.get("/{study}/jobs", response_model=JobList)
def list_jobs(study: StudyName, oracle: TheOracle) -> Response:
    """A study's jobs, newest first."""
    return listing(views.list_jobs(oracle, study), "jobs")


@_studies.get("/{study}/gain")
def get_gain(study: StudyName, oracle: TheOracle) -> StudyGain:
    """Gain over default and regret of exploration over whole jobs, with uncertainty."""
    return study_gain(oracle, study)


@_studies.get("/{study}/memory", response_model=MemoryPage)
def get_memory(
    study: StudyName,
    oracle: TheOracle,
    after: Annotated[int, Query(ge=0, le=MAX_COUNT)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Memory entries in order of their ids."""
    return listing(memory.memory_page(oracle, study, after, limit), "entries")


@_studies.get("/{study}/memory/map", response_model=MemoryMap)
def get_memory_map(
    study: StudyName, oracle: TheOracle, limit: Annotated[int, Query(ge=1, le=10_000)] = 2000
) -> Response:
    """The newest keys in the plane of their two main axes."""
    return listing(memory.memory_map(oracle, study, limit), "points")


@_studies.get("/{study}/diagnosis")
def get_diagnosis(
    study: StudyName, oracle: TheOracle, neighbours: Annotated[int, Query(ge=1, le=100)] = 5
) -> Diagnosis:
    """Whether the keys of a study's records can be shared between its jobs."""
    return diagnosis.diagnose(oracle, study, neighbours)


@_studies.get(
    "/{study}/schedule", response_model=Schedule, responses={200: {"content": {"text/csv": {}}}}
)
def get_schedule(
    study: StudyName,
    oracle: TheOracle,
    form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
    job: Annotated[str | None, Query(description="this job's only")] = None,
    last: Annotated[
        int | None, Query(ge=1, le=MAX_COUNT, description="the last so many rows only")
    ] = None,
) -> Response:
    """The schedule that each job used."""
    found = views.schedule(oracle, study, job, last)
    if form == "csv":
        return Response(views.schedule_csv(found), media_type="text/csv")
    return listing(found, "rows")


# -- jobs beside the two hot calls ------------------------------------------------------------


@_jobs.get("/jobs/{job}")
def get_job(job: str, oracle: TheOracle) -> Job:
    """A job with its counts."""
    with oracle.job(job) as (study, state):
        return views.describe_job(oracle, study, state)


@_jobs.post("/jobs/{job}/heartbeat", status_code=204)
def heartbeat(job: str, oracle: TheOracle, beat: Heartbeat | None = None) -> None:
    """Keep a job's lease."""
    calls.heartbeat(oracle, job, beat or Heartbeat())


@_jobs.post("/jobs/{job}/finish")
def finish(job: str, oracle: TheOracle, end: FinishJob | None = None) -> FinishedJob:
    """End a job; a finished one stays finished."""
    end = end or FinishJob()
    calls.finish(oracle, job, end)
    with oracle.job(job) as (study, state):
        described = views.describe_job(oracle, study, state)
    return FinishedJob(**described.model_dump(), unknown_fields=end.unknown_fields)


@_jobs.get("/proposals/{proposal}/explanation")
def explanation(proposal: str, oracle: TheOracle) -> Explanation:
    """Why a proposal is what it is."""
    return explain(oracle, proposal)


router.include_router(_studies)
router.include_router(_jobs)


def listing(message: Message, field: str) -> Response:
    """A message as JSON, the rows of one of its fields one after the other.

    Made where its route works, in its thread: what a route returns as a message is turned into JSON
    on the event loop, and in one call that lets no other thread run: ten megabytes of a schedule
    are 150 ms in which nobody else is answered.

    Args:
        message: whose JSON it is.
        field: a list of messages.
    """
    rows: list[Message] = getattr(message, field)
    frame = message.model_copy(update={field: []}).model_dump_json()
    before, found, after = frame.partition(f'"{field}":[]')
    assert found, "an empty list is written like this"
    parts = [f'{before}"{field}":['.encode()]
    for row in rows:
        parts += [row.model_dump_json().encode(), b","]
    if rows:
        parts.pop()
    parts.append(f"]{after}".encode())
    return Response(b"".join(parts), media_type="application/json")
