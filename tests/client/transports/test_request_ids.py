"""A request has one name, from the client's message to the oracle's log."""

from __future__ import annotations

import json
import re
import time

import pytest
from support.oracle_process import OracleProcess

from hyperoracle_client.api import OracleApi
from hyperoracle_client.errors import OracleRefused
from hyperoracle_client.transports import Request, RequestIds
from hyperoracle_client.transports.embedded import EmbeddedChannel, open_embedded
from hyperoracle_client.transports.endpoint import exchange
from hyperoracle_client.transports.http import HttpChannel

NOBODY = Request("POST", "/v1/jobs/nobody/report", {"content-type": "application/json"}, b"{}")


def test_names_differ_between_requests_and_between_clients():
    one, other = RequestIds(), RequestIds()
    names = [one(), one(), other()]
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"[0-9a-f]{12}-\d+", name) for name in names)


@pytest.mark.slow
def test_a_refusal_names_the_request_as_the_oracles_log_does(tmp_path):
    with OracleProcess(tmp_path) as process:
        channel = HttpChannel(process.url)
        with pytest.raises(OracleRefused) as hot:
            exchange(channel, NOBODY, 10.0)
        channel.close()
        with OracleApi(process.url) as api, pytest.raises(OracleRefused) as cold:
            api.study("nobody")
        process.terminate()
        lines = [json.loads(x) for x in process.log().splitlines() if x.startswith('{"time"')]
    refused = [line["request_id"] for line in lines if line["event"] == "refused"]
    assert refused == [hot.value.request_id, cold.value.request_id]
    for caught in (hot, cold):
        assert f"[request {caught.value.request_id}]" in str(caught.value)


def test_an_embedded_oracle_names_it_too(tmp_path):
    transport = open_embedded(str(tmp_path / "oracle.db"))
    channel = EmbeddedChannel(transport)
    with pytest.raises(OracleRefused) as caught:
        exchange(channel, NOBODY, 10.0)
    transport.close()
    assert re.fullmatch(r"[0-9a-f]{12}-1", caught.value.request_id)


@pytest.mark.slow
def test_what_is_sent_again_on_a_new_connection_keeps_its_name(tmp_path):
    """The server is restarted between two calls, so the second is sent twice."""
    with OracleProcess(tmp_path, log_level="debug") as process:
        channel = HttpChannel(process.url)
        live = Request("GET", "/livez")
        exchange(channel, live, 10.0)
        process.terminate()
        process.start()
        deadline = time.monotonic() + 10.0
        channel.begin(live, deadline)
        named = channel._request_id
        answer = channel.complete(deadline)
        channel.close()
    assert answer.headers["x-request-id"] == named
