"""Each field of each message that a caller may send, replaced by what it must not be.

Whatever comes, the answer is a problem document of the 4xx kind or the call is right, and what a
refused call has changed is nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from support.wire_client import Answer, Wire

from hyperoracle_protocol.codec import BINARY_MEDIA_TYPE, encode_frame
from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.jobs import FinishJob, Heartbeat, Propose, Report, StartJob
from hyperoracle_protocol.space import Categorical, Choice, Float, Int, Scale
from hyperoracle_protocol.strategies import Strategy
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_protocol.tokens import CreateToken
from hyperoracle_server.api.embedded import EmbeddedTransport

SENSELESS = [
    "null", "true", "1.5", "-1", "0", "1e400", "NaN", "-Infinity", str(2**63), "9" * 5000, '""',
    '"x"', r'"\ud800"', r'"\u0000"', '"' + "y" * 5000 + '"', "[]", "[[]]", "[null]",
    "[1.5, null]", '["x", {}]',
    "{}", '{"": {}}', '{"name": "nobody"}', '{"type": "mystery"}', '{"self": 1, "values": 1.5}',
    "[" * 400 + "]" * 400, '{"a":' * 400 + "1" + "}" * 400,
]  # fmt: skip
"""JSON, and what Python's `json` writes beside it, for any field."""

SPACE = {
    "f": Float(low=0, high=1, default=0.5),
    "i": Int(low=0, high=4, default=1),
    "v": Choice([0.1, 0.2], default=0.2),
    "c": Categorical(["a", "b"], default="a"),
    "r": Scale([0.5, 1, 2]),
}
STRATEGIES = [kind() for kind in Strategy.__origin__.__args__ if kind().name != "kl_adaptive"]
KL = {"name": "kl_adaptive", "hyperparameter": "r", "signal": "kl"}
SURPLUS = ["surplus", "self", "cls", "_fields_set", "model_extra", "episode_returns", "\ud800"]
MARK = "a place where something senseless goes"


def places(message: Any) -> Iterator[Any]:
    """The message with a mark in each of its places, its own and one more field among them."""
    yield MARK
    if isinstance(message, dict):
        for name in SURPLUS:
            yield {**message, name: MARK}
        for name, value in message.items():
            for spoiled in places(value):
                yield {**message, name: spoiled}
    elif isinstance(message, list) and message:
        for spoiled in places(message[0]):
            yield [spoiled, *message[1:]]


def spoiled(message: Any, kinds: Sequence[str] = SENSELESS) -> Iterator[bytes]:
    """Each place replaced by each senseless thing, or left out."""
    for marked in places(message):
        text = json.dumps(marked)
        for what in kinds:
            yield text.replace(json.dumps(MARK), what, 1).encode()
        if isinstance(marked, dict):
            yield json.dumps({k: v for k, v in marked.items() if v != MARK}).encode()


def check(answer: Answer, body: bytes) -> None:
    """The answer is one of the documented kinds."""
    shown = (answer.status, answer.json, body[:300])
    if answer.status >= 300:
        assert 400 <= answer.status < 500, shown
        assert answer.headers["content-type"] == "application/problem+json", shown
        assert answer.json["code"] in list(ErrorCode), shown
        assert len(json.dumps(answer.json)) < 4000, shown


def kinds_for(wire: Wire) -> list[str]:
    """All in process, every fourth over a socket: behind it is the same application."""
    return SENSELESS if wire.is_embedded else SENSELESS[::4]


def full(message: Any) -> Any:
    return json.loads(message.model_dump_json())


def everything(wire: Wire, study: str) -> list[Any]:
    """All that is told of the study, but when its jobs were last heard of; which others there are.

    Of the others no more: the server of several tests has theirs, whose jobs fall silent meanwhile.
    """
    studies = wire.call("GET", "/v1/studies").json["studies"]
    there: list[Any] = [[each for each in studies if each["name"] == study]]
    there += [[each["name"] for each in studies], wire.call("GET", "/v1/tokens").json]
    places_of_study = ("jobs", "gain", "memory", "schedule", "diagnosis")
    return there + [wire.call("GET", f"/v1/studies/{study}/{p}").json for p in places_of_study]


