from __future__ import annotations

import asyncio

import httpx
import pytest
from support.handles import deployed, oracle_of

from hyperoracle_server.api.app import create_app
from hyperoracle_server.settings import ServerSettings


@pytest.fixture
def app(tmp_path):
    made = create_app(ServerSettings(store=str(tmp_path / "oracle.db")))
    yield made
    deployed(made).close()


def get(app, path: str, **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


def test_the_answer_to_a_bug_says_which_request_it_was_and_nothing_of_the_bug(app, monkeypatch):
    """Seen to fail without what `_on_bug` adds: that answer passes no middleware of ours."""

    def fails():
        raise ValueError("0.1234567")

    monkeypatch.setattr(oracle_of(app), "studies", fails)
    answer = get(app, "/v1/studies", **{"x-request-id": "mine"})
    monkeypatch.undo()
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.json()["request_id"] == "mine"
    assert "0.1234567" not in answer.text
    usual = get(app, "/v1/nothing", **{"x-request-id": "mine"})
    assert usual.status_code == 404
    assert {*usual.headers} <= {*answer.headers}
    for header in ("x-request-id", "x-content-type-options", "hyperoracle-protocol"):
        assert answer.headers.get_list(header) == usual.headers.get_list(header)
        assert len(answer.headers.get_list(header)) == 1, header
