from __future__ import annotations

import pytest
from support.oracle_process import OracleProcess
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport


@pytest.fixture
def oracle_process(tmp_path):
    with OracleProcess(tmp_path) as process:
        yield process


@pytest.fixture
def embedded(tmp_path):
    transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
    yield Wire(transport=transport)
    transport.close()
