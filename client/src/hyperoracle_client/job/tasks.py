"""What a job does in the background, beside training: joining, probing, its lease, its reports."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pydantic import ValidationError

from hyperoracle_client.errors import OracleError, OracleRefused, OracleUnreachable
from hyperoracle_client.job.circuit import Backoff, Circuit
from hyperoracle_client.job.notices import Notices
from hyperoracle_client.transports import Channel, Request
from hyperoracle_client.transports.endpoint import Endpoint, exchange, is_passing
from hyperoracle_protocol.inspection import Health
from hyperoracle_protocol.jobs import StartedJob, StartJob
from hyperoracle_protocol.studies import StudyDefinition

logger = logging.getLogger("hyperoracle_client")


class Task(Protocol):
    """Something to be done now and then."""

    def due(self) -> float:
        """When to run next, on the monotonic clock; infinite: not before a wake-up."""
        ...

    def run(self) -> None:
        """Do it once; it moves `due` on."""
        ...


class Background:
    """A daemon thread that runs the task that is most overdue, and sleeps until one is due.

    Attributes:
        cpu_seconds: processor time that it has used, up to the task that ended last; for nearly all
            of it the interpreter was its own.
    """

    def __init__(self, name: str, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._wake = threading.Event()
        self._stopped = False
        self._sleeps_until = math.inf
        self.cpu_seconds = 0.0
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look at the tasks' due times again."""
        self._wake.set()

    def wake_for(self, task: Task) -> None:
        """Look at the due times again if this task's is before the one that is awaited."""
        if task.due() < self._sleeps_until:
            self._wake.set()

    def stop(self, seconds: float) -> None:
        """End after the task that is running, if any; wait so long for that."""
        self._stopped = True
        self._wake.set()
        self._thread.join(seconds)

    def _loop(self) -> None:
        while not self._stopped:
            self.cpu_seconds = time.thread_time()
            self._sleeps_until = math.inf  # awake: what becomes due now may be seen too late
            self._wake.clear()
            task = min(self._tasks, key=lambda task: task.due())
            due = task.due()
            pause = due - time.monotonic()
            if pause > 0:
                self._sleeps_until = due
                self._wake.wait(min(pause, threading.TIMEOUT_MAX))
                continue
            try:
                task.run()
            except Exception:  # a bug of ours must not end the thread that delivers reports
                if self._stopped:  # the channels are being closed
                    return
                logger.exception("oracle background task %s failed", type(task).__name__)
                self._wake.wait(1.0)


PROBE_SECONDS = 2.0
"""A probe that needs longer to connect has failed."""
NOTICE_SECONDS = 10.0
"""The oracle is told of notices at most this often."""


