"""A training run's conversation with its oracle."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, Literal, Self

from hyperoracle_client.applied_values import in_words, used_instead
from hyperoracle_client.asking import Asker
from hyperoracle_client.background import Background
from hyperoracle_client.circuit import Circuit
from hyperoracle_client.conduct import Conduct
from hyperoracle_client.decision import Hyperparameters
from hyperoracle_client.earlier_process import EarlierProcess
from hyperoracle_client.endpoint import Endpoint
from hyperoracle_client.errors import (
    OracleError,
    OracleMisconfigured,
    OracleRefused,
    OracleUnreachable,
)
from hyperoracle_client.hyper_state import make_compressor
from hyperoracle_client.hyper_state.tensors import TensorSource
from hyperoracle_client.notices import Notices
from hyperoracle_client.report_sender import ReportSender
from hyperoracle_client.session import NoAnswer, Session
from hyperoracle_client.spool import OutgoingReport, Spool
from hyperoracle_client.stats import Counts, JobStats
from hyperoracle_client.tasks import HeartbeatTask, JoinTask, ProbeTask
from hyperoracle_protocol.base import MAX_RETURN
from hyperoracle_protocol.jobs import FinishJob, StartedJob, StartJob
from hyperoracle_protocol.space import default_values
from hyperoracle_protocol.studies import StudyDefinition

logger = logging.getLogger("hyperoracle_client")

Reason = Literal["completed", "reached", "interrupted", "failed"]


class Job:
    """One training run; made by `Oracle.start_job`.

    Collect an environment phase, `report` what it returned, then `propose` before each of the
    updates that follow. May be used from several threads; a call waits for the one before it.

    Nothing here raises into a training loop or waits past its deadline, unless the oracle was
    made with `on_error="raise"`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        study: str,
        definition: StudyDefinition,
        start: StartJob,
        source: TensorSource,
        *,
        prefetch: bool = False,
        resume_from: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin to join in the background; `wait_until_joined` waits for that a while."""
        assert start.job_key is not None
        settings = endpoint.settings
        self._endpoint = endpoint
        self._settings = settings
        self._start = start
        self._source = source
        self._prefetch = prefetch
        self._space = definition.space
        self._defaults = default_values(definition.space)
        self._lock = threading.RLock()
        self._counts = Counts()
        self._updates = 0
        self._env_step = 0
        self._session: Session | None = None
        self._last: Hyperparameters | None = None
        self._told: set[str] = set()
        self._finished = False

        self._channel, self._background_channel = endpoint.channel(), endpoint.channel()
        self._circuit = Circuit(settings.circuit_least_seconds, settings.circuit_most_seconds)
        self._notices = Notices()
        self._conduct = Conduct(self._notices, definition, start.total_env_steps)
        self._conduct.begins()
        self._heartbeat = HeartbeatTask(
            self._background_channel, settings.request_deadline_seconds, lambda: self._env_step,
            self._notices,
        )  # fmt: skip
        self._spool = Spool(settings.spool_directory, study, start.job_key)
        self._earlier = EarlierProcess(self._spool, resume_from)
        self._sender = ReportSender(
            self._background_channel, self._spool, settings,
            on_contact=self._heartbeat.contact, on_withdrawal=self._withdraw,
            notices=self._notices,
        )  # fmt: skip
        self._join = JoinTask(
            endpoint, definition, study, start,
            on_joined=self._joined, on_away=self._sender.oracle_is_away,
            on_refused=lambda error: self._sender.give_up(str(error)),
        )  # fmt: skip
        probe = ProbeTask(self._channel, self._circuit, settings.propose_deadline_seconds)
        self._background = Background(
            f"hyperoracle-{study}", (self._join, probe, self._sender, self._heartbeat)
        )
        self._background.start()

    @property
    def id(self) -> str | None:
        """The job's id at the oracle, None until it has joined."""
        return None if self._session is None else self._session.started.job_id

    @property
    def role(self) -> str | None:
        """The role that the study gave the job, None until it has joined."""
        return None if self._session is None else self._session.started.role

    @property
    def key(self) -> str:
        """The job's key: start a job with the same one to go on after an interruption."""
        assert self._start.job_key is not None
        return self._start.job_key

    @property
    def is_finished(self) -> bool:
        """Whether the job has been finished."""
        return self._finished

    @property
    def notices(self) -> Notices:
        """What the job's owner should know, said once and counted."""
        return self._notices

    @property
    def stats(self) -> JobStats:
        """What has happened so far."""
        sender = self._sender
        errors = (self._counts.last_error, sender.last_error, self._join.last_error)
        last_error = next((str(error) for error in errors if error is not None), None)
        return JobStats(
            **{**asdict(self._counts), "last_error": last_error},
            joined=self._session is not None,
            circuit="open" if self._circuit.is_open else "closed",
            reports_sent=sender.sent,
            reports_pending=sender.pending,
            reports_spooled=sender.spilled,
            reports_dropped=sender.dropped,
            notices=self._notices.counts,
        )

    def wait_until_joined(self, seconds: float) -> bool:
        """Wait for the oracle to take the job; whether it has.

        Raises:
            OracleRefused: it will not: the study is defined differently, the token is wrong, …
            OracleUnreachable: it did not answer in time, and `on_error` is "raise".
        """
        self._join.outcome.wait(seconds)
        if self._join.refusal is not None:
            raise self._join.refusal
        if self._settings.on_error == "raise" and self._session is None:
            raise OracleUnreachable(
                f"{self._endpoint.url} did not start the job within {seconds} s: "
                f"{self._join.last_error or 'no answer'}"
            )
        return self._session is not None

    def propose(
        self,
        *,
        env_step: int,
        update_step: int | None = None,
        signals: Mapping[str, float] | None = None,
        params: Any = None,
        grads: Any = None,
        base_values: Mapping[str, float] | None = None,
    ) -> Hyperparameters:
        """The hyperparameters for the update that comes next.

        Args:
            env_step: environment steps made so far.
            update_step: policy updates made so far; counted by the job if absent.
            signals: training signals of the last update, e.g. `approx_kl`, `entropy`; those that
                are not finite are left out.
            params: the parameters, where the framework does not update them in place.
            grads: the last optimiser step's gradients, where the framework does not keep them.
            base_values: what relative factors multiply at this update, for the record.

        Returns:
            Values by name; `.source` says whether they are the oracle's, held, or the defaults.

        Raises:
            OracleError: the oracle could not be asked, only with `on_error="raise"`.
        """
        began = time.monotonic()
        with self._lock:
            try:
                self._env_step = int(env_step)
                found = _finite(signals)
                self._conduct.proposes(found)
                metadata = {
                    "update_step": self._updates if update_step is None else int(update_step),
                    "env_step": self._env_step,
                    "signals": found,
                    "base_values": _finite(base_values),
                }
                deadline = began + self._settings.propose_deadline_seconds
                self._last = self._joined_session().decide(metadata, params, grads, deadline)
                return self._last
            except NoAnswer as reason:
                return self._fall_back(str(reason), None)
            except Exception as error:  # not even a bug may stop training
                if not isinstance(error, OracleError):
                    self._log_once("propose", error)
                return self._fall_back(str(error), error)
            finally:
                self._updates += 1
                self._counts.propose_seconds += time.monotonic() - began

    def report(
        self,
        episode_returns: Iterable[float],
        *,
        env_step: int,
        phase_return: float | None = None,
        custom_return: float | None = None,
    ) -> None:
        """Tell what the environment phase that just ended brought; it is sent in the background.

        Args:
            episode_returns: raw, undiscounted returns of the environment episodes that ended in
                this phase; may be empty. Those that are not finite are left out, and the oracle is
                told how many: the phase then counts as the worst.
            env_step: environment steps made so far.
            phase_return: raw discounted reward sum per environment over the phase.
            custom_return: a number of your own, for studies whose return is `custom`.
        """
        began = time.monotonic()
        with self._lock:
            try:
                if self._finished:
                    raise OracleMisconfigured("the job is finished: start another one")
                self._env_step = int(env_step)
                report = self._outgoing(episode_returns, phase_return, custom_return)
                self._conduct.reports(report)
                if self._session is not None:
                    report.credits = self._session.book.report()
                    report.applied = self._session.book.applied() or None
                self._sender.add(report)
                self._background.wake_for(self._sender)
            except Exception as error:  # not even a bug may stop training
                if self._settings.on_error == "raise":
                    raise
                self._counts.last_error = str(error)
                told = f"oracle report failed and is lost, training goes on: {error}"
                self._notices.tell("report_dropped", told, error)
            finally:
                self._counts.report_seconds += time.monotonic() - began

    def applied(self, values: Mapping[str, Any]) -> None:
        """Say what the update after the last `propose` really used, before the next `report`.

        A value that differs from the proposed one (by more than `applied_values.TOLERANCE`) is
        counted and told to the oracle, which does not credit the proposal then.

        Args:
            values: by name, as proposed: of a relative hyperparameter the factor. Names may be
                left out.

        Raises:
            OracleMisconfigured: a name that was not proposed, or nothing was proposed yet; only
                with `on_error="raise"`.
        """
        with self._lock:
            try:
                if self._last is None:
                    raise OracleMisconfigured("expected a proposal before applied, got none")
                different = used_instead(self._last, values)
                if different:
                    self._counts.applied_differently += 1
                    self._notices.tell("applied_differently", in_words(self._last, different))
                    if self._last.source != "default" and self._session is not None:
                        self._session.used_instead(different)
            except Exception as error:  # not even a bug may stop training
                if self._settings.on_error == "raise":
                    raise
                self._log_once("applied", error)

    def state(self) -> dict[str, Any]:
        """What another process needs to go on with this job from here.

        It is made of dictionaries, lists, plain values and NumPy arrays.

        Store it with the training run's own checkpoint, taken between two updates, and give it to
        `Oracle.start_job` as `resume_from`.
        """
        with self._lock:
            session = self._session
            return {
                "job_key": self.key,
                "session": None if session is None else session.state(),
                **self._sender.state(),
            }

    def finish(self, reason: Reason = "completed") -> JobStats:
        """Deliver what waits, within `finish_deadline_seconds`, and end the job.

        It waits so long while reports are left and the oracle is away, and a second more at most
        to tell it that the job has ended. What cannot be delivered stays on disk, and one line of
        the log says how much and where; a job that is started with the same key sends it.

        Args:
            reason: `completed`; `reached`, before the planned end because it is good enough: its
                last return then counts to the end; `interrupted`, before it for another reason;
                `failed`, training broke down: what it had reached is lost with it.

        Returns:
            The final counts; `reports_pending` says what is left.

        Raises:
            OracleUnreachable: reports are left, only with `on_error="raise"`.
        """
        return self._finish(reason, self._settings.finish_deadline_seconds)

    def end(self, seconds: float) -> None:
        """As `finish`, for a job that was never finished: within so many seconds, never raises."""
        try:
            self._finish("interrupted", seconds)
        except OracleError:
            return

    def abandon(self) -> None:
        """Forget a job that could not start."""
        self._finished = True
        self._background.stop(0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        reason: Reason = "completed"
        if kind is not None:
            # KeyboardInterrupt and SystemExit are no exceptions: somebody wanted it to stop.
            reason = "failed" if issubclass(kind, Exception) else "interrupted"
        self.finish(reason)

    def _joined_session(self) -> Session:
        if self._finished:
            raise NoAnswer("the job is finished")
        if self._session is None:
            refusal = self._join.refusal
            raise NoAnswer("not joined yet" if refusal is None else f"refused: {refusal}")
        return self._session

    def _withdraw(self) -> None:
        """The oracle wants to be asked again (called in the background)."""
        if self._session is not None:
            self._session.withdraw()

    def _fall_back(self, why: str, error: Exception | None) -> Hyperparameters:
        self._counts.fallbacks += 1
        if error is not None:
            self._counts.last_error = why
        if self._settings.on_error == "raise":
            raise error if error is not None else OracleUnreachable(why)
        self._last = Hyperparameters(self._defaults, "default", why=why)
        return self._last

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
        with self._lock:
            self._sender.join(
                started.job_id, previous=left.previous, leftovers=left.reports, book=left.book
            )
            self._heartbeat.start(started.job_id, started.lease_seconds)
            self._session = session

    def _finish(self, reason: Reason, seconds: float) -> JobStats:
        with self._lock:
            if self._finished:
                return self.stats
            self._finished = True
        self._conduct.ends()
        deadline = time.monotonic() + seconds
        self._join.hurry()
        self._sender.hurry()
        self._background.wake()
        delivered = self._sender.wait_until_empty(seconds)
        if delivered and self._session is not None:
            self._tell_finished(self._session.started.job_id, reason, deadline)
        self._background.stop(max(0.5, deadline - time.monotonic()))
        self._channel.close()
        self._background_channel.close()
        self._sender.spill_rest()
        stats = self.stats
        if stats.reports_pending:
            left = self._what_is_left(stats)
            if self._settings.on_error == "raise":
                raise OracleUnreachable(left)
            logger.warning("%s", left)
        return stats

    def _what_is_left(self, stats: JobStats) -> str:
        kept = f"{self._spool.path}: start a job with job_key={self.key!r} to send them"
        if stats.reports_spooled == stats.reports_pending:
            return f"{stats.reports_pending} reports could not be delivered and wait in {kept}"
        return (
            f"{stats.reports_pending} reports could not be delivered, and "
            f"{stats.reports_pending - stats.reports_spooled} of them are lost because they could "
            f"not be written to disk; {stats.reports_spooled} wait in {kept}"
        )

    def _tell_finished(self, job_id: str, reason: Reason, deadline: float) -> None:
        finish = FinishJob(env_step=self._env_step, reason=reason, notices=self._notices.counts)
        try:
            with self._endpoint.api() as api:
                api.finish_job(job_id, finish, max(0.5, deadline - time.monotonic()))
        except OracleError as error:
            self._counts.last_error = str(error)
            logger.warning("the oracle was not told that the job has finished: %s", error)

    def _outgoing(
        self,
        episode_returns: Iterable[float],
        phase_return: float | None,
        custom_return: float | None,
    ) -> OutgoingReport:
        """A report of these numbers, those that are not finite left out and counted."""
        found = {
            "episode_returns": [float(value) for value in episode_returns],
            "phase_return": [] if phase_return is None else [float(phase_return)],
            "custom_return": [] if custom_return is None else [float(custom_return)],
        }
        finite = {
            name: [value for value in values if abs(value) <= MAX_RETURN]
            for name, values in found.items()
        }
        dropped = {
            name: len(found[name]) - len(values)
            for name, values in finite.items()
            if len(found[name]) > len(values)
        }
        if dropped:
            self._counts.non_finite_returns += sum(dropped.values())
            self._notices.tell(
                "returns_not_finite",
                f"{sum(dropped.values())} of the returns at env step {self._env_step} are not "
                "finite numbers: the oracle counts this phase as the worst",
            )
        return OutgoingReport(
            finite["episode_returns"],
            self._env_step,
            next(iter(finite["phase_return"]), None),
            next(iter(finite["custom_return"]), None),
            dropped,
        )

    def _log_once(self, where: str, error: Exception) -> None:
        if where not in self._told:
            self._told.add(where)
            logger.warning("oracle %s failed, training goes on", where, exc_info=error)


def _finite(numbers: Mapping[str, float] | None) -> dict[str, float]:
    found = {name: float(value) for name, value in (numbers or {}).items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}
