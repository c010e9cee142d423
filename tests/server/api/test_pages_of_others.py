"""What a page in the browser of an open oracle's user may do to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.handles import deployed
from support.wire_client import LEARNING_RATE

from hyperoracle_server.api.app import create_app
from hyperoracle_server.settings import ServerSettings

HOST = "127.0.0.1:8080"
DEFINITION = {"space": LEARNING_RATE, "strategy": {"name": "random"}}


@pytest.fixture
def app(tmp_path) -> Iterator[Any]:
    made = create_app(ServerSettings(store=str(tmp_path / "oracle.db")))
    yield made
    deployed(made).close()


def call(app: Any, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, json=body, headers=sent)

    return asyncio.run(ask())


@pytest.fixture
def job(app) -> str:
    assert call(app, "PUT", "/v1/studies/s", DEFINITION).status_code == 201
    return call(app, "POST", "/v1/studies/s/jobs", {"total_env_steps": 9}).json()["job_id"]


def changes(job: str) -> list[tuple[str, str, Any]]:
    """Calls that change something, or hand everything out."""
    return [
        ("POST", "/v1/studies/s/snapshots", None),
        ("POST", "/v1/studies/other/restore", None),
        ("PUT", "/v1/studies/other", DEFINITION),
        ("POST", "/v1/studies/s/jobs", {"total_env_steps": 9}),
        ("POST", f"/v1/jobs/{job}/propose", {"sequence": 1, "update_step": 0, "env_step": 0}),
        ("POST", f"/v1/jobs/{job}/heartbeat", None),
        ("POST", f"/v1/jobs/{job}/finish", None),
        ("POST", "/v1/tokens", {"name": "x", "scope": "admin"}),
        ("DELETE", "/v1/studies/s", None),
    ]


OTHERS = [
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "Cross-Site"},
    {"Sec_Fetch_Site": "CROSS-SITE", "Origin": f"http://{HOST}"},
    {"Sec_Fetch_Site": "same-site", "Origin": "http://127.0.0.1:3000"},
    {"Sec_Fetch_Site": "SAME-SITE"},
    {"Sec_Fetch_Site": "of-the-future"},
    {"Origin": "http://127.0.0.1:3000"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
]


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: " ".join(page.values()))
def test_a_page_of_another_site_or_port_changes_nothing(app, job, page):
    """Seen to fail: of the same site but another port, and in capitals, it passed."""
    for method, path, body in changes(job):
        refused = call(app, method, path, body, **page)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), (method, path)
    assert call(app, "GET", f"/v1/jobs/{job}").json()["status"] == "running"
    assert call(app, "GET", "/v1/tokens").json() == {"tokens": []}
    assert [s["name"] for s in call(app, "GET", "/v1/studies").json()["studies"]] == ["s"]


OWN = [
    {},
    {"Sec_Fetch_Site": "same-origin", "Origin": f"http://{HOST}"},
    {"Sec_Fetch_Site": "Same-Origin"},
    {"Sec_Fetch_Site": "none"},
    {"Origin": f"http://{HOST}"},
    {"Origin": f"HTTP://{HOST}"},
    {"Origin": "http://localhost", "Host": "LocalHost:80"},
    {"Origin": "https://localhost", "Host": "localhost:443"},
]


@pytest.mark.parametrize("page", OWN, ids=lambda page: " ".join(page.values()))
def test_a_program_and_the_oracles_own_page_change_what_they_like(app, job, page):
    assert call(app, "POST", f"/v1/jobs/{job}/heartbeat", **page).status_code == 204


def test_a_link_from_another_page_opens_the_page_of_the_calls(app):
    for method in ("GET", "HEAD"):
        assert call(app, method, "/docs", Sec_Fetch_Site="cross-site").status_code == 200
