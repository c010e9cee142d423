"""What one token may take up; the rest of the tokens' tests is in `reliability/test_tokens.py`."""

from __future__ import annotations

import asyncio
import json

import pytest
from support.handles import deployed, oracle_of
from support.wire_client import LEARNING_RATE, Wire

from hyperoracle_client.commands import token as token_command
from hyperoracle_protocol.tokens import CreateToken, Token
from hyperoracle_server.api.app import create_app
from hyperoracle_server.settings import ServerSettings


class App:
    """An application with tokens, called without a socket."""

    def __init__(self, store, **settings) -> None:
        self._app = create_app(ServerSettings(store=str(store), rate_limit=500, **settings))
        self.oracle = oracle_of(self)
        self._tokens: dict[str, str] = {}
        for name, scope in (("root", "admin"), ("ann", "train"), ("bob", "train")):
            if not any(t.name == name for t in deployed(self).tokens.all()):
                _, secret = deployed(self).tokens.create(CreateToken(name=name, scope=scope))
                self._tokens[name] = secret

    def wire(self, name: str, secret: str | None = None) -> Wire:
        return Wire(transport=self, token=secret or self._tokens[name])

    def handle(self, method, path, headers, body):
        sent = []
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        given = {**headers, "host": "localhost"}
        scope = {"type": "http", "method": method, "path": path, "scheme": "http", "root_path": "",
                 "raw_path": path.encode(), "query_string": b"", "http_version": "1.1",
                 "asgi": {"version": "3.0"}, "server": ("localhost", 80), "client": ("::1", 1),
                 "headers": [(k.encode(), v.encode()) for k, v in given.items()]}  # fmt: skip
        asyncio.run(self._app(scope, receive, send))
        answered = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return sent[0]["status"], answered, b"".join(m.get("body", b"") for m in sent[1:])

    def close(self) -> None:
        deployed(self).close()


@pytest.fixture
def opened(tmp_path):
    apps = []

    def open_app(**settings) -> App:
        apps.append(App(tmp_path / "oracle.db", **settings))
        return apps[-1]

    yield open_app
    for app in apps:
        app.close()


def code(answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


def test_a_token_makes_so_many_studies_and_gets_them_back_when_they_are_deleted(opened):
    app = opened(token_studies=2)
    ann, bob, root = app.wire("ann"), app.wire("bob"), app.wire("root")
    assert [ann.study(f"a{n}").status for n in range(2)] == [201, 201]
    refused = ann.study("a2")
    assert code(refused) == (403, "quota_exceeded")
    assert "--token-studies" in refused.json["detail"]
    assert refused.json["got"] == "2"
    assert ann.study("a1").status == 200  # what there is, is confirmed as ever
    assert bob.study("b0").status == 201
    assert [root.study(f"r{n}").status for n in range(3)] == [201] * 3
    assert root.call("DELETE", "/v1/studies/a0").status == 204
    assert ann.study("a2").status == 201


def test_a_token_starts_so_many_jobs_in_whosever_study(opened):
    app = opened(token_jobs=2)
    ann, bob, root = app.wire("ann"), app.wire("bob"), app.wire("root")
    root.study("s")
    first = ann.job("s", job_key="the-first-job")
    ann.job("s")
    start = {"total_env_steps": 1, "tensors": [{"name": "w", "shape": [4, 3]}]}
    refused = ann.call("POST", "/v1/studies/s/jobs", start)
    assert code(refused) == (403, "quota_exceeded")
    assert ann.job("s", job_key="the-first-job")["job_id"] == first["job_id"]  # it goes on
    assert ann.propose(first, 1).status == 200
    assert bob.job("s")["job_id"]


def test_a_token_fills_the_store_so_far_and_reports_a_little_further(opened):
    app = opened(token_bytes=20_000)
    ann, bob = app.wire("ann"), app.wire("bob")
    ann.study("s")
    mine, other = ann.job("s"), bob.job("s")
    answered = 0
    for sequence in range(1, 100):
        if ann.propose(mine, sequence, seed=sequence).status != 200:
            break
        answered = sequence
        app.oracle.quotas.look()  # as upkeep does each second
    assert 5 < answered < 60
    refused = ann.propose(mine, answered + 1)
    assert code(refused) == (403, "quota_exceeded")
    assert "--token-bytes" in refused.json["detail"]
    start = {"total_env_steps": 1, "tensors": [{"name": "w", "shape": [4, 3]}]}
    assert code(ann.call("POST", "/v1/studies/s/jobs", start)) == (403, "quota_exceeded")
    assert code(ann.study("t")) == (403, "quota_exceeded")
    reported = ann.report(mine, answered + 2, answered)
    assert (reported.status, reported.json["credited"]) == (200, answered)
    assert bob.propose(other, 1).status == 200
    outcomes = []
    for sequence in range(answered + 3, answered + 40):
        outcomes.append(ann.report(mine, sequence, 0, [1.0] * 50).status)
        app.oracle.quotas.look()
    assert outcomes[0] == 200
    assert outcomes[-1] == 403  # there is an end to it


def test_what_belongs_to_whom_is_the_same_after_a_restart(opened):
    app = opened()
    ann = app.wire("ann")
    ann.study("s")
    job = ann.job("s")
    ann.propose(job, 1)
    ann.report(job, 2, 1)
    ann.propose(job, 3, seed=1)  # after the job's row was last written
    before = app.oracle.quotas.usage()
    (usage,) = before.values()
    assert usage[:2] == (1, 1)
    app.close()
    assert opened().oracle.quotas.usage() == before


def test_quota_and_use_are_listed(opened, capsys):
    app = opened(token_studies=7, token_jobs=0)
    root, ann = app.wire("root"), app.wire("ann")
    ann.study("s")
    ann.job("s")
    listed = {t["name"]: t for t in root.call("GET", "/v1/tokens").json["tokens"]}
    assert listed["ann"]["used"]["studies"] == 1
    assert listed["ann"]["used"]["jobs"] == 1
    assert listed["ann"]["used"]["store_bytes"] > 1000
    assert listed["ann"]["quota"]["studies"] == 7
    assert listed["ann"]["calls_per_second"] == 500
    assert listed["bob"]["used"] == {"studies": 0, "jobs": 0, "store_bytes": 0}
    assert listed["root"]["quota"] is None
    token = Token.model_validate_json(json.dumps(listed["ann"]))
    assert token_command._of(token, "studies") == "1 of 7"
    assert token_command._of(token, "jobs") == "1"


def test_a_token_of_an_earlier_release_of_the_oracle_is_still_read():
    told = {
        "name": "x", "token_id": "1", "scope": "train", "studies": ["*"], "status": "active",
        "created_at": "2026-01-01T00:00:00Z", "expires_at": None, "revoked_at": None,
    }  # fmt: skip
    assert Token.model_validate_json(json.dumps(told)).quota is None


def test_nobody_counts_what_an_open_oracle_takes(embedded):
    definition = {"space": LEARNING_RATE, "strategy": {"name": "random"}}
    assert embedded.call("PUT", "/v1/studies/s", definition).status == 201
    embedded.job("s")
    assert oracle_of(embedded).quotas.usage() == {}
