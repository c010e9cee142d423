from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from support.handles import deployed
from support.oracle_process import OracleProcess
from support.wire_client import Wire

from hyperoracle_protocol.tokens import CreateToken
from hyperoracle_server.api.app import create_app
from hyperoracle_server.api.deployment import the_caller
from hyperoracle_server.settings import ServerSettings


@pytest.fixture
def app(tmp_path):
    made = create_app(ServerSettings(store=str(tmp_path / "oracle.db"), require_token=True))
    yield made
    deployed(made).close()


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


@pytest.mark.slow
def test_a_page_of_another_site_changes_nothing_at_an_oracle_that_is_open(tmp_path):
    with OracleProcess(tmp_path) as process:
        wire = Wire(url=process.url)
        refused = wire.raw("POST", "/v1/tokens", b'{"name": "x"}', Sec_Fetch_Site="cross-site")
        assert (refused.status, refused.json["code"]) == (403, "forbidden")
        linked = wire.raw("GET", "/docs", Sec_Fetch_Site="cross-site")
        assert linked.status == 200
        assert wire.call("GET", "/v1/tokens").json == {"tokens": []}
        wire.close()


@pytest.mark.slow
def test_so_it_is_where_a_browser_tells_only_the_origin(tmp_path):
    """As it does of a page or an oracle without https, but on loopback."""
    with OracleProcess(tmp_path) as process:
        wire = Wire(url=process.url)
        host = process.url.removeprefix("http://")
        body = b'{"name": "x", "scope": "admin"}'
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
            refused = wire.raw("POST", "/v1/tokens", body, Origin=origin)
            assert (refused.status, refused.json["code"]) == (403, "forbidden")
        assert wire.call("GET", "/v1/tokens").json == {"tokens": []}
        assert wire.raw("POST", "/v1/tokens", body, Origin=f"http://{host}").status == 201
        wire.close()


@pytest.mark.slow
def test_an_open_oracle_on_loopback_is_not_called_by_a_public_name(tmp_path):
    """Else a page whose name is made to mean this machine is of one origin with the oracle."""
    with OracleProcess(tmp_path) as process:
        wire = Wire(url=process.url)
        for method, path in (("GET", "/v1/studies"), ("DELETE", "/v1/studies/s"), ("GET", "/docs")):
            for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example."):
                refused = wire.raw(method, path, Host=host)
                assert (refused.status, refused.json["code"]) == (403, "forbidden"), host
        for host in ("localhost", "localhost.:80", "x.localhost:1", "10.0.0.1:80", "[::1]:8080",
                     "[::1]", "oracle", "oracle:8080"):  # fmt: skip
            assert wire.raw("GET", "/v1/studies", Host=host).status == 200, host
        assert wire.raw("GET", "/livez", Host="evil.example").status == 200
        wire.call("POST", "/v1/tokens", {"name": "first", "scope": "admin"})
        assert wire.raw("GET", "/v1/studies", Host="oracle.example").status == 401
        wire.close()
    (tmp_path / "other").mkdir()
    with OracleProcess(tmp_path / "other", insecure=True) as process:
        wire = Wire(url=process.url)
        assert wire.raw("GET", "/v1/studies", Host="oracle.example").status == 200
        wire.close()


def test_nobody_is_sent_to_the_host_that_the_caller_names(wire):
    answer = wire.raw("GET", "/v1/studies/", Host="localhost")
    assert (answer.status, answer.json["code"]) == (404, "not_found")


def test_a_token_that_is_revoked_while_the_body_comes_does_nothing(app):
    tokens = deployed(app).tokens
    token, secret = tokens.create(CreateToken(name="slow", scope="admin"))
    pieces = iter([True, False])
    sent = []

    async def receive():
        more = next(pieces)
        if not more:
            tokens.revoke(token.id)
        return {"type": "http.request", "body": b"x" * 100, "more_body": more}

    async def send(message):
        sent.append(message)

    headers = [(b"authorization", f"Bearer {secret}".encode()), (b"host", b"a")]
    scope = {"type": "http", "method": "POST", "path": "/v1/studies/s/restore", "root_path": "",
             "headers": headers, "query_string": b"", "scheme": "http", "http_version": "1.1",
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1)}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 401


def test_the_openapi_document_says_that_calls_take_a_token(app):
    document = app.openapi()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert document["paths"]["/v1/jobs/{job}/propose"]["post"]["security"] == [{"HTTPBearer": []}]
