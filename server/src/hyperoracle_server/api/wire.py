"""The two hot calls, from the bytes that came to the bytes that go.

Both ways in, HTTP (`routes.hot`) and in-process (`embedded`), use these functions.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

import numpy as np
from pydantic import ValidationError

from hyperoracle_protocol.base import MAX_RETURN, Message
from hyperoracle_protocol.codec import BINARY_MEDIA_TYPE, FrameError, decode_frame
from hyperoracle_protocol.errors import HTTP_STATUS, PROBLEM_MEDIA_TYPE, ErrorCode, Problem
from hyperoracle_protocol.jobs import (
    MAX_EPISODE_RETURNS,
    Propose,
    ProposeMetadata,
    Report,
    ReportMetadata,
)
from hyperoracle_server.api import job_calls
from hyperoracle_server.errors import OracleError
from hyperoracle_server.oracle.job import ReportOutcome
from hyperoracle_server.oracle.oracle import Oracle

JSON_MEDIA_TYPE = "application/json"
LONGEST_NAME = 128
"""Characters of a field's name that a refusal repeats."""

_M = TypeVar("_M", bound=Message)


class WireAnswer(NamedTuple):
    """An answer's status, media type and bytes; give it only once `durable` has resolved.

    `outcome` says how a report was taken in.
    """

    status: int
    media_type: str
    body: bytes
    durable: Future[Any] | None = None
    outcome: ReportOutcome | None = None


def propose(oracle: Oracle, job_id: str, media_type: str, body: bytes) -> WireAnswer:
    """Answer `POST /v1/jobs/{job}/propose`."""
    started = time.perf_counter()
    if _is_binary(media_type):
        frame = _decode(body)
        request = parse(ProposeMetadata, frame.metadata)
        if frame.dtype == "float64":
            raise OracleError(ErrorCode.HYPER_STATE_MISMATCH,
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
    answer = job_calls.propose(oracle, job_id, request, features, body)
    return WireAnswer(200, JSON_MEDIA_TYPE, answer.body, answer.durable)


def report(oracle: Oracle, job_id: str, media_type: str, body: bytes) -> WireAnswer:
    """Answer `POST /v1/jobs/{job}/report`."""
    started = time.perf_counter()
    if _is_binary(media_type):
        frame = _decode(body)
        metadata = parse(ReportMetadata, frame.metadata)
        if frame.dtype not in ("none", "float64") or frame.size > MAX_EPISODE_RETURNS:
            raise OracleError(ErrorCode.INVALID_REQUEST, "the episode returns cannot be read",
                              expected=f"at most {MAX_EPISODE_RETURNS} of float64",
                              got=f"{frame.size} of {frame.dtype}")  # fmt: skip
        returns = np.frombuffer(frame.numbers, "<f8")
        if not (np.abs(returns) <= MAX_RETURN).all():  # nor is NaN
            raise OracleError(ErrorCode.INVALID_REQUEST,
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
    answer = job_calls.report(oracle, job_id, message, body)
    return WireAnswer(200, JSON_MEDIA_TYPE, answer.body, answer.durable, answer.outcome)


def parse(kind: type[_M], body: bytes | memoryview) -> _M:
    """A message from JSON.

    Raises:
        OracleError: `invalid_request`, naming the first field that is wrong.
    """
    try:
        return kind.model_validate_json(bytes(body))
    except ValidationError as error:
        raise invalid_request(error) from None


def invalid_request(error: ValidationError) -> OracleError:
    """What pydantic found, as a refusal that names the field."""
    first = error.errors(include_url=False)[0]
    return refusal(first["loc"], first["msg"], first.get("input"), error.error_count())


def refusal(location: tuple[Any, ...], message: str, got: Any, count: int) -> OracleError:
    """A refusal of one field of a request."""
    where = ".".join(map(_shown, location)) or "the body"
    more = f" (and {count - 1} more)" if count > 1 else ""
    text = message.removeprefix("Value error, ")
    return OracleError(
        ErrorCode.INVALID_REQUEST, f"{where}: {text}{more}", expected=text, got=repr(got)
    )


def _shown(part: Any) -> str:
    """A field's name, which may be a key of the caller's: short, and fit to be answered."""
    text = str(part).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + "…"


def problem(error: OracleError, request_id: str | None = None) -> WireAnswer:
    """A refusal as `application/problem+json`."""
    status = HTTP_STATUS[error.code]
    answer = Problem(
        title=error.code.value.replace("_", " "),
        status=status,
        code=error.code,
        detail=error.detail,
        expected=error.expected,
        got=error.got,
        request_id=request_id,
    )
    return WireAnswer(status, PROBLEM_MEDIA_TYPE, answer.model_dump_json().encode())


def problem_headers(error: OracleError) -> dict[str, str]:
    """The headers that go with a refusal: when to come again, or what to come with."""
    status = HTTP_STATUS[error.code]
    if status == 401:
        return {"www-authenticate": 'Bearer realm="hyperoracle"'}
    if error.retry_after_seconds is not None:
        return {"retry-after": str(max(1, math.ceil(error.retry_after_seconds)))}
    return {"retry-after": "1"} if status == 503 else {}


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
    raise OracleError(
        ErrorCode.UNSUPPORTED_MEDIA_TYPE, "the body's media type is not known",
        expected=f"{JSON_MEDIA_TYPE} or {BINARY_MEDIA_TYPE}", got=media_type,
    )  # fmt: skip


def _decode(body: bytes) -> Any:
    try:
        return decode_frame(body)
    except FrameError as error:
        raise OracleError(ErrorCode.INVALID_REQUEST, f"the binary body: {error}") from None


def _little_endian(dtype: str) -> np.dtype[Any]:
    return np.dtype(dtype).newbyteorder("<")
