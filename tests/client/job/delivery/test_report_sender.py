from __future__ import annotations

import errno
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client.conftest import eventually
from client.scripted_oracle import (
    ScriptedOracle,
    answer,
    answer_then_lose_it,
    break_the_connection,
    garbage,
    hang,
    refuse,
    reply_with,
)

from hyperoracle_client import Job, OracleUnreachable
from hyperoracle_client.job.delivery import report_sender
from hyperoracle_client.job.delivery.report_sender import MOST_REST_SECONDS
from hyperoracle_client.job.delivery.spool import Spool, read_spool
from hyperoracle_protocol.codec import decode_frame

QUICK = {"circuit_least_seconds": 0.001, "circuit_most_seconds": 0.01}
KEY = "a-key-of-its-own"

Start = Callable[..., Job]


def spool_file(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "spool").glob("*.jsonl")
    return path


def test_a_report_brings_everything_and_says_what_it_credits(
    server: ScriptedOracle, start: Start
) -> None:
    job = start()
    job.report([1.0, -2.5], env_step=100, phase_return=0.5)
    job.propose(env_step=100)
    job.propose(env_step=100)
    job.report([], env_step=200, custom_return=3.0)
    server.wait_for("report", 2)
    (first, returns, _), (second, none, _) = server.of("report")
    np.testing.assert_array_equal(returns, [1.0, -2.5])
    assert (first.sequence, first.credits_through, first.previous_report) == (1, 0, 0)
    assert (first.env_step, first.phase_return, first.custom_return) == (100, 0.5, None)
    assert (second.sequence, second.credits_through, second.credits_after) == (4, 3, 0)
    assert (second.previous_report, second.custom_return) == (1, 3.0)
    assert len(none) == 0


def test_returns_that_are_not_finite_are_dropped_and_counted(
    server: ScriptedOracle, start: Start
) -> None:
    job = start()
    job.report([1.0, float("nan"), float("-inf")], env_step=1, phase_return=float("nan"))
    server.wait_for("report", 1)
    message, returns, _ = server.of("report")[0]
    assert (list(returns), message.phase_return) == ([1.0], None)
    assert message.dropped_returns == {"episode_returns": 2, "phase_return": 1}
    assert job.stats.non_finite_returns == 3


@pytest.mark.parametrize(
    "behaviour",
    [answer_then_lose_it, break_the_connection, garbage, refuse(503, "overloaded"),
     reply_with(b"busy", 429), refuse(401), reply_with(b'{"hello": "world"}'),
     reply_with(b'{"sequence": 999, "status": "applied", "credited": 1}'),
     reply_with(b"<html>not found</html>", 404)],
)  # fmt: skip
def test_each_report_counts_once_and_in_order_whatever_happens_on_the_way(
    server: ScriptedOracle, start: Start, behaviour: Callable
) -> None:
    job = start(QUICK)
    server.script["report"].extend([behaviour, behaviour, behaviour])
    for n in range(5):
        job.report([float(n)], env_step=n)
        server.script["report"].append(behaviour)
    stats = job.finish()
    assert (stats.reports_sent, stats.reports_pending, stats.reports_dropped) == (5, 0, 0)
    assert sorted(server.accepted) == [1, 2, 3, 4, 5]  # each with one body, or it would conflict
    first_arrivals = list(dict.fromkeys(m.sequence for m, _, _ in server.of("report")))
    assert first_arrivals == [1, 2, 3, 4, 5]