def definition(strategy: Any) -> Any:
    space = {name: full(each) for name, each in SPACE.items()}
    return {**full(StudyDefinition(space=SPACE)), "space": space, "strategy": strategy}


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", [*map(full, STRATEGIES), KL], ids=lambda strategy: strategy["name"]
)
def test_no_senseless_study_is_made_and_none_is_a_bug(embedded, strategy):
    """Seen to fail (500 for `"values": 1.5` and for a field named `self`) before."""
    whole = definition(strategy)
    assert embedded.call("PUT", "/v1/studies/s", whole).status == 201
    wholly = strategy["name"] == "random"  # the space's fields are the same with each strategy
    part = whole if wholly else {"space": whole["space"], "strategy": strategy}
    seen = set()
    before = everything(embedded, "s")
    for body in spoiled(part):
        if not wholly and b"strategy" not in body:
            continue
        if body in seen or (not wholly and json.dumps(part["strategy"]).encode() in body):
            continue
        seen.add(body)
        answer = embedded.raw("PUT", "/v1/studies/s", body)
        check(answer, body)
        assert answer.status in (200, 409, 422), (answer, body)
    assert len(seen) > 25
    assert everything(embedded, "s") == before


def begun(wire: Wire, study: str) -> Any:
    wire.study(study)
    job = wire.job(study, job_key="the-job-of-this-test")
    wire.propose(job, 1)
    wire.report(job, 2, 1, [3.0])
    return job


@pytest.fixture
def at_work(wire, name):
    return wire, begun(wire, name)


@pytest.fixture
def embedded_besides(tmp_path):
    transport = EmbeddedTransport(str(tmp_path / "besides.db"))
    yield Wire(transport=transport)
    transport.close()


def messages(job: Any) -> dict[str, tuple[str, str, Any]]:
    layout = job["layout"]
    state = {"signature": layout["signature"], "values": [0.0] * layout["feature_count"]}
    of_job = f"/v1/jobs/{job['job_id']}"
    asked = Propose(sequence=1, update_step=0, env_step=0, hyper_state=state, not_applied=[1],
                    signals={"kl": 0.1}, base_values={"r": 1.0})  # fmt: skip
    told = Report(sequence=2, credits_through=1, credits_after=0, previous_report=0, env_step=2,
                  not_applied=[1], phase_return=1.0, custom_return=1.0,
                  episode_returns=[1.0])  # fmt: skip
    start = StartJob(job_key="the-job-of-this-test", total_env_steps=10, base_values={"r": 1.0},
                     tensors=[{"name": "w", "shape": [4, 3]}], metadata={"env": "x"})  # fmt: skip
    return {
        "start": ("POST", f"/v1/studies/{job['study']}/jobs", start),
        "propose": ("POST", f"{of_job}/propose", asked),
        "report": ("POST", f"{of_job}/report", told),
        "heartbeat": ("POST", f"{of_job}/heartbeat", Heartbeat(env_step=0)),
        "finish": ("POST", f"{of_job}/finish", FinishJob(env_step=0)),
        "token": ("POST", "/v1/tokens", CreateToken(name="t", scope="admin")),
    }


def send(wire: Wire, job: Any, kind: str, body: bytes) -> bool:
    """Whether it made sense after all; then the next of its kind finds what it would have found."""
    method, path, _ = messages(job)[kind]
    answer = wire.raw(method, path, body)
    check(answer, body)
    if answer.status >= 300:
        return False
    if kind == "token":
        assert wire.call("DELETE", f"/v1/tokens/{answer.json['token_id']}").status == 200
    if kind == "finish":
        wire.job(job["study"], job_key="the-job-of-this-test")
    return True


