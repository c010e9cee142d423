"""What an oracle costs a run in wall time, as far as the run itself can tell.

The training thread loses the time that it is in calls, and the time that it waits elsewhere because
the oracle's threads in this process have the interpreter. Between the calls it is slower too, with
caches and cores that others have used meanwhile, the oracle's own process perhaps. That shows only
beside training without an oracle: where calls are much of the time, a run trains on for a moment
without (`pace`). An overhead that was found without that is a lower bound.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar
from urllib.parse import urlsplit

from hyperoracle_client import OracleError
from hyperoracle_trainers.hyperparameters.sources import HyperparameterSource
from hyperoracle_trainers.saved_state import State

_T = TypeVar("_T")

HAS_THREAD_CLOCKS = hasattr(time, "pthread_getcpuclockid")
"""Whether a thread can read the processor time of another one."""
MUCH_PERCENT = 10.0
"""An overhead from which on a run finds out how fast it is without its oracle."""
_METRICS_SECONDS = 2.0
_CPU_METRIC = "process_cpu_seconds_total "


@dataclass
class OracleSeconds:
    """Where an oracle took a run's time.

    Attributes:
        calls: wall time of the training thread in proposals and reports.
        start: wall time until the job had joined, or had begun on its defaults.
        finish: wall time of delivering what was left and ending the job.
        interpreter: wall time that the training thread waited elsewhere while the oracle's threads
            in this process worked: its sender of reports, its heartbeat, an embedded oracle.
        slowed: by how much more training took between the calls than it takes without an oracle;
            None where that was not measured.
        training: all wall time between the calls, with the run log.
        waiting: of it, other time that the thread did not work: it waited for a core or a disk, and
            nobody knows for whom. Not counted as overhead but for what `slowed` has of it.
    """

    calls: float = 0.0
    start: float = 0.0
    finish: float = 0.0
    interpreter: float = 0.0
    slowed: float | None = None
    training: float = 0.0
    waiting: float = 0.0

    @property
    def counted(self) -> float:
        """What the oracle took, as far as is known."""
        return self.calls + self.start + self.finish + self.interpreter + (self.slowed or 0.0)

    def compared(self, alone_seconds: float) -> OracleSeconds:
        """The same, and how much training was slowed beyond waiting for the interpreter.

        Args:
            alone_seconds: that training takes without an oracle.
        """
        return replace(self, slowed=max(0.0, self.training - self.interpreter - alone_seconds))

    def percent(self, wall_seconds: float) -> float | None:
        """How much longer the run took, in per cent of the time that it would have taken.

        Args:
            wall_seconds: that it took with the oracle.

        Returns:
            At least 0; None where no time is left that would have been. A lower bound where
            `slowed` is not known.
        """
        without = wall_seconds - self.counted
        return 100.0 * self.counted / without if without > 0.0 else None


@dataclass(frozen=True)
class Cost:
    """What a run has found of its oracle's cost.

    Attributes:
        seconds: where it took the run's time.
        oracle_cpu: processor time that an oracle in another process of this machine used meanwhile,
            for all its jobs and partly while training waited for it; None where that is not known.
    """

    seconds: OracleSeconds
    oracle_cpu: float | None = None

    def is_much(self, wall_seconds: float) -> bool:
        """Whether it may be so much that the pace without an oracle is worth knowing."""
        of_others = min(self.seconds.waiting, self.oracle_cpu or 0.0)
        counted = self.seconds.counted + of_others
        return counted > MUCH_PERCENT / 100.0 * (wall_seconds - counted)


def held_up(behind_others: float, waited: float, own: float, for_cores: float) -> float:
    """How long a thread was held up by others that have its interpreter, in seconds.

    Where the machine is busy, whoever has the interpreter waits for a core with it. Nobody says how
    long; the thread's own waiting for cores tells how much longer work takes than it should.

    Args:
        behind_others: processor time of the others in the thread's waiting.
        waited: wall time of that waiting: not more than this.
        own: processor time of the thread.
        for_cores: wall time that the thread was ready to work and had no core.
    """
    stretch = 1.0 + for_cores / own if own > 0.0 else 1.0
    return min(waited, behind_others * stretch)


class OverheadMeter:
    """Takes the times of a run with an oracle, in the training thread."""

    def __init__(self) -> None:
        self._taken = OracleSeconds()
        self._waited = 0.0
        self._behind_others = 0.0
        self._others: Callable[[], float] = lambda: 0.0
        self._mark: tuple[float, float, float] | None = None
        self._began: tuple[float, float] | None = None

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Take the time of opening the oracle and joining; threads that begin here are its own."""
        before, began = set(threading.enumerate()), perf_counter()
        yield
        if HAS_THREAD_CLOCKS:
            self.oracle_works_for(_clock_of(set(threading.enumerate()) - before))
        self._taken.start += perf_counter() - began

    def training_begins(self) -> None:
        """From here on the time between the calls counts."""
        self._training_goes_on()
        self._began = time.thread_time(), _seconds_without_a_core()

    def oracle_works_for(self, seconds: Callable[[], float]) -> None:
        """Ask this for the processor time of the oracle's threads, from the next call on."""
        self._others = seconds

    def of(self, source: HyperparameterSource) -> MeteredSource:
        """The same source, with its time taken."""
        return MeteredSource(source, self)

    def aside(self, call: Callable[[], object]) -> None:
        """Make a call that is neither the oracle's nor of training itself."""
        is_training = self._mark is not None
        self._training_pauses()
        call()
        if is_training:
            self._training_goes_on()

    def call(self, call: Callable[[], _T]) -> _T:
        """Make a call of the oracle's source."""
        began = self._training_pauses()
        try:
            return call()
        finally:
            self._taken.calls += self._training_goes_on() - began

    def finish(self, call: Callable[[], _T]) -> _T:
        """Make the call that ends the job; what this thread does after it does not count."""
        began = self._training_pauses()
        self._taken = self.seconds
        self._began = None
        self._waited = self._behind_others = 0.0
        try:
            return call()
        finally:
            self._taken.finish += perf_counter() - began

    @property
    def seconds(self) -> OracleSeconds:
        """The times so far; a stretch of training counts once the call after it begins."""
        own, for_cores = 0.0, 0.0
        if self._began is not None:
            own = time.thread_time() - self._began[0]
            for_cores = _seconds_without_a_core() - self._began[1]
        interpreter = held_up(self._behind_others, self._waited, own, for_cores)
        taken = self._taken
        return replace(
            taken,
            interpreter=taken.interpreter + interpreter,
            waiting=taken.waiting + self._waited - interpreter,
        )

    def state(self) -> State:
        """The times so far, as plain values."""
        return asdict(self.seconds)

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on where `state` was taken, in another process."""
        self._taken = OracleSeconds(**state)

    def _training_goes_on(self) -> float:
        """Begin a stretch, and return when."""
        now = perf_counter()  # before the others: looking at clocks is a moment to lose one's core
        self._mark = now, time.thread_time(), self._others()
        return now

    def _training_pauses(self) -> float:
        """Count the stretch that ends now, and return when that is."""
        own, others = time.thread_time(), self._others()
        now = perf_counter()  # after the others
        if self._mark is None:
            return now
        wall, own, others = now - self._mark[0], own - self._mark[1], others - self._mark[2]
        self._mark = None
        waited = max(0.0, wall - own)
        self._taken.training += wall
        self._waited += waited
        self._behind_others += min(waited, others)
        return now


class MeteredSource:
    """A `HyperparameterSource` whose calls are timed.

    Args:
        source: that answers.
        meter: that takes the times.
    """

    def __init__(self, source: HyperparameterSource, meter: OverheadMeter) -> None:
        self._source = source
        self._meter = meter

    @property
    def relative(self) -> Collection[str]:
        """The source's."""
        return self._source.relative

    def propose(self, **arguments: Any) -> Mapping[str, float]:
        """The source's answer."""
        return self._meter.call(lambda: self._source.propose(**arguments))

    def applied(self, values: Mapping[str, float]) -> None:
        """Tell the source."""
        self._meter.call(lambda: self._source.applied(values))

    def report(self, episode_returns: Sequence[float], **arguments: Any) -> None:
        """Tell the source."""
        self._meter.call(lambda: self._source.report(episode_returns, **arguments))

    def finish(self, *, failed: bool = False) -> None:
        """Tell the source."""
        self._meter.finish(lambda: self._source.finish(failed=failed))


