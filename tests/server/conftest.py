from __future__ import annotations

import uuid

import pytest
from support.oracle_process import OracleProcess
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport


@pytest.fixture(scope="session")
def running_oracle(tmp_path_factory):
    with OracleProcess(tmp_path_factory.mktemp("oracle")) as oracle:
        yield oracle


@pytest.fixture(params=["embedded", "http"])
def wire(request, tmp_path):
    """The same calls, in-process and over a real socket to a real server process."""
    if request.param == "http":
        caller = Wire(url=request.getfixturevalue("running_oracle").url)
        yield caller
        caller.close()
    else:
        transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
        yield Wire(transport=transport)
        transport.close()


@pytest.fixture
def embedded(tmp_path):
    transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
    yield Wire(transport=transport)
    transport.close()


@pytest.fixture
def no_upkeep(monkeypatch):
    """What the oracle does beside its calls, rounds of encoders say, is done by the test alone."""
    monkeypatch.setattr("hyperoracle_server.oracle.upkeep.LOOK_SECONDS", 3600.0)


@pytest.fixture
def name():
    """A study name that no other test uses."""
    return f"study-{uuid.uuid4().hex[:12]}"
