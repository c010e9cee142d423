"""Delivers a job's reports in the background: in order, each until it is acknowledged.

Those that wait travel together, as many as the oracle takes at once. After a call the sender
rests, so long that it has no more than a small share of the processor: a loop that reports a
thousand times a second is hardly slower for it, and one that reports now and then is heard at once.
"""

from __future__ import annotations

import array
import json
import logging
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice, takewhile
from typing import Any

from pydantic import ValidationError

from hyperoracle_client.errors import OracleRefused, OracleUnreachable, as_refusal, one_line
from hyperoracle_client.job.circuit import Backoff
from hyperoracle_client.job.delivery.earlier_process import Heritage
from hyperoracle_client.job.delivery.spool import OutgoingReport, Spool
from hyperoracle_client.job.notices import Notices
from hyperoracle_client.settings import ClientSettings
from hyperoracle_client.transports import Channel, Request
from hyperoracle_client.transports.endpoint import exchange, is_passing
from hyperoracle_protocol.codec import BINARY_MEDIA_TYPE, encode_frame
from hyperoracle_protocol.jobs import Receipt, Receipts

logger = logging.getLogger("hyperoracle_client")

_HEADERS = {"content-type": BINARY_MEDIA_TYPE}
_UNAUTHORISED = (401, 403)
_SPILL_SECONDS = 0.25
"""While the oracle is away, reports are written to the spool this often, not one by one: each
writing costs training some 0.2 ms."""
MOST_SHARE = 0.05
"""Of one core, and so of the interpreter that training needs, for sending reports."""
MOST_REST_SECONDS = 0.1
_MOST_BYTES = 1 << 18
"""Of reports that travel together."""
_FAILED_SPILL_SECONDS = 5.0
"""After a spool that could not be written, the next try is made after so long."""


def report_body(report: OutgoingReport) -> bytes:
    """The binary body of a report."""
    numbers = array.array("d", report.episode_returns)
    if sys.byteorder == "big":
        numbers.byteswap()
    metadata = json.dumps(report.metadata(), separators=(",", ":")).encode()
    return encode_frame(metadata, "float64", numbers.tobytes())


def _receipts(answer: bytes, reports: Sequence[OutgoingReport]) -> Receipts:
    """What acknowledges reports; that something answered 2xx does not.

    Args:
        answer: to one report's own call, or to that of several.
        reports: those that were sent.

    Raises:
        OracleUnreachable: it is no such answer, or other reports'.
    """
    try:
        if len(reports) == 1:
            receipts = Receipts(receipts=[Receipt.model_validate_json(answer)])
        else:
            receipts = Receipts.model_validate_json(answer)
    except ValidationError as error:
        raise OracleUnreachable(f"the answer is no receipt: {one_line(error)}") from None
    got = [receipt.sequence for receipt in receipts.receipts]
    expected = [_sequence(report) for report in reports]
    if receipts.refusal is not None:
        expected = expected[: min(len(got), len(expected) - 1)]
    if got != expected:
        raise OracleUnreachable(f"expected the receipts of {expected}, got those of {got}")
    return receipts


def _sequence(report: OutgoingReport) -> int:
    assert report.credits is not None
    return report.credits.sequence


