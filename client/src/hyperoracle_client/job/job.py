"""A training run's conversation with its oracle."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from hyperoracle_client.errors import OracleError, OracleMisconfigured, OracleUnreachable
from hyperoracle_client.hyper_state.tensors import TensorSource
from hyperoracle_client.job.arguments import ArgumentReader, in_words, used_instead
from hyperoracle_client.job.conduct import Conduct
from hyperoracle_client.job.decision import Hyperparameters
from hyperoracle_client.job.membership import Membership
from hyperoracle_client.job.notices import Notice, Notices
from hyperoracle_client.job.session import NoAnswer, Session
from hyperoracle_client.job.stats import Counts, JobStats
from hyperoracle_client.transports.endpoint import Endpoint
from hyperoracle_client.transports.forks import stays_with_this_process
from hyperoracle_protocol.jobs import FinishJob, FinishReason, StartJob
from hyperoracle_protocol.space import default_values
from hyperoracle_protocol.studies import StudyDefinition

logger = logging.getLogger("hyperoracle_client")


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
        settings = endpoint.settings
        self._settings = settings
        self._defaults = default_values(definition.space)
        self._lock = threading.RLock()
        self._counts = Counts()
        self._notices = Notices()
        self._updates = 0
        self._env_step = 0
        self._last: Hyperparameters | None = None
        self._told: set[str] = set()
        self._over: str | None = None  # why the job takes no more calls
        self._arguments = ArgumentReader(
            definition.returns, self._counts, self._tell, settings.on_error
        )

        self._conduct = Conduct(self._notices, definition, start.total_env_steps)
        self._conduct.begins()
        self._membership = Membership(
            endpoint, study, definition, start, source,
            prefetch=prefetch, resume_from=resume_from, lock=self._lock, counts=self._counts,
            notices=self._notices, env_step=lambda: self._env_step,
        )  # fmt: skip
        stays_with_this_process(self)
        self._membership.begin()

    @property
    def id(self) -> str | None:
        """The job's id at the oracle, None until it has joined."""
        session = self._membership.session
        return None if session is None else session.started.job_id

    @property
    def role(self) -> str | None:
        """The role that the study gave the job, None until it has joined."""
        session = self._membership.session
        return None if session is None else session.started.role

    @property
    def key(self) -> str:
        """The job's key: start a job with the same one to go on after an interruption."""
        return self._membership.key

    @property
    def is_finished(self) -> bool:
        """Whether the job has been finished, or belongs to the process that this was forked of."""
        return self._over is not None

    @property
    def notices(self) -> Notices:
        """What the job's owner should know, said once and counted."""
        return self._notices

    @property
    def stats(self) -> JobStats:
        """What has happened so far."""
        told = {**self._counts.told(), **self._membership.told()}
        told["reports_dropped"] += self._counts.reports_not_made
        if self._counts.last_error is not None:
            told["last_error"] = self._counts.last_error
        return JobStats(**told, notices=self._notices.counts)

    def wait_until_joined(self, seconds: float) -> bool:
        """Wait for the oracle to take the job; whether it has.

        Raises:
            OracleRefused: it will not: the study is defined differently, the token is wrong, …
            OracleUnreachable: it did not answer in time, and `on_error` is "raise".
        """
        if self._over is not None:
            return self._membership.session is not None
        return self._membership.wait(seconds)

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

        What is no number where one is expected is left out, counted and said once; for steps the
        last ones known stand then.

        Returns:
            Values by name; `.source` says whether they are the oracle's, held, or the defaults.

        Raises:
            OracleError: the oracle could not be asked, only with `on_error="raise"`.
        """
        began = time.monotonic()
        with self._lock:
            try:
                metadata = self._arguments.proposal(
                    self._env_step, self._updates, env_step, update_step, signals, base_values
                )
                self._env_step = metadata["env_step"]
                self._conduct.proposes(metadata["signals"])
                deadline = began + self._settings.propose_deadline_seconds
                self._last = self._joined_session().decide(metadata, params, grads, deadline)
                return self._last
            except NoAnswer as reason:
                if self._over is not None:
                    self._log_once("propose", reason)
                return self._fall_back(str(reason), None)
            except Exception as error:  # not even a bug may stop training
                if isinstance(error, OracleMisconfigured) or not isinstance(error, OracleError):
                    self._log_once("propose", error)
                return self._fall_back(str(error), error)
            finally:
                self._updates += 1
                self._counts.propose_seconds += time.monotonic() - began

    def report(
        self,
        episode_returns: Iterable[float] | float,
        *,
        env_step: int,
        phase_return: float | None = None,
        custom_return: float | None = None,
    ) -> None:
        """Tell what the environment phase that just ended brought; it is sent in the background.

        Args:
            episode_returns: raw, undiscounted returns of the environment episodes that ended in
                this phase; may be empty; a number alone is one. Those that are not finite are left
                out, and the oracle is told how many: the phase then counts as the worst.
            env_step: environment steps made so far.
            phase_return: raw discounted reward sum per environment over the phase.
            custom_return: a number of your own, for studies whose return is `custom`.
        """
        began = time.monotonic()
        with self._lock:
            try:
                if self._over is not None:
                    raise OracleMisconfigured(self._over)
                self._env_step = self._arguments.count("env_step", env_step, self._env_step)
                report = self._arguments.report(
                    episode_returns, phase_return, custom_return, self._env_step
                )
                self._conduct.reports(report)
                self._membership.deliver(report)
            except Exception as error:  # not even a bug may stop training
                self._counts.reports_not_made += 1
                if self._settings.on_error == "raise":
                    raise
                self._counts.last_error = str(error)
                line = f"oracle report failed and is lost, training goes on: {error}"
                bug = None if isinstance(error, OracleError) else error
                self._notices.tell("report_dropped", line, bug)
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
                if self._over is not None:
                    raise OracleMisconfigured(self._over)
                if self._last is None:
                    raise OracleMisconfigured("expected a proposal before applied, got none")
                different = used_instead(self._last, values)
                if different:
                    self._counts.applied_differently += 1
                    self._notices.tell("applied_differently", in_words(self._last, different))
                    session = self._membership.session
                    if self._last.source != "default" and session is not None:
                        session.used_instead(different)
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
            return self._membership.state()

    def finish(self, reason: FinishReason = "completed") -> JobStats:
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
        except OracleError as error:
            logger.warning("%s", error)

    def abandon(self) -> None:
        """Forget a job that could not start."""
        self._over = "the job could not start: start another one"
        self._membership.abandon()

    def leave_to(self, owner: int) -> None:
        """In a forked child: the job goes on in the process `owner`, and is over here."""
        self._lock = threading.RLock()  # who held it is not here
        why = f"the job belongs to process {owner}, of which this one was forked: start another one"
        self._over = self._over or why
        self._notices.leave_to(owner)
        self._membership.leave_to(owner, self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        reason: FinishReason = "completed"
        if kind is not None:
            # KeyboardInterrupt and SystemExit are no exceptions: somebody wanted it to stop.
            reason = "failed" if issubclass(kind, Exception) else "interrupted"
        self.finish(reason)

    def _joined_session(self) -> Session:
        if self._over is not None:
            raise NoAnswer(self._over)
        return self._membership.joined_session()

    def _fall_back(self, why: str, error: Exception | None) -> Hyperparameters:
        self._counts.fallbacks += 1
        if error is not None:
            self._counts.last_error = why
        if self._settings.on_error == "raise":
            raise error if error is not None else OracleUnreachable(why)
        self._last = Hyperparameters(self._defaults, "default", why=why)
        return self._last

    def _finish(self, reason: FinishReason, seconds: float) -> JobStats:
        with self._lock:
            if self._over is not None:
                return self.stats
            self._over = "the job is finished: start another one"
        self._conduct.ends()
        trouble = self._membership.end(
            lambda: FinishJob(env_step=self._env_step, reason=reason, notices=self._notices.counts),
            seconds,
        )
        self._counts.last_error = trouble or self._counts.last_error
        return self.stats

    def _tell(self, kind: str, line: str) -> None:
        """Say a line once of its kind."""
        is_lost = kind == "returns_not_finite"
        notice: Notice = "returns_not_finite" if is_lost else "argument_left_out"
        self._notices.tell(notice, line, kind=kind)

    def _log_once(self, where: str, error: Exception) -> None:
        if where not in self._told:
            self._told.add(where)
            is_told = isinstance(error, OracleError | NoAnswer)
            line = f"oracle {where} failed, training goes on (said once, counted): {error}"
            logger.warning(line, exc_info=None if is_told else error)