def test_a_report_that_is_refused_is_dropped_and_leaves_no_gap(
    server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    job = start()
    with caplog.at_level(logging.WARNING, "hyperoracle_client"):
        job.report([1.0], env_step=1)
        server.wait_for("report", 1)
        server.script["report"].extend([refuse(422), refuse(422)])
        for n in range(2, 5):
            job.report([1.0], env_step=n)
        stats = job.finish()
    assert (stats.reports_sent, stats.reports_dropped) == (2, 2)
    chain = [(m.sequence, m.previous_report) for m, _, _ in server.of("report")]
    assert chain == [(1, 0), (2, 1), (3, 1), (4, 1)]
    assert sum("dropped" in record.getMessage() for record in caplog.records) == 1


def held_back(server: ScriptedOracle, job: Job, count: int) -> None:
    """Reports 1, on its way and not answered yet, and so many more that wait behind it."""
    answered = threading.Event()

    def wait(handler: Any) -> None:
        assert answered.wait(10)
        answer(handler)

    server.script["report"].append(wait)
    job.report([1.0], env_step=1)
    server.wait_for("report", 1)
    for n in range(2, 2 + count):
        job.report([float(n)], env_step=n)
    answered.set()


def test_reports_that_wait_travel_together(server: ScriptedOracle, start: Start) -> None:
    server.reports_at_once = 4
    job = start()
    held_back(server, job, 9)
    stats = job.finish()
    assert (stats.reports_sent, stats.reports_pending) == (10, 0)
    assert [len(together) for together in server.of("reports")] == [4, 4]
    assert sorted(server.accepted) == list(range(1, 11))
    chain = [(m.sequence, m.previous_report) for m, _, _ in server.of("report")]
    assert chain == [(n, n - 1) for n in range(1, 11)]


def test_an_oracle_of_an_earlier_release_gets_them_one_by_one(
    server: ScriptedOracle, start: Start
) -> None:
    job = start()
    held_back(server, job, 5)
    assert job.finish().reports_sent == 6
    assert server.of("reports") == []


@pytest.mark.parametrize(
    "behaviour",
    [answer_then_lose_it, break_the_connection, garbage, refuse(503, "overloaded"),
     reply_with(b'{"receipts": []}'), reply_with(b'{"hello": "world"}'),
     reply_with(b'{"receipts": [{"sequence": 3, "status": "applied", "credited": 1}]}'),
     reply_with(b'{"receipts": [{"sequence": 2, "status": "applied", "credited": 1}]}')],
)  # fmt: skip
def test_what_travelled_together_counts_once_whatever_happens_on_the_way(
    server: ScriptedOracle, start: Start, behaviour: Callable
) -> None:
    server.reports_at_once = 3
    server.script["reports"].extend([behaviour, behaviour])
    job = start(QUICK)
    held_back(server, job, 7)
    stats = job.finish()
    assert (stats.reports_sent, stats.reports_pending, stats.reports_dropped) == (8, 0, 0)
    assert sorted(server.accepted) == list(range(1, 9))  # each with one body, or it would conflict


@pytest.mark.parametrize("refused", [{2}, {4}, {5}, {2, 3}, {3, 5}, {2, 3, 4, 5, 6, 7}])
def test_one_of_several_that_is_refused_is_dropped_and_leaves_no_gap(
    refused: set[int], server: ScriptedOracle, start: Start
) -> None:
    """Would fail if those behind it kept the predecessor that they were first sent with."""
    server.reports_at_once, server.refused = 4, refused
    # Alone it is refused as well.
    job = start(QUICK)
    server.always["report"] = lambda handler: (
        refuse(422) if handler.message[0].sequence in refused else answer
    )(handler)
    held_back(server, job, 6)
    stats = job.finish()
    kept = [n for n in range(1, 8) if n not in refused]
    assert (stats.reports_sent, stats.reports_dropped) == (len(kept), len(refused))
    assert sorted(server.accepted) == kept
    bodies = [json.loads(bytes(decode_frame(server.accepted[n]).metadata)) for n in kept]
    assert [body["previous_report"] for body in bodies] == [0, *kept[:-1]]


def test_what_is_on_disk_after_a_refusal_follows_no_report_that_was_dropped(
    server: ScriptedOracle, start: Start, tmp_path: Path
) -> None:
    server.reports_at_once, server.refused = 3, {2}
    server.script["reports"].append(refuse(503, "overloaded"))  # to the spool with them
    server.script["reports"].append(answer)
    server.always["reports"] = server.always["report"] = refuse(503, "overloaded")
    job = start({**QUICK, "finish_deadline_seconds": 0.5}, job_key=KEY)
    held_back(server, job, 3)
    eventually(lambda: job.stats.reports_dropped == 1)
    job.finish()
    spooled = read_spool(spool_file(tmp_path))
    found = [(r.credits and r.credits.sequence, r.previous_report) for r in spooled.reports]
    assert found == [(3, None), (4, None)]


def test_a_job_that_is_gone_costs_one_rewrite_of_the_spool_whatever_waits(
    server: ScriptedOracle, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would fail with a rewrite for each report that is refused: with thousands, for minutes."""
    rewrites = []
    rewrite = Spool.rewrite

    def count(spool: Spool, *arguments: Any) -> None:
        rewrites.append(arguments)
        rewrite(spool, *arguments)

    monkeypatch.setattr(Spool, "rewrite", count)
    server.reports_at_once = 8
    server.script["reports"].append(refuse(503, "overloaded"))  # to the spool with them
    server.always["reports"] = server.always["report"] = refuse(404, "job_not_found")
    job = start(QUICK)
    held_back(server, job, 40)
    eventually(lambda: job.stats.reports_dropped == 40)
    assert len(rewrites) <= 1
    job.finish()


def test_a_sender_takes_a_small_share_of_the_processor(
    server: ScriptedOracle, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock of the thread that sends: each call is said to have taken a second of it."""
    clock = itertools.count()
    monkeypatch.setattr(report_sender.time, "thread_time", lambda: float(next(clock)))
    server.reports_at_once = 32
    job = start()
    job.report([0.0], env_step=0)
    began = time.monotonic()
    eventually(lambda: job.stats.reports_sent == 1)
    while job.stats.reports_sent < 20:
        job.report([0.0], env_step=1)
    assert len(server.of("reports")) <= 1 + (time.monotonic() - began) / MOST_REST_SECONDS


def test_reports_that_wait_for_a_token_say_so_once(
    server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen to fail: they waited in silence."""
    server.script["report"].extend(refuse(401, "unauthenticated") for _ in range(3))
    job = start(QUICK)
    job.report([1.0], env_step=1)
    assert job.finish().reports_sent == 1
    assert len([r for r in caplog.records if "refuses them for now" in r.getMessage()]) == 1


def test_a_lease_that_the_oracle_does_not_keep_is_said_once(
    server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen to fail: nobody was told that the oracle does not know the job."""
    server.lease_seconds = 0.1
    server.always["heartbeat"] = refuse(404, "job_not_found")
    job = start(QUICK)
    server.wait_for("heartbeat", 3)
    assert len([r for r in caplog.records if "lease is not kept" in r.getMessage()]) == 1
    job.end(0.0)


def test_what_an_oracle_that_is_closed_could_not_deliver_is_said_also_where_it_is_to_raise(
    server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen to fail: what `end` may not raise it did not say either."""
    job = start({**QUICK, "on_error": "raise"})
    server.die()
    job.report([1.0], env_step=1)
    job.end(0.05)
    assert [r for r in caplog.records if "1 reports could not be delivered" in r.getMessage()]


@pytest.mark.parametrize("status", ["waiting", "late"])
def test_reports_that_the_oracle_does_not_apply_are_counted_and_said_once(
    server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture, status: str
) -> None:
    """A running job whose oracle's store was restored. Seen to fail: they counted as sent."""
    receipts = ({"sequence": n, "status": status, "credited": 0} for n in (1, 2))
    server.script["report"].extend(reply_with(json.dumps(one).encode()) for one in receipts)
    job = start()
    for n in range(3):
        job.report([1.0], env_step=n)
    stats = job.finish()
    assert (stats.reports_sent, stats.reports_not_applied) == (3, 2)
    assert len([r for r in caplog.records if status in r.getMessage()]) == 1


def test_more_reports_than_may_wait_are_dropped_and_counted(
    server: ScriptedOracle, start: Start
) -> None:
    server.always["report"] = refuse(503, "overloaded")
    job = start({**QUICK, "queue_capacity": 3, "finish_deadline_seconds": 0.05})
    for n in range(10):
        job.report([1.0], env_step=n)
    assert (job.stats.reports_pending, job.stats.reports_dropped) == (3, 7)
    assert "more than 3 wait" in job.stats.last_error or "overloaded" in job.stats.last_error


def test_reporting_never_waits(server: ScriptedOracle, start: Start) -> None:
    server.always["report"] = hang
    job = start({"request_deadline_seconds": 0.5, "finish_deadline_seconds": 0.05})
    for n in range(100):
        job.report([1.0], env_step=n)
    assert job.stats.report_seconds < 0.05


class TestSpool:
    def test_what_waits_is_on_disk_while_the_oracle_is_away_and_gone_when_delivered(
        self, server: ScriptedOracle, start: Start, tmp_path: Path
    ) -> None:
        job = start(QUICK, job_key=KEY)
        server.die()
        for n in range(3):
            job.report([float(n)], env_step=n)
        eventually(lambda: job.stats.reports_spooled == 3)
        spooled = read_spool(spool_file(tmp_path))
        assert (spooled.study, spooled.job_key, spooled.job_id) == ("s", KEY, "j1")
        assert [report.episode_returns for report in spooled.reports] == [[0.0], [1.0], [2.0]]
        server.come_back()
        eventually(lambda: job.stats.reports_pending == 0)
        assert not list((tmp_path / "spool").iterdir())
        assert sorted(server.accepted) == [1, 2, 3]

    def test_a_resumed_job_sends_what_its_first_process_could_not(
        self, server: ScriptedOracle, start: Start, tmp_path: Path
    ) -> None:
        first = start({**QUICK, "finish_deadline_seconds": 0.05}, job_key=KEY)
        first.propose(env_step=0)
        first.report([1.0], env_step=10)
        server.wait_for("report", 1)
        eventually(lambda: first.stats.reports_pending == 0)
        server.always["report"] = answer_then_lose_it  # it has the next, and nobody knows
        first.propose(env_step=10)
        first.report([2.0], env_step=20)
        server.wait_for("report", 2)
        first.report([3.0], env_step=30)
        assert first.finish().reports_pending == 2

        del server.always["report"]
        server.last_sequence = 4
        second = start(QUICK, job_key=KEY)
        second.propose(env_step=30)
        second.report([4.0], env_step=40)
        assert second.finish().reports_pending == 0
        wire = {m.sequence: m for m, _, _ in server.of("report")}
        assert sorted(wire) == [2, 4, 5, 7]
        assert (wire[5].credits_after, wire[5].credits_through) == (3, 3)
        assert (wire[5].previous_report, wire[7].previous_report) == (4, 5)
        assert (wire[7].credits_after, wire[7].credits_through) == (5, 6)
        assert not list((tmp_path / "spool").iterdir())

    def test_reports_of_a_process_that_never_joined_are_sent_by_the_next(
        self, server: ScriptedOracle, start: Start
    ) -> None:
        server.die()
        alone = {**QUICK, "start_deadline_seconds": 0.02, "finish_deadline_seconds": 0.02}
        first = start(alone, job_key=KEY)
        first.report([1.0], env_step=10)
        assert first.finish().reports_pending == 1
        server.come_back()
        second = start(QUICK, job_key=KEY)
        second.report([2.0], env_step=20)
        second.finish()
        assert [(m.sequence, m.previous_report, list(r)) for m, r, _ in server.of("report")] == [
            (1, 0, [1.0]),
            (2, 1, [2.0]),
        ]

    def test_reports_of_another_job_are_not_sent_but_counted_and_put_aside(
        self, server: ScriptedOracle, start: Start, tmp_path: Path
    ) -> None:
        """Seen to fail: they were dropped without being counted, and what the new job could not
        deliver was added to their file, under their job, to be dropped the next time."""
        first = start({**QUICK, "finish_deadline_seconds": 0.02}, job_key=KEY)
        server.die()
        first.report([1.0], env_step=10)
        first.finish()
        path = spool_file(tmp_path)
        path.write_text(path.read_text().replace('"j1"', '"j0"'))
        server.come_back()
        second = start({**QUICK, "finish_deadline_seconds": 0.02}, job_key=KEY)
        assert second.stats.reports_dropped == 1
        assert [left.suffix for left in path.parent.iterdir()] == [".other-job"]
        server.die()
        second.report([2.0], env_step=20)
        second.finish()
        server.come_back()
        third = start(QUICK, job_key=KEY)
        assert third.finish().reports_dropped == 0
        assert [list(returns) for _, returns, _ in server.of("report")] == [[2.0]]

    def test_what_waits_follows_the_oracles_last_report_where_its_store_was_restored(
        self, server: ScriptedOracle, start: Start
    ) -> None:
        """Seen to fail: it waited at the oracle for a report that it has lost."""
        first = start({**QUICK, "finish_deadline_seconds": 0.02}, job_key=KEY)
        first.report([1.0], env_step=10)
        server.wait_for("report", 1)
        eventually(lambda: first.stats.reports_pending == 0)
        server.always["report"] = break_the_connection
        first.report([2.0], env_step=20)
        server.wait_for("report", 2)
        first.report([3.0], env_step=30)
        assert first.finish().reports_pending == 2
        del server.always["report"]
        server.calls.clear()
        server.last_sequence = server.last_report = 0  # its store was restored from a backup
        second = start(QUICK, job_key=KEY)
        second.finish()
        wire = [(m.sequence, m.previous_report) for m, _, _ in server.of("report")]
        assert wire == [(2, None), (3, 2)]

    def test_a_torn_last_line_costs_only_itself(
        self, server: ScriptedOracle, start: Start, tmp_path: Path
    ) -> None:
        first = start({**QUICK, "finish_deadline_seconds": 0.02}, job_key=KEY)
        server.die()
        first.report([1.0], env_step=10)
        first.report([2.0], env_step=20)
        first.finish()
        path = spool_file(tmp_path)
        path.write_text(path.read_text()[:-10])
        server.come_back()
        second = start(QUICK, job_key=KEY)
        second.finish()
        assert [list(returns) for _, returns, _ in server.of("report")] == [[1.0]]

    def test_a_damaged_line_costs_only_itself_and_is_counted(
        self, server: ScriptedOracle, start: Start, tmp_path: Path
    ) -> None:
        """Seen to fail: everything behind it was dropped in silence."""
        first = start({**QUICK, "finish_deadline_seconds": 0.02}, job_key=KEY)
        server.die()
        for n in range(4):
            first.report([float(n)], env_step=n)
        first.finish()
        path = spool_file(tmp_path)
        header, *lines = path.read_text().splitlines()
        path.write_text("\n".join([header, lines[0], "{}", lines[2][:-9], lines[3]]) + "\n")
        server.come_back()
        second = start(QUICK, job_key=KEY)
        assert second.finish().reports_dropped == 2
        assert [list(returns) for _, returns, _ in server.of("report")] == [[0.0], [3.0]]

    def test_a_file_that_is_no_spool_is_put_aside(
        self, server: ScriptedOracle, start: Start, tmp_path: Path
    ) -> None:
        first = start({**QUICK, "finish_deadline_seconds": 0.02}, job_key=KEY)
        server.die()
        first.report([1.0], env_step=10)
        first.finish()
        path = spool_file(tmp_path)
        path.write_bytes(b"\x00\xff\x00")
        server.come_back()
        assert start(QUICK, job_key=KEY).stats.joined
        assert [left.suffix for left in path.parent.iterdir()] == [".damaged"]

    def test_what_a_full_disk_refused_is_written_when_there_is_space(
        self, server: ScriptedOracle, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a disk that becomes full leaves of a file is `test_spool.py`'s. Seen to fail where
        what was refused counts as written."""
        monkeypatch.setattr(report_sender, "_FAILED_SPILL_SECONDS", 0.01)
        is_full, was_refused = threading.Event(), threading.Event()
        append = Spool._append_to

        def refused(spool: Spool, path: Path, job_id: str | None, reports: list) -> None:
            if is_full.is_set():
                was_refused.set()
                raise OSError(errno.ENOSPC, "no space left on device")
            append(spool, path, job_id, reports)

        monkeypatch.setattr(Spool, "_append_to", refused)
        job = start(QUICK, job_key=KEY)
        server.die()
        job.report([0.0], env_step=0)
        eventually(lambda: job.stats.reports_spooled == 1)
        is_full.set()
        job.report([1.0], env_step=1)
        assert was_refused.wait(10)
        job.report([2.0], env_step=2)
        assert job.stats.reports_spooled == 1
        is_full.clear()
        eventually(lambda: job.stats.reports_spooled == 3)
        spooled = read_spool(spool_file(tmp_path))
        assert [report.episode_returns for report in spooled.reports] == [[0.0], [1.0], [2.0]]
        server.come_back()

    def test_without_a_place_for_it_reports_wait_in_memory(
        self,
        server: ScriptedOracle,
        start: Start,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        (tmp_path / "file").write_text("not a directory")
        job = start({**QUICK, "spool_directory": tmp_path / "file" / "spool"})
        with caplog.at_level(logging.WARNING, "hyperoracle_client"):
            server.die()
            job.report([1.0], env_step=1)
            eventually(lambda: any("in memory only" in r.getMessage() for r in caplog.records))
            server.come_back()
            eventually(lambda: job.stats.reports_sent == 1)


class TestFinish:
    def test_it_delivers_everything_and_then_ends_the_job(
        self, server: ScriptedOracle, start: Start
    ) -> None:
        job = start()
        for n in range(50):
            job.report([1.0], env_step=n)
        assert job.finish().reports_sent == 50
        kinds = [kind for kind, _ in server.calls]
        assert kinds[-1] == "finish"
        assert server.of("finish")[0].env_step == 49
        assert job.finish() == job.stats  # a second time does nothing
        assert len(server.of("finish")) == 1

    def test_it_is_bounded_and_says_what_is_left(
        self, server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        job = start({**QUICK, "finish_deadline_seconds": 0.1})
        server.die()
        job.report([1.0], env_step=1)
        with caplog.at_level(logging.WARNING, "hyperoracle_client"):
            stats = job.finish()
        assert (stats.reports_pending, stats.reports_spooled) == (1, 1)
        assert job.key in caplog.text

    def test_it_does_not_wait_for_an_answer_that_does_not_come(
        self, server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its own deadline counts, not that of a request, which is 60 times as long."""
        server.always["report"] = hang
        job = start({"finish_deadline_seconds": 0.5, "request_deadline_seconds": 30.0}, job_key=KEY)
        for n in range(3):
            job.report([1.0], env_step=n)
        server.wait_for("report", 1)
        began = time.monotonic()
        with caplog.at_level(logging.WARNING, "hyperoracle_client"):
            stats = job.finish()
        assert time.monotonic() - began < 15.0
        assert (stats.reports_pending, stats.reports_spooled) == (3, 3)
        (line,) = [each.getMessage() for each in caplog.records]
        assert "3 reports could not be delivered and wait in" in line
        assert KEY in line

    def test_it_does_not_claim_that_something_waits_on_a_disk_that_takes_nothing(
        self,
        server: ScriptedOracle,
        start: Start,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Seen to fail where what was to be written counts as written."""
        (tmp_path / "file").write_text("not a directory")
        job = start({**QUICK, "finish_deadline_seconds": 0.1,
                     "spool_directory": tmp_path / "file" / "spool"})  # fmt: skip
        server.die()
        for n in range(2):
            job.report([1.0], env_step=n)
        with caplog.at_level(logging.WARNING, "hyperoracle_client"):
            stats = job.finish()
        assert (stats.reports_pending, stats.reports_spooled) == (2, 0)
        assert "2 of them are lost" in caplog.records[-1].getMessage()

    def test_it_raises_what_is_left_if_asked_to(self, server: ScriptedOracle, start: Start) -> None:
        job = start({**QUICK, "finish_deadline_seconds": 0.05, "on_error": "raise"})
        server.die()
        job.report([1.0], env_step=1)
        with pytest.raises(OracleUnreachable, match="1 reports could not be delivered"):
            job.finish()


def test_a_report_after_the_end_is_told_once_and_stops_nothing(
    server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    job = start()
    job.finish()
    with caplog.at_level(logging.WARNING, "hyperoracle_client"):
        job.report([1.0], env_step=1)
        job.report([1.0], env_step=2)
    assert len(caplog.records) == 1
    assert job.stats.reports_pending == 0


def test_an_idle_job_keeps_its_lease(server: ScriptedOracle, start: Start) -> None:
    server.lease_seconds = 0.3
    job = start()
    job.report([1.0], env_step=123)
    server.wait_for("heartbeat", 2)
    assert server.of("heartbeat")[0].env_step == 123


def test_a_busy_job_sends_no_heartbeats(server: ScriptedOracle, start: Start) -> None:
    server.lease_seconds = 60.0
    job = start()
    for n in range(20):
        job.report([1.0], env_step=n)
        job.propose(env_step=n)
    job.finish()
    assert not server.of("heartbeat")
