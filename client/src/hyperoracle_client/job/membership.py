"""A job's place at its oracle: taken in the background, kept, and given up at the end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from hyperoracle_client.errors import OracleError, OracleRefused, OracleUnreachable
from hyperoracle_client.hyper_state import make_compressor
from hyperoracle_client.hyper_state.tensors import TensorSource
from hyperoracle_client.job.circuit import Circuit
from hyperoracle_client.job.delivery.earlier_process import EarlierProcess
from hyperoracle_client.job.delivery.report_sender import ReportSender
from hyperoracle_client.job.delivery.spool import OutgoingReport, Spool
from hyperoracle_client.job.notices import Notices
from hyperoracle_client.job.session import Asker, NoAnswer, Session
from hyperoracle_client.job.stats import Counts
from hyperoracle_client.job.tasks import Background, HeartbeatTask, JoinTask, ProbeTask
from hyperoracle_client.transports.endpoint import Endpoint
from hyperoracle_protocol.jobs import FinishJob, StartedJob, StartJob
from hyperoracle_protocol.studies import StudyDefinition

logger = logging.getLogger("hyperoracle_client")


class Membership:
    """What one job has running beside training, and the session that it comes to.

    It has two channels: one for proposals, which the training thread waits for, and one for what
    the background thread sends. The circuit settles who uses the former.

    Attributes:
        session: with the oracle, None until it has taken the job.
        key: the job's.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        study: str,
        definition: StudyDefinition,
        start: StartJob,
        source: TensorSource,
        *,
        prefetch: bool,
        resume_from: Mapping[str, Any] | None,
        lock: threading.RLock,
        counts: Counts,
        notices: Notices,
        env_step: Callable[[], int],
    ) -> None:
        """Prepare; `begin` begins to join.

        Args:
            endpoint: the oracle.
            study: its name.
            definition: the study's.
            start: the job to start, with its key.
            source: the job's tensors.
            prefetch: see `Session`.
            resume_from: what an earlier process's `Job.state` gave.
            lock: the job's calls are made under it; a session begins under it.
            counts: the job's.
            notices: the job's.
            env_step: the job's environment steps so far.
        """
        assert start.job_key is not None
        settings = endpoint.settings
        self.session: Session | None = None
        self.key = start.job_key
        self._endpoint = endpoint
        self._settings = settings
        self._space = definition.space
        self._start = start
        self._source = source
        self._prefetch = prefetch
        self._lock = lock
        self._counts = counts
        self._notices = notices
        self._channel, self._background_channel = endpoint.channel(), endpoint.channel()
        self._circuit = Circuit(
            settings.circuit_least_seconds, settings.circuit_most_seconds, notices.in_short
        )
        self._heartbeat = HeartbeatTask(
            self._background_channel, settings.request_deadline_seconds, env_step, notices
        )
        spool = Spool(settings.spool_directory, study, self.key)
        self._earlier = EarlierProcess(spool, resume_from)
        self._sender = ReportSender(
            self._background_channel, spool, settings,
            on_contact=self._heartbeat.contact, on_withdrawal=self._withdraw, notices=notices,
        )  # fmt: skip
        self._join = JoinTask(
            endpoint, definition, study, start,
            on_joined=self._joined, on_away=self._sender.oracle_is_away,
            on_refused=lambda error: self._sender.give_up(str(error)), notices=notices,
        )  # fmt: skip
        probe = ProbeTask(self._channel, self._circuit, settings.propose_deadline_seconds)
        self._background = Background(
            f"hyperoracle-{study}", (self._join, probe, self._sender, self._heartbeat)
        )

    def begin(self) -> None:
        """Begin to join in the background."""
        self._background.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the oracle to take the job; whether it has.

        Raises:
            OracleRefused: it will not.
            OracleUnreachable: it did not answer in time, and `on_error` is "raise".
        """
        self._join.wait(seconds)
        if self._settings.on_error == "raise" and self.session is None:
            raise OracleUnreachable(
                f"{self._endpoint.url} did not start the job within {seconds} s: "
                f"{self._join.last_error or 'no answer'}"
            )
        return self.session is not None

    def joined_session(self) -> Session:
        """The session.

        Raises:
            NoAnswer: there is none; the message says why.
        """
        if self.session is None:
            refusal = self._join.refusal
            raise NoAnswer("not joined yet" if refusal is None else f"refused: {refusal}")
        return self.session

    def deliver(self, report: OutgoingReport) -> None:
        """Give a report its sequence and credits, if the job has joined, and send it."""
        if self.session is not None:
            report.credits = self.session.book.report()
            report.applied = self.session.book.applied() or None
        self._sender.add(report)
        self._background.wake_for(self._sender)

    def told(self) -> dict[str, Any]:
        """What `JobStats` says of the oracle, of delivery, and of trouble in the background."""
        sender = self._sender
        trouble = sender.last_error if sender.last_error is not None else self._join.last_error
        return {
            "joined": self.session is not None,
            "circuit": "open" if self._circuit.is_open else "closed",
            "circuit_openings": self._circuit.openings,
            "reports_sent": sender.sent,
            "reports_not_applied": sender.not_applied,
            "reports_pending": sender.pending,
            "reports_spooled": sender.spilled,
            "reports_dropped": sender.dropped,
            "background_seconds": self._background.cpu_seconds,
            "last_error": None if trouble is None else str(trouble),
        }

    def state(self) -> dict[str, Any]:
        """Its part of `Job.state`."""
        session = self.session
        return {
            "job_key": self.key,
            "job_id": None if session is None else session.started.job_id,
            "session": None if session is None else session.state(),
            **self._sender.state(),
        }

    def end(self, finish: Callable[[], FinishJob], seconds: float) -> str | None:
        """Deliver what waits, tell the oracle, let go of thread and connections.

        An interrupt cuts it short: what was not delivered then still goes to disk.

        Args:
            finish: what the oracle is told, once the reports are delivered: they may bring notices.
            seconds: for delivering; telling gets half a second at least.

        Returns:
            Why the oracle was not told, if it should have been.

        Raises:
            OracleUnreachable: reports are left, only with `on_error="raise"`.
        """
        deadline = time.monotonic() + seconds
        trouble = None
        try:
            self._join.hurry()
            self._sender.hurry()
            self._background.wake()
            delivered = self._sender.wait_until_empty(seconds)
            if delivered and self.session is not None:  # it may have joined just now
                trouble = self._tell(self.session.started.job_id, finish(), deadline)
        except BaseException:
            self._let_go(0.5)
            if self._sender.pending:
                logger.warning("%s", self._sender.what_is_left(self.key))
            raise
        self._let_go(max(0.5, deadline - time.monotonic()))
        if self._sender.pending:
            left = self._sender.what_is_left(self.key)
            if self._settings.on_error == "raise":
                raise OracleUnreachable(left)
            logger.warning("%s", left)
        return trouble

    def abandon(self) -> None:
        """Give up joining."""
        self._background.stop(0.0)

    def leave_to(self, owner: int, lock: threading.RLock) -> None:
        """In a forked child: all of it is the process `owner`'s; the job has a new lock here."""
        self._lock = lock
        self._sender.leave_to(owner)
        self._channel.close()
        self._background_channel.close()

    def _joined(self, started: StartedJob) -> None:
        """The oracle has taken the job (called in the background).

        Raises:
            OracleRefused: it wants a hyper-state that this job's tensors cannot give.
        """
        try:
            compressor = make_compressor(started.layout, self._start.tensors)
        except OracleError as error:
            raise OracleRefused(str(error), status=422) from None
        try:
            self._channel.connect(time.monotonic() + self._settings.request_deadline_seconds)
        except OracleUnreachable as error:
            self._circuit.failed(str(error))
        left = self._earlier.left_to(started)
        session = Session(
            started, Asker(self._channel, started, self._space), self._circuit, left.book,
            self._counts,
            source=self._source, compressor=compressor, prefetch=self._prefetch,
            total_env_steps=self._start.total_env_steps,
            on_contact=self._heartbeat.contact, on_circuit_open=self._background.wake,
        )  # fmt: skip
        if left.session is not None:
            session.restore(left.session)
        with self._lock:  # a report is made before the session or after it
            self._sender.join(started.job_id, left, started.reports_at_once)
            self._heartbeat.start(started.job_id, started.lease_seconds)
            self.session = session

    def _withdraw(self) -> None:
        """The oracle wants to be asked again (called in the background)."""
        if self.session is not None:
            self.session.withdraw()

    def _tell(self, job_id: str, finish: FinishJob, deadline: float) -> str | None:
        from hyperoracle_client.api import OracleApi  # takes 0.2 s with httpx: not at import

        try:
            with OracleApi.at(self._endpoint) as api:
                api.finish_job(job_id, finish, max(0.5, deadline - time.monotonic()))
        except OracleError as error:
            told = self._notices.in_short(error)
            logger.warning("the oracle was not told that the job has finished: %s", told)
            return str(error)
        return None

    def _let_go(self, seconds: float) -> None:
        """End the thread, and keep on disk what was not delivered."""
        self._background.stop(seconds)
        for channel in (self._channel, self._background_channel):
            channel.close()
        self._sender.spill_rest()
