"""The one thread that writes: it commits what has gathered in one transaction (group commit).

What is to be durable wakes it at once; what is not (proposals) waits up to `LAZY_SECONDS` for
company, so that the thread does not contend with every proposal for the interpreter's lock. The
order of submission is kept.

A batch that holds a durable change is committed with `synchronous=FULL` (on disk when its future
resolves); one of proposals only with `NORMAL`, which survives the death of the process but not of
the machine: they are advice, and become durable with the report that credits them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine

from hyperoracle_server.errors import StoreUnavailable
from hyperoracle_server.ledger.statements import LAST_WINS, ORDER, STATEMENTS, Change, Row
from hyperoracle_server.telemetry.failpoints import failpoint
from hyperoracle_server.telemetry.observer import Observer

log = logging.getLogger(__name__)

MAX_QUEUED = 20_000
"""Submissions that may wait; past it new ones are refused."""

MAX_BATCH = 1_000
"""Submissions in one transaction."""

LAZY_SECONDS = 0.05
"""How long a change that need not be durable may wait to be written."""


class _Submission(NamedTuple):
    changes: Sequence[Change]
    transaction: Callable[[Connection], Any] | None
    future: Future[Any] | None
    epoch: int


class Writer:
    """Runs changes on the store's only writing connection, in the order of submission.

    When a transaction fails, everything computed from the state that it would have made fails
    with it: each submission carries the `epoch` in which its state was loaded, a failure begins a
    new epoch, and submissions of an earlier one are refused. Thread-safe.

    Args:
        engine: of the store.
        observer: is told how long durable commits take, and of those that fail.

    Attributes:
        epoch: how many transactions have failed.
        is_connected: set once its connection is open; from then on the journal lies there.
    """

    def __init__(self, engine: Engine, observer: Observer | None = None) -> None:
        self._engine = engine
        self._observer = observer or Observer()
        self._queue: deque[_Submission] = deque()
        self._waiting = threading.Event()  # something is queued
        self._urgent = threading.Event()  # somebody waits for it
        self._closing = False
        self.is_connected = threading.Event()
        self.epoch = 0
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, changes: Sequence[Change], epoch: int) -> None:
        """Write soon, without a promise of durability.

        Raises:
            StoreUnavailable: the queue is full.
        """
        self._put(_Submission(changes, None, None, epoch))

    def submit_durably(self, changes: Sequence[Change], epoch: int) -> Future[Any]:
        """Write; the future resolves once the changes are on disk, or raises StoreUnavailable."""
        future: Future[Any] = Future()
        self._put(_Submission(changes, None, future, epoch))
        return future

    def run(self, transaction: Callable[[Connection], Any]) -> Any:
        """Run a function in a durable transaction of its own and return its result."""
        future: Future[Any] = Future()
        self._put(_Submission((), transaction, future, self.epoch))
        return future.result()

    @property
    def queued(self) -> int:
        """How many submissions wait."""
        return len(self._queue)

    def flush(self) -> None:
        """Wait until everything submitted so far is on disk."""
        self.submit_durably((), self.epoch).result()

    def close(self) -> None:
        """Write what is queued and stop."""
        self._closing = True
        self._waiting.set()
        self._urgent.set()
        self._thread.join()

    def _put(self, submission: _Submission) -> None:
        if len(self._queue) >= MAX_QUEUED or self._closing:
            reason = "it is closing" if self._closing else f"{MAX_QUEUED} changes are waiting"
            raise StoreUnavailable(reason)
        self._queue.append(submission)
        if not self._waiting.is_set():
            self._waiting.set()
        if submission.future is not None:
            self._urgent.set()

    def _run(self) -> None:
        with self._engine.connect() as connection:
            self.is_connected.set()
            while self._queue or not self._closing:
                self._waiting.wait()
                self._urgent.wait(LAZY_SECONDS)
                # Cleared before the queue is emptied: what comes after that sets them again.
                self._waiting.clear()
                self._urgent.clear()
                while self._queue:
                    size = min(MAX_BATCH, len(self._queue))
                    self._commit(connection, [self._queue.popleft() for _ in range(size)])

    def _commit(self, connection: Connection, batch: list[_Submission]) -> None:
        current = [s for s in batch if s.epoch == self.epoch]
        for stale in batch:
            if stale.epoch != self.epoch and stale.future is not None:
                stale.future.set_exception(StoreUnavailable("an earlier change failed"))
        if not current:
            return
        durable = any(s.future is not None for s in current)
        try:
            results = write_batch(connection, current, self._observer, durable=durable)
        except Exception as error:  # whatever went wrong, nobody may be told that it is durable
            log.exception("the ledger could not commit %d submissions", len(current))
            self._fail(current, error)
            return
        for submission, result in zip(current, results, strict=True):
            if submission.future is not None:
                submission.future.set_result(result)

    def _fail(self, batch: list[_Submission], error: Exception) -> None:
        self.epoch += 1
        self._observer.commit_failed()
        reason = StoreUnavailable(str(error).splitlines()[0])
        for submission in batch:
            if submission.future is not None:
                submission.future.set_exception(reason)


def write_batch(
    connection: Connection, batch: Sequence[_Submission], observer: Observer, *, durable: bool
) -> list[Any]:
    """Commit a batch in one transaction; returns each submission's result."""
    if connection.dialect.name == "sqlite":
        cursor = connection.connection.cursor()
        cursor.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        cursor.close()
    results: list[Any] = []
    failpoint("before_write")
    with connection.begin():
        run_changes(connection, (change for s in batch for change in s.changes))
        results.extend(
            s.transaction(connection) if s.transaction is not None else None for s in batch
        )
        failpoint("before_commit")
        commit_started = time.perf_counter()
    failpoint("before_acknowledgement")
    if durable:
        observer.committed(time.perf_counter() - commit_started)
    return results


def run_changes(connection: Connection, changes: Iterable[Change]) -> None:
    """Execute changes grouped by name, in the order of `statements.STATEMENTS`."""
    by_name: dict[str, list[Row]] = {}
    for name, parameters in changes:
        row = parameters() if callable(parameters) else parameters
        by_name.setdefault(name, []).append(row)
    for name in sorted(by_name, key=ORDER.__getitem__):
        rows = by_name[name]
        if name in LAST_WINS:
            key = LAST_WINS[name]
            rows = list({tuple(row[part] for part in key): row for row in rows}.values())
        failpoint("amid_write")
        connection.execute(STATEMENTS[name], rows)
