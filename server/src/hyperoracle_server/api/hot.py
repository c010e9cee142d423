"""The hot calls, from the bytes that came to the bytes that go.

Both ways in, HTTP (plain Starlette routes) and in-process (`embedded`), answer by `answer_hot`: no
parsing but the one here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from hyperoracle_protocol.base import MAX_RETURN, Message
from hyperoracle_protocol.codec import (
    BINARY_MEDIA_TYPE,
    FrameError,
    decode_frame,
    split_frames,
)
from hyperoracle_protocol.errors import HTTP_STATUS, ErrorCode
from hyperoracle_protocol.jobs import (
    MAX_EPISODE_RETURNS,
    MAX_REPORTS_AT_ONCE,
    Proposal,
    Propose,
    ProposeMetadata,
    Receipt,
    Receipts,
    Report,
    ReportMetadata,
)
from hyperoracle_server.api.deployment import Deployment
from hyperoracle_server.api.openapi import self_contained
from hyperoracle_server.api.problems import invalid_request, problem
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.oracle import calls
from hyperoracle_server.oracle.admission import Call
from hyperoracle_server.oracle.job import Answer
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.telemetry.logs import about

log = logging.getLogger(__name__)

JSON_MEDIA_TYPE = "application/json"

LONG_JSON_BYTES = 64 * 1024
"""Reading a longer body of JSON takes long."""

LONG_REPORTS_BYTES = 3 * 1024
"""So do more reports than fit into so much: about a dozen."""

_M = TypeVar("_M", bound=Message)
_T = TypeVar("_T")


class Way(Protocol):
    """How a way in works on hot calls: where, and how it waits."""

    async def take(self, call: Call, job: str, *, is_bulky: bool, answer: Callable[[], _T]) -> _T:
        """Make a job's answer, once it is its turn (`Turns.take`)."""
        raise NotImplementedError

    async def wait(self, durable: Future[Any]) -> None:
        """Wait until an answer may be given.

        Raises:
            RequestRefused: it may not: `store_unavailable`.
        """


async def answer_hot(
    deployment: Deployment, way: Way, name: Call, job: str, media_type: str, body: bytes,
    began: float,
) -> bytes:  # fmt: skip
    """Answer a hot call of a job with JSON, once what it says is durable; count and time it.

    Args:
        deployment: with the oracle.
        way: where this is worked on.
        name: which call.
        job: the caller's id.
        media_type: of the body.
        body: as it came.
        began: when the call came, on `time.perf_counter`.

    Raises:
        RequestRefused: the call is refused.
    """
    oracle, metrics = deployment.oracle, deployment.metrics
    make = partial(_MAKERS[name], oracle, job, media_type, body)
    try:
        reply = await way.take(name, job, is_bulky=_is_bulky(name, media_type, body), answer=make)
        waiting_since = time.perf_counter()
        futures = [answer.durable for answer in reply.answers if answer.durable is not None]
        for durable in futures:
            await way.wait(durable)
        if futures:
            oracle.observer.stage("commit", time.perf_counter() - waiting_since)
    except RequestRefused as error:
        if name != "propose":
            metrics.count_report("rejected")
        metrics.observe_request(name, HTTP_STATUS[error.code], time.perf_counter() - began)
        raise
    for answer in reply.answers:
        if answer.outcome is not None:
            metrics.count_report(answer.outcome)
    if reply.refusal is not None:
        metrics.count_report("rejected")
        metrics.count_rejection(reply.refusal.code)
    seconds = time.perf_counter() - began
    metrics.observe_request(name, 200, seconds)
    if log.isEnabledFor(logging.DEBUG):
        study = oracle.study_of_job(job)
        log.debug("%s answered", name, extra=about(study=study, job=job, seconds=seconds))
    return reply.body


class _Reply(NamedTuple):
    """What a hot call is answered with, once all of its answers are durable."""

    body: bytes
    answers: Sequence[Answer]
    refusal: RequestRefused | None = None


def _is_bulky(name: Call, media_type: str, body: bytes) -> bool:
    """Whether reading a body takes long."""
    if name == "reports":
        return len(body) > LONG_REPORTS_BYTES
    return media_type != BINARY_MEDIA_TYPE and len(body) > LONG_JSON_BYTES


# -- bytes to messages -------------------------------------------------------------------------


def _propose(oracle: Oracle, job_id: str, media_type: str, body: bytes) -> _Reply:
    """Answer `POST /v1/jobs/{job}/propose`."""
    started = time.perf_counter()
    if _is_binary(media_type):
        frame = _decode(body)
        request = parse(ProposeMetadata, frame.metadata)
        if frame.dtype == "float64":
            raise RequestRefused(ErrorCode.HYPER_STATE_MISMATCH,
                              "the hyper-state has the wrong dtype",
                              expected="float16 or float32", got="float64")  # fmt: skip
        none = frame.dtype == "none"
        features = None if none else np.frombuffer(frame.numbers, _little_endian(frame.dtype))
    else:
        message = parse(Propose, body)
        state = message.hyper_state
        request, features = message, None
        if state is not None:
            request = message.model_copy(update={"signature": state.signature})
            features = np.array(state.values, np.float64)
    oracle.observer.stage("parse", time.perf_counter() - started)
    answer = calls.propose(oracle, job_id, request, features, body)
    return _Reply(answer.body, (answer,))


def _report(oracle: Oracle, job_id: str, media_type: str, body: bytes) -> _Reply:
    """Answer `POST /v1/jobs/{job}/report`."""
    answer = _taken_in(oracle, job_id, media_type, body)
    return _Reply(answer.body, (answer,))


