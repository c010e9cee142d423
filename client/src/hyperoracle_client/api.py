"""Every call but the hot ones, typed: for starting jobs, and for people and scripts.

It goes through httpx. The rest of the client imports this module only when it needs an api, in the
background, so that `import hyperoracle_client` does not pay for httpx.
"""

from __future__ import annotations

import os
import ssl
from typing import Any, BinaryIO, Literal, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from hyperoracle_client.errors import (
    DeadlineMissed,
    OracleUnreachable,
    ProtocolMismatch,
    refusal,
)
from hyperoracle_client.transports import (
    REQUEST_ID_HEADER,
    RequestIds,
    Transport,
    wire_headers,
)
from hyperoracle_client.transports.endpoint import Endpoint
from hyperoracle_protocol.base import Message
from hyperoracle_protocol.gain import StudyGain
from hyperoracle_protocol.inspection import (
    Diagnosis,
    Explanation,
    Health,
    MemoryMap,
    MemoryPage,
    Schedule,
)
from hyperoracle_protocol.jobs import FinishJob, Job, JobList, StartedJob, StartJob
from hyperoracle_protocol.studies import Study, StudyDefinition, StudyList
from hyperoracle_protocol.tokens import CreatedToken, CreateToken, Token, TokenList
from hyperoracle_protocol.version import PROTOCOL_HEADER, PROTOCOL_VERSION, is_compatible

M = TypeVar("M", bound=Message)

_NO_DEADLINE = httpx.Timeout(10.0, read=None, write=None)
"""For what depends on a study's size; connecting has one."""


