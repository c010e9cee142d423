"""R8: calls made up from the OpenAPI document, right ones and wrong ones, and what they answer.

Seen to fail with the problem answers taken out of the document (`documents.PROBLEMS`), and while
it named a snapshot's `Content-Length`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.oracle_process import OracleProcess
from support.wire_client import Wire

from hyperoracle_protocol.codec import BINARY_MEDIA_TYPE
from hyperoracle_server.api.routes.operations import MEDIA_TYPE

for media_type in (BINARY_MEDIA_TYPE, MEDIA_TYPE):
    schemathesis.serializer.alias(media_type, "application/octet-stream")

TOKEN = "an-administrators-token-of-the-tests"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server with an administrator: the first token that a call makes would lock out the rest."""
    folder = tmp_path_factory.mktemp("openapi")
    (folder / "token").write_text(TOKEN)
    with OracleProcess(folder, admin_token_file=folder / "token", rate_limit=0) as process:
        wire = Wire(url=process.url, token=TOKEN)
        yield process, wire
        wire.close()


def operations(document: Any) -> list[Any]:
    return [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]


def places(wire: Wire, operation: Any) -> list[dict[str, str] | None]:
    """Path parameters to try: made up ones, and what is there, but not to delete it."""
    if operation.method.upper() == "DELETE" or "{" not in operation.path:
        return [None]
    wire.study("there", strategy={"name": "epgt", "hyper_state": {"kind": "statistics"}})
    job = wire.job("there")
    wire.propose(job, 1)
    wire.report(job, 2, 1)
    there = {"study": "there", "job": job["job_id"], "proposal": f"{job['job_id']}.1"}
    wanted = {p.name for p in operation.path_parameters}
    return [None, {name: value for name, value in there.items() if name in wanted}]


def call_often(
    process: OracleProcess, operation: Any, where: Any, times: int, *, derandomize: bool
) -> Counter[int]:
    """Right and wrong calls of one operation; how many answers began with which digit."""
    statuses: Counter[int] = Counter()
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

        @settings(
            max_examples=times,
            deadline=None,
            derandomize=derandomize,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(mode, path_parameters=where))
        def answers_as_documented(case: Any) -> None:
            answer = case.call(base_url=process.url, headers={"Authorization": f"Bearer {TOKEN}"})
            case.validate_response(answer, checks=CHECKS)
            statuses[answer.status_code // 100] += 1

        answers_as_documented()
    return statuses


def call_all(served: Any, times: int, subtests: Any, *, derandomize: bool) -> None:
    process, wire = served
    statuses: Counter[int] = Counter()
    document = wire.call("GET", "/openapi.json").json
    for operation in operations(document):
        for where in places(wire, operation):
            with subtests.test(operation.label, where=where):
                statuses += call_often(process, operation, where, times, derandomize=derandomize)
    print(f"answers by their first digit: {dict(statuses)}")
    assert min(statuses[2], statuses[4]) > sum(statuses.values()) / 10, "right and wrong ones"
    assert process.errors() == []


@pytest.mark.timeout(600)
def test_made_up_calls_get_the_answers_of_the_document_and_never_a_server_error(served, subtests):
    """R8, quick form."""
    call_all(served, 5, subtests, derandomize=True)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_thousands_of_made_up_calls_never_get_a_server_error(served, subtests):
    """R8, long form."""
    call_all(served, 300, subtests, derandomize=False)