class JoinTask:
    """Starts the job at its oracle, trying until the oracle can be reached.

    Attributes:
        outcome: set once the job has joined, or was refused for good.
        refusal: why the oracle will not have the job.
        last_error: the latest failure.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        definition: StudyDefinition,
        study: str,
        job: StartJob,
        *,
        on_joined: Callable[[StartedJob], None],
        on_away: Callable[[], None],
        on_refused: Callable[[OracleRefused], None],
        notices: Notices,
    ) -> None:
        """Make the task.

        Args:
            endpoint: the oracle.
            definition: the study's.
            study: its name.
            job: the job to start.
            on_joined: called once, when the oracle has taken the job; may refuse the answer.
            on_away: called after each attempt that the oracle did not answer.
            on_refused: called once, when the oracle will not have the job.
            notices: the job's.
        """
        self._endpoint = endpoint
        self._definition = definition
        self._study = study
        self._job = job
        self._on_joined = on_joined
        self._on_away = on_away
        self._on_refused = on_refused
        self._notices = notices
        settings = endpoint.settings
        self._backoff = Backoff(settings.circuit_least_seconds, settings.circuit_most_seconds)
        self._due = -math.inf
        self._lock = threading.Lock()
        self._is_awaited = True  # who starts a job waits for it, and is told by an exception
        self.outcome = threading.Event()
        self.refusal: OracleRefused | None = None
        self.last_error: OracleError | None = None

    def due(self) -> float:
        """When to try."""
        return self._due

    def run(self) -> None:
        """Try once."""
        from hyperoracle_client.api import OracleApi  # takes 0.2 s with httpx: not at import

        try:
            with OracleApi.at(self._endpoint) as api:
                api.put_study(self._study, self._definition)
                started = api.start_job(self._study, self._job)
            self._on_joined(started)
        except OracleRefused as error:
            if is_passing(error):
                self._later(error)
            else:
                self._due = math.inf
                with self._lock:
                    self.refusal = self.last_error = error
                    is_awaited = self._is_awaited
                if not is_awaited:
                    told = self._notices.in_short(error)
                    logger.warning("the oracle refuses the job, it keeps its defaults: %s", told)
                self._on_refused(error)
                self.outcome.set()
        except OracleUnreachable as error:
            self._later(error)
        else:
            self._due = math.inf
            self.outcome.set()

    def wait(self, seconds: float) -> None:
        """Wait for the outcome; a refusal that comes later is said in the log.

        Raises:
            OracleRefused: the oracle will not have the job.
        """
        self.outcome.wait(seconds)
        with self._lock:
            self._is_awaited = False
            refusal = self.refusal
        if refusal is not None:
            raise refusal

    def hurry(self) -> None:
        """Try again at once, unless the outcome is known."""
        if self._due < math.inf:
            self._due = -math.inf

    def _later(self, error: OracleError) -> None:
        if self.last_error is None:
            logger.warning("the job begins on its defaults and joins when it can: %s", error)
        self.last_error = error
        self._due = time.monotonic() + self._backoff.next_pause()
        self._on_away()


class ProbeTask:
    """While the circuit is open: asks now and then whether the oracle answers again.

    It uses the channel of the proposals, which the training thread leaves alone meanwhile; so the
    first proposal after a recovery finds a connection that works. Only an oracle that answers as
    quickly as a proposal must be answered is back: otherwise training would pay for finding out.
    """

    def __init__(self, channel: Channel, circuit: Circuit, answer_seconds: float) -> None:
        """Make the task.

        Args:
            channel: the proposals'.
            circuit: theirs too.
            answer_seconds: within which a connected oracle answers, if it is back.
        """
        self._channel = channel
        self._circuit = circuit
        self._answer_seconds = answer_seconds

    def due(self) -> float:
        """When the circuit's pause ends."""
        return self._circuit.retry_at

    def run(self) -> None:
        """Probe once."""
        try:
            self._channel.connect(time.monotonic() + PROBE_SECONDS)
            answer = exchange(self._channel, Request("GET", "/livez"), self._answer_seconds)
            Health.model_validate_json(answer.body)
        except (OracleError, ValidationError):  # the latter: something else answers in its place
            self._channel.close()
            self._circuit.probe_failed()
        else:
            self._circuit.probe_succeeded()


class HeartbeatTask:
    """Keeps the job's lease while it makes no other call, and tells the oracle what was noticed."""

    def __init__(
        self,
        channel: Channel,
        seconds: float,
        env_step: Callable[[], int],
        notices: Notices,
    ) -> None:
        """Make the task.

        Args:
            channel: used by the background thread alone.
            seconds: for each attempt.
            env_step: the job's environment steps so far.
            notices: the job's.
        """
        self._channel = channel
        self._seconds = seconds
        self._env_step = env_step
        self._notices = notices
        self._told: dict[str, int] = {}
        self._next_telling = -math.inf
        self._path: str | None = None
        self._period = math.inf
        self._last_contact = 0.0
        self._has_told = False

    def start(self, job_id: str, lease_seconds: float) -> None:
        """The job has joined: three heartbeats per lease from now on."""
        self._path = f"/v1/jobs/{job_id}/heartbeat"
        self._period = max(lease_seconds / 3, 0.05)
        self.contact()

    def contact(self) -> None:
        """Another call has reached the oracle: no heartbeat is needed for a while."""
        self._last_contact = time.monotonic()

    def due(self) -> float:
        """A period after the last contact, or sooner where there is something to tell."""
        beat = self._last_contact + self._period
        if self._path is None or self._notices.counts == self._told:
            return beat
        return min(beat, self._next_telling)

    def run(self) -> None:
        """Send one; a failure waits for the next."""
        assert self._path is not None
        fields: dict[str, Any] = {"env_step": self._env_step()}
        if notices := self._notices.counts:
            fields["notices"] = notices
        body = json.dumps(fields).encode()
        request = Request("POST", self._path, {"content-type": "application/json"}, body)
        self.contact()
        self._next_telling = time.monotonic() + NOTICE_SECONDS
        try:
            exchange(self._channel, request, self._seconds)
            self._told = notices
        except OracleError as error:
            is_lost = isinstance(error, OracleRefused) and not is_passing(error)
            if is_lost and not self._has_told:
                self._has_told = True
                told = self._notices.in_short(error)
                logger.warning("the job's lease is not kept, the oracle refuses: %s", told)
            else:
                logger.debug("oracle heartbeat failed: %s", error)
