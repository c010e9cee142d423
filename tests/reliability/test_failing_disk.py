"""R3: writes fail. No false acknowledgement, reads go on, and it goes on when the disk does."""

from __future__ import annotations

import resource

import pytest
from support.handles import oracle_of
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport

LONG = [10.0] * 5000
"""Returns that need pages of their own."""


def work(wire: Wire, job, first: int, last: int) -> None:
    for i in range(first, last):
        wire.propose(job, 2 * i + 1, seed=i)
        assert wire.report(job, 2 * i + 2, 2 * i + 1, [float(i)]).json["credited"] == 1


def pages(wire: Wire, job) -> list:
    """What reads answer, but for what proposals count."""
    paths = [f"/v1/studies/s/{what}" for what in ("memory", "schedule")]
    paths += [f"/v1/proposals/{job['job_id']}.1/explanation", "/v1/tokens"]
    answers = [wire.call("GET", path) for path in paths]
    assert [answer.status for answer in answers] == [200] * len(paths)
    return [answer.json for answer in answers]


def outage(wire: Wire, job, begin, end) -> None:
    """Ten phases, a failing disk, the same calls again on a good one."""
    work(wire, job, 0, 10)
    wire.propose(job, 21, seed=10)
    assert wire.call("GET", "/readyz").status == 200  # all is on disk, the proposal too
    before = pages(wire, job)
    begin()
    for _ in range(3):
        answer = wire.report(job, 22, 21, LONG)
        assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
        assert "try again" in answer.json["detail"]
    assert wire.report(job, 20, 19, [9.0]).json["credited"] == 1, "the stored answer"
    assert pages(wire, job) == before
    assert wire.call("GET", "/livez").status == 200
    end()
    assert wire.report(job, 22, 21, LONG).json["credited"] == 1
    assert wire.report(job, 22, 21, LONG).json["credited"] == 1, "the stored answer"
    work(wire, job, 11, 14)
    study = wire.call("GET", "/v1/studies/s").json
    assert (study["credited_proposals"], study["memory_size"]) == (14, 14)


@pytest.mark.parametrize("spare_bytes", [0, 1000])
def test_writes_that_the_system_refuses_or_cuts_short_acknowledge_nothing(
    oracle_process, spare_bytes
):
    """The system lets no file of the process grow past its journal's size: the next write fails as
    a whole, or after `spare_bytes`; SQLite calls it an I/O error. Seen to fail
    with `Writer._fail` resolving the futures."""
    wire = Wire(url=oracle_process.url)
    wire.study("s")
    job = wire.job("s")
    journal = oracle_process.store.with_name("oracle.db-wal")
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    def begin() -> None:
        most = journal.stat().st_size + spare_bytes
        limit = (most, resource.RLIM_INFINITY)
        resource.prlimit(oracle_process.pid, resource.RLIMIT_FSIZE, limit)

    def end() -> None:
        resource.prlimit(oracle_process.pid, resource.RLIMIT_FSIZE, unlimited)

    outage(wire, job, begin, end)
    oracle_process.kill()
    oracle_process.start()
    wire.close()
    wire = Wire(url=oracle_process.url)
    assert wire.call("GET", "/v1/studies/s").json["credited_proposals"] == 14
    wire.close()


def test_a_full_disk_acknowledges_nothing(tmp_path):
    """SQLite is let have no more pages: its own error of a full disk. Seen to fail with
    `Writer._fail` resolving the futures."""
    transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
    wire = Wire(transport=transport)
    wire.study("s")
    job = wire.job("s")
    writer = oracle_of(transport).ledger.writer

    def allow(pages: int) -> None:
        writer.run(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar_one())

    outage(wire, job, lambda: allow(1), lambda: allow(1_000_000))  # 1: no more than there are
    transport.close()
