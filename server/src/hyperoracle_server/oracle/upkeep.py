"""What happens beside the calls, in one background thread.

It does what hyper-agents want to have done (train encoders, build search graphs), and notices what
nobody calls about: leases that run out, answers that nobody will ask for again.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Literal, NamedTuple

from hyperoracle_server.errors import StoreUnavailable
from hyperoracle_server.ledger import deletion
from hyperoracle_server.strategies.registry import load_class
from hyperoracle_server.telemetry.logs import about

if TYPE_CHECKING:
    from hyperoracle_server.oracle.job import JobState
    from hyperoracle_server.oracle.oracle import Oracle
    from hyperoracle_server.oracle.study import StudyRuntime
    from hyperoracle_server.strategies.base import BackgroundWork

log = logging.getLogger(__name__)


def status_of(oracle: Oracle, job: JobState) -> Literal["running", "stale", "finished"]:
    """`running`, `stale` (its lease ran out) or `finished`."""
    if job.status == "running":
        if job.ending is not None:  # it fell silent before the oracle was started
            return "stale"
        silent_for = oracle.clock.monotonic() - job.lease_started
        return "running" if silent_for < oracle.lease_seconds else "stale"
    return job.status


def note_expired(oracle: Oracle) -> int:
    """Tell of each job whose lease has run out since the last time; how many there were."""
    count = 0
    for study in oracle.studies():
        with study.locked_soon() as is_held:
            for job in study.jobs.values() if is_held else ():
                if not job.lease_told and status_of(oracle, job) == "stale":
                    job.lease_told = True
                    study.lapse(job)
                    count += 1
                    oracle.observer.lease_expired()
                    fields = about(study=study.name, job=job.public_id)
                    log.warning("a job fell silent", extra=fields)
    return count


def end_all(oracle: Oracle) -> None:
    """Count every running job as fallen silent; one that is resumed takes itself back."""
    for study in oracle.studies():
        with study.lock:
            for job in study.jobs.values():
                if job.status == "running" and job.ending is None:
                    job.lease_told = True
                    study.lapse(job)


def forget_answers(oracle: Oracle) -> int:
    """Let go of the answers to jobs that ended or fell silent; how many such jobs had any.

    Only of answers that the ledger has: whoever repeats a request gets the same one from there.
    """
    writer = oracle.ledger.writer
    epoch = writer.epoch
    found: list[tuple[StudyRuntime, JobState, list[int]]] = []
    for study in oracle.studies():
        with study.locked_soon() as is_held:
            found += [
                (study, job, list(job.answers))
                for job in (study.jobs.values() if is_held else ())
                if job.answers and status_of(oracle, job) != "running"
            ]
    if not found:
        return 0
    try:
        writer.submit_durably((), epoch).result()  # it comes after all that was submitted
    except StoreUnavailable:
        return 0  # the studies are loaded again, or the store is busy: another time
    for study, job, answered in found:
        with study.locked_soon() as is_held:
            if is_held:
                job.forget(answered)
    return len(found)


LOOK_SECONDS = 1.0
"""How often it looks for work."""


class _Work(NamedTuple):
    work: BackgroundWork
    run_at: float  # not before, on the monotonic clock


class Upkeep:
    """Looks after all studies of an oracle until it is closed.

    What their hyper-agents want to have done it does, without knowing what that is.
    """

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._works: dict[str, _Work] = {}  # by where their classes are; for good
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; work under way is given up."""
        self._stop.set()
        for each in list(self._works.values()):
            each.work.close()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                deletion.remove_marked(self._oracle.ledger)
                self._oracle.ledger.reserve.fill()
                self._oracle.quotas.look()
                note_expired(self._oracle)
                forget_answers(self._oracle)
                self._work()
            except Exception:  # a bug in upkeep must not end it: serving goes on as it is
                log.exception("upkeep failed; it tries again in %.0f s", LOOK_SECONDS)

    def _work(self) -> None:
        """Run what is due of what hyper-agents want; it goes on for studies that come later."""
        wanted: dict[str, list[StudyRuntime]] = {where: [] for where in self._works}
        for study in self._oracle.studies():
            for where in study.agent.background:
                wanted.setdefault(where, []).append(study)
        for where, studies in wanted.items():
            if where not in self._works:
                work = load_class(where)(self._oracle)
                self._works[where] = _Work(work, time.monotonic() + work.every_seconds)
            if self._stop.is_set():  # looked at after it can be closed
                return
            work, run_at = self._works[where]
            if time.monotonic() >= run_at:
                self._works[where] = _Work(work, time.monotonic() + work.every_seconds)
                work.run(studies, self._stop)