def oracle_cpu_seconds(url: str, token: str | None) -> float | None:
    """Processor time that an oracle in another process of this machine has used so far.

    It works for all its jobs, and partly while training waits for it.

    Args:
        url: the oracle's.
        token: access token.

    Returns:
        None where it is in this process or on another machine, or does not say.
    """
    if not _is_here(url):
        return None
    from hyperoracle_client.api import OracleApi

    try:
        with OracleApi(url, token, timeout_seconds=_METRICS_SECONDS) as api:
            lines = api.metrics().splitlines()
        return next(
            (float(line.split()[1]) for line in lines if line.startswith(_CPU_METRIC)), None
        )
    except OracleError:
        return None


def _is_here(url: str) -> bool:
    """Whether the url is of another process on this machine, as far as it says."""
    host = urlsplit(url).hostname
    if host is None or not url.startswith("http"):
        return False
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _seconds_without_a_core() -> float:
    """How long this thread was ready to work and had no core; 0 where nobody says."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):
        return 0.0


def _clock_of(threads: Iterable[threading.Thread]) -> Callable[[], float]:
    """A clock of the processor time of all these threads, which are alive now."""
    last = {
        time.pthread_getcpuclockid(thread.ident): 0.0
        for thread in threads
        if thread.ident is not None and thread.is_alive()
    }

    def seconds() -> float:
        for clock in last:
            try:
                last[clock] = time.clock_gettime(clock)
            except OSError:  # the thread has ended: it stays at what was seen last
                continue
        return sum(last.values())

    return seconds