class ReportSender:
    """A task that sends the reports that wait, the earliest first.

    There is one call at a time, so none overtakes another. What fails for a passing reason is sent
    again, with growing pauses, and is on disk meanwhile; the server counts a sequence once. Only
    the oracle's receipt ends that, and only the oracle's own word is a refusal: what something
    else says in its place is passing, whatever its status. What is refused for good is dropped and
    counted. The report before it in the chain is filled in when a report is first sent, so that a
    dropped one leaves no gap; those that travelled behind it were not looked at, and follow the one
    before it.
    """

    def __init__(
        self,
        channel: Channel,
        spool: Spool,
        settings: ClientSettings,
        on_contact: Callable[[], None],
        on_withdrawal: Callable[[], None],
        notices: Notices | None = None,
    ) -> None:
        """Make a sender that holds its reports back until the job has joined.

        Args:
            channel: used by the background thread alone.
            spool: where reports wait while the oracle is away.
            settings: deadlines, pauses and the queue's capacity.
            on_contact: called after each acknowledged report.
            on_withdrawal: called where the oracle withdrew the decision that the job holds.
            notices: told of reports that are dropped, and what the oracle noted of others.
        """
        self._channel = channel
        self._spool = spool
        self._settings = settings
        self._on_contact = on_contact
        self._on_withdrawal = on_withdrawal
        self._notices = notices or Notices()
        self._backoff = Backoff(settings.circuit_least_seconds, settings.circuit_most_seconds)
        self._pending: deque[OutgoingReport] = deque()
        self._lock = threading.Condition()
        self._job_id: str | None = None
        self._at_once = 1
        self._is_resting = False
        self._is_hurried = False
        self._previous: int | None = 0
        self._spilled = 0
        self._has_fixed_on_disk = False  # with the report that each was first sent behind
        self._away = False
        self._next_attempt = -math.inf
        self._next_spill = -math.inf
        self._refusal: str | None = None
        self._told: set[str] = set()
        self.sent = 0
        self.dropped = 0
        self.not_applied = 0
        self.last_error: str | None = None

    @property
    def pending(self) -> int:
        """Reports that wait."""
        return len(self._pending)

    @property
    def spilled(self) -> int:
        """How many of them are on disk."""
        return self._spilled

    def add(self, report: OutgoingReport) -> None:
        """Take a report; past the queue's capacity it is dropped."""
        with self._lock:
            if self._refusal is not None:
                self._drop_one(self._refusal)
            elif len(self._pending) >= self._settings.queue_capacity:
                self._drop_one(f"more than {self._settings.queue_capacity} wait for delivery")
            else:
                self._pending.append(report)

    def join(self, job_id: str, left: Heritage, at_once: int = 1) -> None:
        """The job has joined: reports may go.

        Args:
            job_id: the job's id.
            at_once: how many the oracle takes in one call.
            left: what an earlier process of the same job left: reports on disk, the sequence of
                the last report that the oracle has, and the book that gives the reports that have
                none their sequence and credits.
        """
        with self._lock:
            self._pending.extendleft(reversed(left.reports))
            for report in self._pending:
                if report.credits is None:
                    report.credits = left.book.report()
            self._job_id, self._at_once = job_id, at_once
            self._previous = left.previous
            self._next_attempt = -math.inf
        self.dropped += left.dropped
        if left.reports or self._spilled:
            self._spilled += len(left.reports)  # as long as nothing takes the place of what's there
            if self._write(lambda: self._spool.rewrite(job_id, list(self._pending))):
                self._spilled = len(self._pending)
                self._has_fixed_on_disk = any(report.fixed for report in left.reports)

    def state(self) -> dict[str, Any]:
        """The reports that wait and the sequence of the last one that arrived, as JSON values."""
        with self._lock:
            return {
                "previous": self._previous,
                "reports": [report.fields() for report in self._pending],
            }

    def due(self) -> float:
        """When to send, or to put on disk what cannot be sent."""
        # It rests to the end also where nothing waits: a report meanwhile then wakes nobody.
        has_to = self._job_id is not None and (self._pending or self._is_resting)
        attempt = self._next_attempt if has_to else math.inf
        return min(attempt, self._next_spill) if self._has_to_spill() else attempt

    def run(self) -> None:
        """Send what waits, the earliest first, or put it on disk while the oracle is away."""
        self._is_resting = False
        if self._has_to_spill() and self._next_spill <= time.monotonic():
            self._spill()
        elif self._pending:
            began = time.thread_time()
            self._send()
            self._rest(time.thread_time() - began)

    def _send(self) -> None:
        """Send the earliest reports, as many as may go together."""
        reports, body = self._next_call()
        path = f"/v1/jobs/{self._job_id}/report" + ("s" if len(reports) > 1 else "")
        request = Request("POST", path, _HEADERS, body)
        try:
            answer = exchange(self._channel, request, self._settings.request_deadline_seconds)
            receipts = _receipts(answer.body, reports)
        except OracleRefused as error:
            self._refused(error)
        except OracleUnreachable as error:
            self._retry_later(str(error))
        else:
            for receipt in receipts.receipts:
                self._acknowledged(receipt)
                self._done()
            if receipts.refusal is not None:
                self._refused(as_refusal(receipts.refusal, receipts.refusal.status))

    def _next_call(self) -> tuple[list[OutgoingReport], bytes]:
        """The reports that go next, chained, and the body that they make."""
        with self._lock:
            waiting = list(islice(self._pending, self._at_once))
        reports: list[OutgoingReport] = []
        bodies: list[bytes] = []
        size, previous = 0, self._previous
        for report in waiting:
            was_fixed = report.fixed
            if not was_fixed:
                report.previous_report, report.fixed = previous, True
            body = report_body(report)
            size += len(body)
            if reports and size > _MOST_BYTES:
                report.fixed = was_fixed
                break
            reports.append(report)
            bodies.append(body)
            previous = _sequence(report)
        return reports, b"".join(bodies)

    def _refused(self, error: OracleRefused) -> None:
        """The oracle has refused the report that is the earliest now."""
        if is_passing(error) or error.status in _UNAUTHORISED or error.code is None:
            line = "oracle reports wait, the oracle refuses them for now: %s"
            if line not in self._told:
                self._log_once(line, self._notices.in_short(error))
            self._retry_later(str(error))
            return
        self._done()
        self._drop_one(str(error))
        with self._lock:
            left = list(self._pending) if self._has_fixed_on_disk else []
            sent = list(takewhile(lambda report: report.fixed, self._pending))
        # Those that were sent behind it were not looked at: they follow another one now.
        for report in sent:
            report.previous_report, report.fixed = None, False
        if left and self._write(lambda: self._spool.rewrite(self._job_id, left)):
            self._spilled, self._has_fixed_on_disk = len(left), False

    def _rest(self, seconds: float) -> None:
        """Pause after a call that took so much of the processor, unless it failed or it hurries."""
        if self._next_attempt > time.monotonic() or self._is_hurried:
            return
        pause = min(seconds * (1.0 / MOST_SHARE - 1.0), MOST_REST_SECONDS)
        self._next_attempt = time.monotonic() + pause
        self._is_resting = True

    def _acknowledged(self, receipt: Receipt) -> None:
        self._previous = receipt.sequence
        self.sent += 1
        self._on_contact()
        if receipt.ask_again:
            self._on_withdrawal()
        if receipt.note is not None:
            self._notices.tell("report_note", f"of a report the oracle notes: {receipt.note}")
        if receipt.unknown_fields:
            self._log_once(
                "the oracle, of another release, has ignored what reports say as %s",
                ", ".join(receipt.unknown_fields),
            )
        if receipt.status != "applied":  # reports go one at a time: the oracle has lost some
            self.not_applied += 1
            self._log_once(
                "an oracle report was taken as %r: the oracle has lost what came before it (is its "
                "store restored from a backup?)", receipt.status,
            )  # fmt: skip

    def oracle_is_away(self) -> None:
        """The job cannot join: keep its reports on disk meanwhile."""
        self._away = True

    def give_up(self, why: str) -> None:
        """The oracle will not take the job: drop everything, now and later."""
        with self._lock:
            self._refusal = why
            while self._pending:
                self._pending.popleft()
                self._drop_one(why)
            self._lock.notify_all()

    def hurry(self) -> None:
        """Try again at once, and from now on often: the job is about to end."""
        self._is_hurried = True
        self._next_attempt = -math.inf
        self._backoff = Backoff(self._settings.circuit_least_seconds, 1.0)

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until nothing is pending; whether that is so."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._pending, seconds)

    def spill_rest(self) -> None:
        """Put on disk what is pending, if it can be; the background thread must have ended."""
        if self._spilled < len(self._pending):
            self._spill()

    def what_is_left(self, job_key: str) -> str:
        """One line on the reports that still wait, and where."""
        pending, spilled = len(self._pending), self._spilled
        kept = f"{self._spool.path}: start a job with job_key={job_key!r} to send them"
        if spilled == pending:
            return f"{pending} reports could not be delivered and wait in {kept}"
        return (
            f"{pending} reports could not be delivered, and {pending - spilled} of them are lost "
            f"because they could not be written to disk; {spilled} wait in {kept}"
        )

    def leave_to(self, owner: int) -> None:  # noqa: ARG002 - as forks.Heirloom
        """In a forked child: the reports and their file are the parent's; they can be read."""
        self._lock = threading.Condition()  # who held it is not here

    def _done(self) -> None:
        """The earliest report is settled."""
        self._backoff.reset()
        self._next_attempt = -math.inf
        self._away = False
        with self._lock:
            self._pending.popleft()
            self._spilled = max(0, self._spilled - 1)
            empty = not self._pending
            if empty and self._spool.path.exists():
                self._write(self._spool.clear)
            if empty:
                self._lock.notify_all()

    def _retry_later(self, why: str) -> None:
        self.last_error = why
        self._away = True
        self._next_attempt = time.monotonic() + self._backoff.next_pause()

    def _drop_one(self, why: str) -> None:
        self.dropped += 1
        self.last_error = why
        told = self._notices.in_short(why)
        self._notices.tell("report_dropped", f"oracle report dropped: {told}")

    def _has_to_spill(self) -> bool:
        return self._away and self._spilled < len(self._pending)

    def _spill(self) -> None:
        self._next_spill = time.monotonic() + _SPILL_SECONDS
        with self._lock:
            waiting = list(self._pending)
        fresh = waiting[self._spilled :]
        if self._write(lambda: self._spool.append(self._job_id, fresh)):
            self._spilled = len(waiting)
            self._has_fixed_on_disk |= any(report.fixed for report in fresh)

    def _write(self, write: Callable[[], None]) -> bool:
        """Change the spool; whether that worked."""
        try:
            write()
        except OSError as error:
            self._next_spill = time.monotonic() + _FAILED_SPILL_SECONDS
            self._log_once("oracle reports are kept in memory only, the spool fails: %s", error)
            return False
        return True

    def _log_once(self, message: str, why: object) -> None:
        if message not in self._told:
            self._told.add(message)
            logger.warning(message, why)
