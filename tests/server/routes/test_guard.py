from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from support.oracle_process import OracleProcess
from support.wire_client import Wire

from hyperoracle_server.app import create_app
from hyperoracle_server.routes.dependencies import the_caller
from hyperoracle_server.settings import ServerSettings


@pytest.fixture
def app(tmp_path):
    made = create_app(ServerSettings(store=str(tmp_path / "oracle.db"), require_token=True))
    yield made
    made.state.close()


def test_a_web_socket_does_not_get_past_the_guard(app):
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/studies", "headers": [], "query_string": b"",
             "scheme": "ws", "root_path": "", "client": ("127.0.0.1", 1)}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_request_that_no_guard_has_seen_has_no_caller_and_fails():
    with pytest.raises(KeyError):
        the_caller(Request({"type": "http", "headers": []}))


def test_a_page_of_another_site_changes_nothing_at_an_oracle_that_is_open(tmp_path):
    with OracleProcess(tmp_path) as process:
        wire = Wire(url=process.url)
        refused = wire.raw("POST", "/v1/tokens", b'{"name": "x"}', Sec_Fetch_Site="cross-site")
        assert (refused.status, refused.json["code"]) == (403, "forbidden")
        linked = wire.raw("GET", "/docs", Sec_Fetch_Site="cross-site")
        assert linked.status == 200
        assert wire.call("GET", "/v1/tokens").json == {"tokens": []}
        wire.close()


def test_the_openapi_document_says_that_calls_take_a_token(app):
    document = app.openapi()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert document["paths"]["/v1/jobs/{job}/propose"]["post"]["security"] == [{"HTTPBearer": []}]
