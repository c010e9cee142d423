"""A secret in a path, by mistake: in no log, no record and no trace."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import secrets

import httpx
import pytest
from support.handles import deployed
from support.trace_collector import Collector

from hyperoracle_server.api.access.tokens import new_token
from hyperoracle_server.api.app import create_app
from hyperoracle_server.settings import ServerSettings
from hyperoracle_server.telemetry import logs
from hyperoracle_server.telemetry.logs import redacted, shown_path
from hyperoracle_server.telemetry.tracing import Tracing


@pytest.fixture
def collector():
    with Collector() as opened:
        yield opened


def test_a_tokens_secret_is_left_out_and_its_id_stays():
    token_id, secret = new_token()
    shown = redacted(f"before {secret}, after {secret[:-1]}")
    assert shown == f"before ho_{token_id}_..., after ho_{token_id}_..."
    assert redacted("ho_ and ho_12 are no tokens") == "ho_ and ho_12 are no tokens"


@pytest.mark.parametrize(
    "path",
    ["/v1/tokens/{}", "//v1//tokens//{}", "/V1/Tokens/{}", "/v1/tokens/x/{}", "/v1/tokens/{}/"],
)
def test_of_a_token_no_name_is_shown_for_it_may_be_the_secret(path):
    for secret in (new_token()[1], secrets.token_hex(32), "simple"):
        assert secret not in shown_path(path.format(secret))


def test_other_paths_are_shown_and_not_without_end():
    assert shown_path("/v1/tokens") == "/v1/tokens"
    assert shown_path("/v1/studies/cartpole") == "/v1/studies/cartpole"
    token_id, secret = new_token()
    assert shown_path(f"/v1/studies/{secret}/jobs") == f"/v1/studies/ho_{token_id}_.../jobs"
    assert len(shown_path("/" + "x" * 10_000)) < 300


@pytest.mark.parametrize("kind", ["json", "human"])
def test_no_sink_holds_a_secret_that_came_in_a_path(tmp_path, collector, kind):
    """Seen to fail: log, audit record and traces had it."""
    lines = io.StringIO()
    audit = tmp_path / "audit.jsonl"
    admin = secrets.token_hex(32)
    before = logging.getLogger().handlers, logging.getLogger().level
    app = create_app(
        ServerSettings(store=str(tmp_path / "o.db"), admin_token=admin, audit_log=audit),
        tracing=Tracing(collector.url),
    )
    _, unknown = new_token()

    async def calls() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        bearer = {"authorization": f"Bearer {admin}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8080", headers=bearer
        ) as client:
            made = await client.post("/v1/tokens", json={"name": "mine", "scope": "train"})
            known = made.json()["token"]
            found = [made]
            ways = [(path, secret) for path in ("/v1/tokens/{}", "//v1/tokens/{}")
                    for secret in (known, unknown, admin)]  # fmt: skip
            # Elsewhere only what has a token's form is known to be one.
            ways += [(path, secret) for path in ("/v1/studies/{}", "/v1/jobs/{}")
                     for secret in (known, unknown)]  # fmt: skip
            methods = ("DELETE", "GET", "PATCH", "HEAD")
            found += [await client.request(method, path.format(secret))
                      for path, secret in ways for method in methods]  # fmt: skip
            by_name = await client.delete("/v1/tokens/mine")
            return [*found, by_name]

    try:
        logs.configure("debug", kind, lines)
        logging.getLogger("httpx").setLevel(logging.WARNING)
        made, *others = asyncio.run(calls())
    finally:
        logging.getLogger().handlers, level = before[0], before[1]
        logging.getLogger().setLevel(level)
        deployed(app).close()
    known = made.json()["token"]
    traces = str(collector.spans())
    assert "DELETE" in traces
    assert "refused" in lines.getvalue()
    assert "/v1/tokens/..." in audit.read_text()
    answers = "".join(answer.text for answer in others)
    for secret in (known, unknown, admin):
        for sink in (lines.getvalue(), audit.read_text(), traces):
            assert secret not in sink
            assert secret.rpartition("_")[2] not in sink
    assert known not in answers
    assert json.loads(others[-1].text)["name"] == "mine"