class OracleApi:
    """The calls that are not hot, each a method that answers a message of the protocol.

    All raise `OracleUnreachable` where no usable answer comes and `OracleRefused` where the
    oracle says no.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout_seconds: float = 10.0,
        transport: Transport | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Open an api.

        Args:
            url: of a remote oracle; for an embedded one any text that names it in messages.
            token: access token.
            timeout_seconds: for each call.
            transport: an embedded oracle to call instead of `url`.
            tls: for https; by default one that trusts the system's authorities.
        """
        self._url = url
        self._request_ids = RequestIds()
        is_tls = url.startswith("https")
        self._http = httpx.Client(
            base_url=url if transport is None else "http://embedded",
            headers=wire_headers(token),
            timeout=timeout_seconds,
            verify=(tls or ssl.create_default_context()) if is_tls else False,
            trust_env=False,  # the hot calls know no proxies either
            transport=None if transport is None else _Seam(transport),
        )

    @classmethod
    def at(cls, endpoint: Endpoint) -> Self:
        """An api to where an endpoint leads, by its settings.

        Raises:
            OracleMisconfigured: an embedded oracle of another process.
        """
        settings = endpoint.settings
        return cls(
            settings.url,
            settings.token,
            timeout_seconds=settings.request_deadline_seconds,
            transport=endpoint.embedded(),
            tls=endpoint.tls,
        )

    def close(self) -> None:
        """Close the connections; an embedded oracle stays open."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def put_study(self, study: str, definition: StudyDefinition) -> Study:
        """Create a study, or confirm that it is defined like this."""
        return self._call("PUT", f"/v1/studies/{quote(study, safe='')}", Study, definition)

    def studies(self) -> StudyList:
        """All studies, by name."""
        return self._call("GET", "/v1/studies", StudyList)

    def study(self, study: str) -> Study:
        """One study."""
        return self._call("GET", f"/v1/studies/{quote(study, safe='')}", Study)

    def gain(self, study: str) -> StudyGain:
        """What a study's decisions gained over the defaults, and what exploring cost."""
        return self._call("GET", f"/v1/studies/{quote(study, safe='')}/gain", StudyGain)

    def delete_study(self, study: str) -> None:
        """Delete a study with its memory, jobs and reports."""
        self._send("DELETE", f"/v1/studies/{quote(study, safe='')}")

    def start_job(self, study: str, job: StartJob) -> StartedJob:
        """Start a job, or find it again by its key."""
        return self._call("POST", f"/v1/studies/{quote(study, safe='')}/jobs", StartedJob, job)

    def jobs(self, study: str) -> JobList:
        """The jobs of a study, newest first."""
        return self._call("GET", f"/v1/studies/{quote(study, safe='')}/jobs", JobList)

    def job(self, job_id: str) -> Job:
        """One job."""
        return self._call("GET", f"/v1/jobs/{quote(job_id, safe='')}", Job)

    def finish_job(self, job_id: str, finish: FinishJob, timeout_seconds: float) -> None:
        """End a job."""
        path = f"/v1/jobs/{quote(job_id, safe='')}/finish"
        self._send("POST", path, finish, timeout=timeout_seconds)

    def explanation(self, proposal_id: str) -> Explanation:
        """Why a proposal is what it is."""
        path = f"/v1/proposals/{quote(proposal_id, safe='')}/explanation"
        return self._call("GET", path, Explanation)

    def memory(self, study: str, *, after: int = 0, limit: int = 100) -> MemoryPage:
        """Up to `limit` entries of a study's memory whose ids are above `after`."""
        path = f"/v1/studies/{quote(study, safe='')}/memory"
        return self._call("GET", path, MemoryPage, params={"after": after, "limit": limit})

    def memory_map(self, study: str) -> MemoryMap:
        """A 2-D picture of a study's memory."""
        return self._call("GET", f"/v1/studies/{quote(study, safe='')}/memory/map", MemoryMap)

    def diagnosis(self, study: str, *, neighbours: int = 5) -> Diagnosis:
        """Whether the keys of a study's memory can be shared between its jobs."""
        path = f"/v1/studies/{quote(study, safe='')}/diagnosis"
        return self._call("GET", path, Diagnosis, params={"neighbours": neighbours})

    def schedule(
        self, study: str, job_id: str | None = None, *, last: int | None = None
    ) -> Schedule:
        """The schedule that each job of a study used, or one of them; the `last` so many rows."""
        path = f"/v1/studies/{quote(study, safe='')}/schedule"
        only = {
            name: value for name, value in (("job", job_id), ("last", last)) if value is not None
        }
        found = self._call("GET", path, Schedule, params={"format": "json", **only})
        if last is None or len(found.rows) <= last:
            return found
        return found.model_copy(update={"rows": found.rows[-last:]})  # of an earlier release

    def schedule_csv(self, study: str) -> str:
        """The same as comma-separated values."""
        path = f"/v1/studies/{quote(study, safe='')}/schedule"
        return self._send("GET", path, params={"format": "csv"}).text

    def take_snapshot(self, study: str, file: BinaryIO) -> None:
        """Write a study as one file; takes as long as it takes."""
        path = f"/v1/studies/{quote(study, safe='')}/snapshots"
        try:
            with self._http.stream("POST", path, timeout=_NO_DEADLINE) as response:
                if not response.is_success:
                    raise refusal(response.status_code, response.read())
                file.writelines(response.iter_bytes())
        except httpx.HTTPError as error:
            raise OracleUnreachable(f"{self._url} broke off the snapshot: {error}") from error

    def restore_study(self, study: str, file: BinaryIO) -> Study:
        """Make a study of this name from what `take_snapshot` wrote."""
        path = f"/v1/studies/{quote(study, safe='')}/restore"
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        headers = {"content-type": "application/octet-stream", "content-length": str(size)}
        response = self._request("POST", path, content=file, headers=headers, timeout=_NO_DEADLINE)
        if not response.is_success:
            raise refusal(response.status_code, response.content)
        return Study.model_validate_json(response.content)

    def create_token(self, wanted: CreateToken) -> CreatedToken:
        """Make a token; the answer is the only place that ever holds it."""
        return self._call("POST", "/v1/tokens", CreatedToken, wanted)

    def tokens(self) -> TokenList:
        """All tokens, without the secrets."""
        return self._call("GET", "/v1/tokens", TokenList)

    def revoke_token(self, name: str) -> Token:
        """End a token, by its name or its id."""
        return self._call("DELETE", f"/v1/tokens/{quote(name, safe='')}", Token)

    def health(self, kind: Literal["livez", "readyz"] = "livez") -> Health:
        """Whether the oracle lives, or is ready to serve."""
        response = self._request("GET", f"/{kind}")
        try:
            return Health.model_validate_json(response.content)
        except ValidationError:
            raise refusal(response.status_code, response.content) from None

    def metrics(self) -> str:
        """The oracle's metrics in Prometheus' text format."""
        return self._send("GET", "/metrics").text

    def _call(
        self, method: str, path: str, answer: type[M], body: Message | Any = None, **options: Any
    ) -> M:
        response = self._send(method, path, body, **options)
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise OracleUnreachable(
                f"{self._url} answered {method} {path} with what is no {answer.__name__}: "
                f"{str(error).splitlines()[0]}; is this an oracle's address?"
            ) from None

    def _send(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        if body is not None:
            options["content"] = body.model_dump_json(exclude_none=True)
            options["headers"] = {"content-type": "application/json"}
        response = self._request(method, path, **options)
        if not response.is_success:
            raise refusal(response.status_code, response.content)
        return response

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        request_id = self._request_ids()
        headers = {REQUEST_ID_HEADER: request_id, **options.pop("headers", {})}
        try:
            response = self._http.request(method, path, headers=headers, **options)
        except httpx.TimeoutException as error:
            raise DeadlineMissed(
                f"{self._url} did not answer {method} {path} in time [request {request_id}]"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OracleUnreachable(f"no oracle answers at {self._url}: {error}") from error
        offered = response.headers.get(PROTOCOL_HEADER)
        if not is_compatible(offered):
            raise ProtocolMismatch(
                f"expected an oracle of protocol {PROTOCOL_VERSION}, got {offered} at {self._url}: "
                "upgrade the older of the two",
                status=response.status_code,
            )
        return response


class _Seam(httpx.BaseTransport):
    """An httpx transport on top of an embedded oracle."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode("ascii")
        headers = dict(request.headers)
        try:
            status, answered, body = self._transport.handle(
                request.method, path, headers, request.read()
            )
        except Exception as error:  # whatever breaks inside the oracle becomes one line
            raise httpx.TransportError(f"the embedded oracle failed: {error!r}") from error
        return httpx.Response(status, headers=dict(answered), content=body, request=request)
