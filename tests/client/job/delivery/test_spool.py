"""Reports on disk: what a death or a full disk leaves of them, and how often they are written."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hyperoracle_client.job.delivery import report_sender
from hyperoracle_client.job.delivery.earlier_process import Heritage
from hyperoracle_client.job.delivery.report_sender import ReportSender
from hyperoracle_client.job.delivery.sequences import ReportCredits, SequenceBook
from hyperoracle_client.job.delivery.spool import OutgoingReport, Spool, read_spool
from hyperoracle_client.settings import ClientSettings
from hyperoracle_client.transports import Channel


def reports(*numbers: int) -> list[OutgoingReport]:
    return [OutgoingReport([float(n)], n, credits=ReportCredits(n, n - 1, 0, [])) for n in numbers]


def numbers_in(spool: Spool) -> list[int]:
    return [report.env_step for report in read_spool(spool.path).reports]


@contextmanager
def no_file_grows_past(size: int) -> Iterator[None]:
    """A write past it is cut short there, and the next one fails: a disk that becomes full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400))
def test_what_is_added_behind_a_torn_line_is_read(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    """Of what a process that died left, whole lines count. Seen to fail (all that was added is
    lost) where the torn line is left in the file."""
    spool = Spool(tmp_path_factory.mktemp("spool"), "s", "key")
    spool.append("j", reports(1, 2, 3))
    whole = spool.path.read_bytes()
    torn = whole[: max(0, len(whole) - cut)]
    spool.path.write_bytes(torn)
    spool.append("j", reports(4, 5))
    survived = max(0, torn.count(b"\n") - 1)
    assert numbers_in(spool) == [*[1, 2, 3][:survived], 4, 5]


@pytest.mark.parametrize("room", [0, 1, 60, 150])
def test_reports_that_a_full_disk_cuts_short_leave_the_file_as_it_was(
    tmp_path: Path, room: int
) -> None:
    """Seen to fail without the truncation after a failed write."""
    spool = Spool(tmp_path, "s", "key")
    spool.append("j", reports(1))
    before = spool.path.read_bytes()
    with no_file_grows_past(len(before) + room), pytest.raises(OSError):  # noqa: PT011 - any
        spool.append("j", reports(2, 3, 4))
    assert spool.path.read_bytes() == before
    spool.append("j", reports(2, 3, 4))
    assert numbers_in(spool) == [1, 2, 3, 4]


def test_a_rewriting_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """Seen to fail with a rewriting that clears the file and appends."""
    spool = Spool(tmp_path, "s", "key")
    spool.append(None, reports(1, 2))
    with no_file_grows_past(20), pytest.raises(OSError):  # noqa: PT011 - any
        spool.rewrite("j", reports(1, 2))
    assert numbers_in(spool) == [1, 2]
    spool.rewrite("j", reports(2))
    assert (read_spool(spool.path).job_id, numbers_in(spool)) == ("j", [2])


class CountedSpool(Spool):
    """Counts what it was given at a time."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "s", "key")
        self.batches: list[int] = []

    def append(self, job_id: str | None, reports: object) -> None:
        batch = list(cast("list[OutgoingReport]", reports))
        self.batches.append(len(batch))
        super().append(job_id, batch)


class Away:
    """A sender whose oracle is away, at times that the test sets."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(report_sender, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.spool = CountedSpool(tmp_path / "spool")
        channel = cast("Channel", None)  # nothing is sent
        self.sender = ReportSender(
            channel, self.spool, ClientSettings(), lambda: None, lambda: None
        )
        self.sender.oracle_is_away()

    def report(self, *numbers: int) -> None:
        for report in reports(*numbers):
            self.sender.add(report)

    def run_when_due(self) -> None:
        """As the job's background thread does."""
        self.now = max(self.now, self.sender.due())
        self.sender.run()


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Away:
    return Away(tmp_path, monkeypatch)


def test_reports_are_written_a_few_times_a_second_and_not_one_by_one(away: Away) -> None:
    """1,000 reports in 1 s. Seen to fail with `_SPILL_SECONDS` 0 (1,000 writings)."""
    for number in range(1, 1001):
        away.report(number)
        if away.sender.due() <= away.now:
            away.sender.run()
        away.now += 1e-3
    away.run_when_due()
    assert sum(away.spool.batches) == 1000
    assert len(away.spool.batches) <= 6
    assert numbers_in(away.spool) == list(range(1, 1001))
    assert away.sender.due() == float("inf"), "nothing is left to write"


def test_what_a_full_disk_refused_is_written_when_it_has_room_again(
    away: Away, tmp_path: Path
) -> None:
    """Seen to fail where what was refused counts as written."""
    away.report(1)
    away.run_when_due()
    with no_file_grows_past(away.spool.path.stat().st_size + 40):
        away.report(2, 3)
        away.run_when_due()
        assert away.sender.spilled == 1
    away.report(4)
    away.run_when_due()
    assert (away.sender.spilled, numbers_in(away.spool)) == (4, [1, 2, 3, 4])


def test_leftovers_that_cannot_be_rewritten_at_the_join_stay_on_disk_and_the_rest_follows(
    away: Away,
) -> None:
    """Seen to fail where a rewriting that failed counts as done."""
    away.spool.append(None, reports(1, 2))  # of an earlier process
    away.report(3)
    with no_file_grows_past(away.spool.path.stat().st_size - 1):
        away.sender.join("j", Heritage(SequenceBook(), reports(1, 2), previous=0))
        assert away.sender.spilled == 2
    away.sender.spill_rest()
    assert (away.sender.spilled, numbers_in(away.spool)) == (3, [1, 2, 3])


@given(study=st.text(min_size=1, max_size=200), key=st.text(min_size=1, max_size=200))
@example(study="../x", key="../../y")
@example(study="/etc/x", key="/etc/y")
@example(study="s" * 128, key="k" * 128)
@example(study=".", key="\0")
def test_a_file_stays_in_its_folder_and_its_name_is_short(study: str, key: str) -> None:
    """Seen to fail: the study's name was the file's. 143 bytes are what an encrypted home takes."""
    path = Spool(Path("/spool"), study, key).path
    assert path.parent == Path("/spool")
    assert len(os.fsencode(path.name)) <= 143
    assert path.name.isascii()
    assert path.name.isprintable()


def test_names_that_differ_in_capitals_alone_have_files_of_their_own() -> None:
    """As on macOS. Seen to fail: the digest was of the key alone."""
    pairs = [("study", "key-1"), ("Study", "key-1"), ("study", "Key-1"), ("study.key", "-1")]
    names = {Spool(Path("/spool"), *pair).path.name.casefold() for pair in pairs}
    assert len(names) == len(pairs)