def _reports(oracle: Oracle, job_id: str, media_type: str, body: bytes) -> _Reply:
    """Answer `POST /v1/jobs/{job}/reports`: each frame as if it had come alone."""
    if not _is_binary(media_type):
        raise RequestRefused(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE,
            "several reports come as frames; one in JSON goes to /report",
            expected=BINARY_MEDIA_TYPE, got=media_type,
        )  # fmt: skip
    try:
        frames = split_frames(body, MAX_REPORTS_AT_ONCE)
    except FrameError as error:
        raise RequestRefused(ErrorCode.INVALID_REQUEST, f"the binary body: {error}") from None
    answers: list[Answer] = []
    refused = None
    for frame in frames:
        try:
            answers.append(_taken_in(oracle, job_id, media_type, frame))
        except RequestRefused as error:
            if not answers:
                raise
            refused = error
            break
    receipts = b",".join(answer.body for answer in answers)
    refusal = b"" if refused is None else b',"refusal":' + problem(refused, None)[1]
    return _Reply(b'{"receipts":[' + receipts + b"]" + refusal + b"}", answers, refused)


_MAKERS: dict[Call, Callable[[Oracle, str, str, bytes], _Reply]] = {
    "propose": _propose, "report": _report, "reports": _reports,
}  # fmt: skip


def _taken_in(oracle: Oracle, job_id: str, media_type: str, body: bytes) -> Answer:
    """The answer to one report."""
    started = time.perf_counter()
    if _is_binary(media_type):
        frame = _decode(body)
        metadata = parse(ReportMetadata, frame.metadata)
        if frame.dtype not in ("none", "float64") or frame.size > MAX_EPISODE_RETURNS:
            raise RequestRefused(ErrorCode.INVALID_REQUEST, "the episode returns cannot be read",
                              expected=f"at most {MAX_EPISODE_RETURNS} of float64",
                              got=f"{frame.size} of {frame.dtype}")  # fmt: skip
        returns = np.frombuffer(frame.numbers, "<f8")
        if not (np.abs(returns) <= MAX_RETURN).all():  # nor is NaN
            raise RequestRefused(ErrorCode.INVALID_REQUEST,
                              "an episode return is not finite, or too great",
                              expected=f"numbers in [{-MAX_RETURN}, {MAX_RETURN}]",
                              got="others")  # fmt: skip
        fields = {name: getattr(metadata, name) for name in ReportMetadata.model_fields}
        message = Report.model_construct(**fields, episode_returns=returns.tolist())
        assert message.model_extra is not None
        message.model_extra.update(_unknown(metadata))
    else:
        message = parse(Report, body)
    oracle.observer.stage("parse", time.perf_counter() - started)
    return calls.report(oracle, job_id, message, body)


def parse(kind: type[_M], body: bytes | memoryview) -> _M:
    """A message from JSON.

    Raises:
        RequestRefused: `invalid_request`, naming the first field that is wrong.
    """
    try:
        return kind.model_validate_json(bytes(body))
    except ValidationError as error:
        raise invalid_request(error) from None


def _unknown(metadata: ReportMetadata) -> dict[str, None]:
    """Unknown fields of a binary report; its returns are no field of its metadata."""
    known = Report.model_fields
    return {f"metadata.{n}" if n in known else n: None for n in metadata.model_extra or ()}


def _is_binary(media_type: str) -> bool:
    kind = media_type.partition(";")[0].strip().lower()
    if kind in (JSON_MEDIA_TYPE, ""):
        return False
    if kind == BINARY_MEDIA_TYPE:
        return True
    raise RequestRefused(
        ErrorCode.UNSUPPORTED_MEDIA_TYPE, "the body's media type is not known",
        expected=f"{JSON_MEDIA_TYPE} or {BINARY_MEDIA_TYPE}", got=media_type,
    )  # fmt: skip


def _decode(body: bytes) -> Any:
    try:
        return decode_frame(body)
    except FrameError as error:
        raise RequestRefused(ErrorCode.INVALID_REQUEST, f"the binary body: {error}") from None


def _little_endian(dtype: str) -> np.dtype[Any]:
    return np.dtype(dtype).newbyteorder("<")


# -- the routes --------------------------------------------------------------------------------


def add_hot_routes(app: FastAPI, deployment: Deployment, way: Way) -> None:
    """Add them first in the order of matching, and to the OpenAPI document."""
    hot: tuple[tuple[Call, Any, Any, str], ...] = (
        ("propose", Propose, Proposal, "Ask which hyperparameters to use now"),
        ("report", Report, Receipt, "Tell what an environment phase brought"),
        ("reports", None, Receipts, "Tell what several environment phases brought, in order"),
    )
    for name, request_model, response_model, summary in hot:
        endpoint = _endpoint(deployment, way, name)
        path = f"/v1/jobs/{{job}}/{name}"
        content: dict[str, Any] = {
            BINARY_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}
        }
        if request_model is not None:
            content = {JSON_MEDIA_TYPE: {"schema": self_contained(request_model)}, **content}
        body = {"content": content, "required": True}
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


def _endpoint(deployment: Deployment, way: Way, name: Call) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        began = time.perf_counter()
        body = await request.body()
        job, media_type = request.path_params["job"], request.headers.get("content-type", "")
        answer = await answer_hot(deployment, way, name, job, media_type, body, began)
        return Response(answer, media_type=JSON_MEDIA_TYPE)

    return endpoint
