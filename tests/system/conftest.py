from __future__ import annotations

import pytest
from support.oracle_process import OracleProcess


@pytest.fixture
def oracle_process(tmp_path):
    with OracleProcess(tmp_path) as process:
        yield process