def sorted_by_sense(
    kind: str, bodies: list[bytes], sorter: Wire
) -> tuple[list[bytes], list[bytes]]:
    """What another oracle takes, and what it refuses.

    All that is there must be looked at anew after each call that was taken, which takes longer than
    the call. In this order that is once, and every refused call lies between two looks.
    """
    job = begun(sorter, "s")
    found: tuple[list[bytes], list[bytes]] = [], []
    for body in bodies:
        found[not send(sorter, job, kind, body)].append(body)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["start", "propose", "report", "heartbeat", "finish", "token"])
def test_no_senseless_message_is_a_bug_and_what_is_refused_changes_nothing(
    at_work, kind, embedded_besides
):
    wire, job = at_work
    if kind == "token" and not wire.is_embedded:
        pytest.skip("a token would close the server to the other tests")
    bodies = list(spoiled(full(messages(job)[kind][2]), kinds_for(wire)))
    taken, others = sorted_by_sense(kind, bodies, embedded_besides)
    for body in taken:
        send(wire, job, kind, body)
    refused, before = 0, everything(wire, job["study"])
    for body in others:
        if send(wire, job, kind, body):
            before = everything(wire, job["study"])
            continue
        refused += 1
        if refused % 50 == 0:
            assert everything(wire, job["study"]) == before
    assert refused > 10
    assert everything(wire, job["study"]) == before


@pytest.mark.parametrize("call", ["propose", "report"])
def test_no_senseless_metadata_of_a_binary_body_is_a_bug(at_work, call):
    wire, job = at_work
    _, path, message = messages(job)[call]
    metadata = full(message)
    metadata.pop("hyper_state" if call == "propose" else "episode_returns")
    before = everything(wire, job["study"])
    dtype = "float64" if call == "report" else job["layout"]["dtype"]
    for body in spoiled(metadata, kinds_for(wire)):
        answer = wire.raw("POST", path, encode_frame(body, dtype, bytes(8 * 15)), BINARY_MEDIA_TYPE)
        check(answer, body)
        if answer.status < 300:
            before = everything(wire, job["study"])
    assert everything(wire, job["study"]) == before


QUERIES = ["limit=x", "limit=0", "limit=1e400", "limit=" + "9" * 5000, "after=-1", "after=null",
           "format=xml", "neighbours=0", "neighbours=1.5", "neighbours=%00", "limit=",
           "limit=1&limit=x"]  # fmt: skip


@pytest.mark.parametrize("place", ["memory", "memory/map", "schedule", "diagnosis"])
def test_no_senseless_query_is_a_bug(at_work, place):
    wire, job = at_work
    for query in QUERIES:
        check(wire.call("GET", f"/v1/studies/{job['study']}/{place}?{query}"), query.encode())


PATHS = ["/v1/studies/%00", "/v1/studies/..", "/v1/studies/%2e%2e%2fx", "/v1/studies/" + "x" * 5000,
         "/v1/jobs/%ff", "/v1/jobs/%F0%9F", "/v1/jobs/x.y", "/v1/proposals/x/explanation",
         "/v1/proposals/.1/explanation", "/v1/proposals/{job}.x/explanation",
         "/v1/proposals/{job}.-1/explanation", "/v1/proposals/{job}.1e3/explanation",
         "/v1/proposals/{job}." + "9" * 5000 + "/explanation",
         "/v1/proposals/{job}.%C2%B2/explanation", "/v1/tokens/%00", "/v1//x", "/v1", "/",
         "/v1/jobs/{job}/x"]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
def test_no_senseless_path_is_a_bug(at_work, method):
    wire, job = at_work
    for path in PATHS:
        answer = wire.call(method, path.replace("{job}", job["job_id"]))
        assert 400 <= answer.status < 500, (path, answer)
        if method != "HEAD":
            check(answer, path.encode())
