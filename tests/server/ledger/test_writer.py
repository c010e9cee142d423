"""The one thread that writes: what becomes of what is queued, at its end and past its bound.

Seen to fail, each with its guard taken out: `close` emptying the queue, `_put` not looking at
`_closing`, `_put` not looking at `MAX_QUEUED`, a batch run from the newest submission to the
earliest.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest
from support.handles import oracle_of
from support.waiting import wait_until
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.errors import StoreUnavailable
from hyperoracle_server.ledger import writer as module


class HeldOracle:
    """An embedded oracle whose writer is in the midst of a transaction that ends when it is told.

    Whatever is submitted from now on is queued.
    """

    def __init__(self, path: str) -> None:
        self.transport = EmbeddedTransport(path)
        self.wire = Wire(transport=self.transport)
        self.writer = oracle_of(self.transport).ledger.writer
        self._go_on = threading.Event()
        self._held: Future[None] = Future()

    def hold(self) -> None:
        is_held = threading.Event()

        def transaction(_connection: object) -> None:
            is_held.set()
            assert self._go_on.wait(30)

        self.writer._put(module._Submission((), transaction, self._held, self.writer.epoch))
        assert is_held.wait(30)

    def let_go(self) -> None:
        self._go_on.set()
        self._held.result(30)

    def close_while_held(self) -> None:
        closing = threading.Thread(target=self.transport.close)
        closing.start()
        wait_until("the writer is told to close", lambda: self.writer._closing)
        with pytest.raises(StoreUnavailable, match="closing"):
            self.writer.submit((), self.writer.epoch)
        self.let_go()
        closing.join(30)
        assert not closing.is_alive()


@pytest.fixture
def held(tmp_path):
    return HeldOracle(str(tmp_path / "oracle.db"))


def test_what_is_queued_when_an_oracle_closes_is_written(held, tmp_path):
    """Proposals are not waited for by anybody: the end has to write them."""
    held.wire.study("s")
    job = held.wire.job("s")
    held.hold()
    made = [held.wire.propose(job, sequence, seed=sequence).json for sequence in range(1, 6)]
    assert held.writer.queued == 5
    held.close_while_held()
    transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
    wire = Wire(transport=transport)
    # The same would be decided again: only the ledger can tell that it was.
    assert wire.call("GET", "/v1/studies/s").json["proposals"] == 5
    assert [wire.propose(job, s, seed=s).json for s in range(1, 6)] == made
    assert wire.report(job, 6, 5).json["credited"] == 5
    transport.close()


def test_past_the_bound_of_the_queue_changes_are_refused_and_nothing_else(held, monkeypatch):
    monkeypatch.setattr(module, "MAX_QUEUED", 2)
    held.wire.study("s")
    job = held.wire.job("s")
    held.hold()
    answers = [held.wire.propose(job, sequence, seed=sequence) for sequence in (1, 2, 3)]
    assert [answer.status for answer in answers] == [200, 200, 503]
    assert answers[2].json["code"] == "store_unavailable"
    assert "2 changes are waiting" in answers[2].json["detail"]
    held.let_go()
    held.writer.flush()
    assert held.wire.propose(job, 3, seed=3).status == 200
    assert held.wire.report(job, 4, 3).json["credited"] == 3
    held.transport.close()


def test_what_was_submitted_together_is_run_in_the_order_of_submission(held):
    order: list[int] = []
    held.hold()
    futures: list[Future[object]] = [Future() for _ in range(20)]
    for number, future in enumerate(futures):
        held.writer._put(
            module._Submission((), lambda _c, n=number: order.append(n), future, held.writer.epoch)
        )
    held.let_go()
    for future in futures:
        future.result(30)
    assert order == list(range(20))
    held.transport.close()
