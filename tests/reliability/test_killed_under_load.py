"""R1 and R16: the server is killed, or asked to stop, while jobs report.

Both would fail with `Writer._put` resolving the future of a submission at once, which
acknowledges before the commit. That the disk has what was committed at a loss of power cannot be
seen by killing a process; `synchronous=FULL` is what it rests on.
"""

from __future__ import annotations

import random
import time

import pytest
from support.load import Load
from support.waiting import wait_until


def killed(process, kills: int, clients: int = 4) -> None:
    chance = random.Random(kills)
    with Load(process, "s", clients) as load:
        for _ in range(kills):
            enough = load.answered + chance.randrange(1, 40)
            wait_until("reports are acknowledged", lambda n=enough: load.answered >= n, 60)
            process.kill()
            process.start()
        enough = load.answered + clients
        wait_until("all go on", lambda: load.answered >= enough, 60)
    load.check(process.store)


def test_no_acknowledged_report_is_lost_or_doubled_by_kills_under_load(oracle_process):
    """R1, quick form."""
    killed(oracle_process, kills=3)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_acknowledged_report_is_lost_or_doubled_by_500_kills(oracle_process):
    """R1, long form."""
    killed(oracle_process, kills=500)


def test_a_server_that_is_asked_to_stop_under_load_loses_nothing_and_is_gone_in_10_seconds(
    oracle_process,
):
    """R16."""
    with Load(oracle_process, "s", 8) as load:
        wait_until("reports are acknowledged", lambda: load.answered >= 40, 60)
        began = time.monotonic()
        assert oracle_process.terminate() in (0, -15)
        took = time.monotonic() - began
        oracle_process.start()
        enough = load.answered + 8
        wait_until("all go on", lambda: load.answered >= enough, 60)
    load.check(oracle_process.store)
    assert took < 10
