"""What happens beside the calls, in one background thread.

It trains encoders that are due and builds search graphs that pay. It also notices what nobody calls
about: leases that run out, answers that nobody will ask for again, graphs that miss neighbours.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Literal

from hyperoracle_server.errors import StoreUnavailable
from hyperoracle_server.keyed.epgt import EpisodicAgent
from hyperoracle_server.keyed.rounds import EncoderRounds
from hyperoracle_server.ledger import deletion
from hyperoracle_server.telemetry.failpoints import failpoint
from hyperoracle_server.telemetry.logs import about

if TYPE_CHECKING:
    from hyperoracle_server.keyed.memory.episodic import EpisodicMemory
    from hyperoracle_server.oracle.job import JobState
    from hyperoracle_server.oracle.oracle import Oracle
    from hyperoracle_server.oracle.study import StudyRuntime

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

SAMPLE_SECONDS = 60.0
"""How often it compares search graphs with exact search."""

SAMPLE = 64
"""Queries over a whole memory by which it does."""

PAUSE_SECONDS = 0.002
"""Between two of them, for whoever waits for the study."""


class Upkeep:
    """Looks after all studies of an oracle until it is closed."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._rounds = EncoderRounds(oracle)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; work under way is given up."""
        self._stop.set()
        self._rounds.close()
        self._thread.join()

    def _run(self) -> None:
        sampled_at = time.monotonic()
        while not self._stop.wait(LOOK_SECONDS):
            try:
                deletion.remove_marked(self._oracle.ledger)
                self._oracle.ledger.reserve.fill()
                self._oracle.quotas.look()
                note_expired(self._oracle)
                forget_answers(self._oracle)
                self._rounds.run_due()
                for study in self._oracle.studies():
                    self._build(study)
                if time.monotonic() - sampled_at >= SAMPLE_SECONDS:
                    sampled_at = time.monotonic()
                    sample_recall(self._oracle, self._stop)
            except Exception:  # a bug in upkeep must not end it: serving goes on as it is
                log.exception("upkeep failed; it tries again in %.0f s", LOOK_SECONDS)

    def _build(self, study: StudyRuntime) -> None:
        began = time.perf_counter()
        adopted = build_indexes(study, self._stop)
        for _ in range(adopted):
            self._oracle.observer.index_built()
            log.info("search graphs built", extra=about(study=study.name))
        if adopted:
            seconds = time.perf_counter() - began
            self._oracle.observer.worked("index build", study.name, seconds)


def sample_recall(oracle: Oracle, stop: threading.Event | None = None) -> None:
    """Tell the least share of true neighbours that search graphs find, over whole memories.

    Of any hyper-action in its worst region; graphs that find too little are given up by that.
    """
    least = 1.0
    stop = stop or threading.Event()
    for study in oracle.studies():
        if isinstance(study.agent, EpisodicAgent):
            for recollection in list(study.agent.recollections.values()):
                least = min(least, _sampled(study, recollection.memory, stop))
    oracle.observer.index_sampled(least)


def _sampled(study: StudyRuntime, memory: EpisodicMemory, stop: threading.Event) -> float:
    with study.locked_soon() as is_held:
        if not is_held:
            return 1.0
        before = len(memory.graph_efforts)
        check = memory.start_recall_check(SAMPLE)
    goes_on = True
    while goes_on:
        with study.lock:
            goes_on = check.step()
        if stop.wait(PAUSE_SECONDS if goes_on else 0.0):  # others get the lock
            return 1.0
    with study.lock:
        found = check.finish()
        given_up = before - len(memory.graph_efforts)
    if given_up > 0:
        fields = about(study=study.name, graphs=given_up, recall=round(found, 3))
        log.info("search graphs given up: the scan answers", extra=fields)
    return found


def build_indexes(study: StudyRuntime, stop: threading.Event) -> int:
    """Build the search graphs that a study's memories would profit from.

    They are built beside the memories, which answer exactly meanwhile, and adopted under the
    study's lock.

    Returns:
        How many were adopted.
    """
    agent = study.agent
    if not isinstance(agent, EpisodicAgent):
        return 0
    adopted = 0
    for recollection in list(agent.recollections.values()):
        memory = recollection.memory
        with study.locked_soon() as is_held:
            is_due = is_held and memory.index_build_due
            build = memory.start_index_build() if is_due else None
        while build is not None and not stop.is_set():
            build.run()
            failpoint("before_index_swap")
            with study.lock:
                if build.adopt():
                    failpoint("after_index_swap")
                    adopted += 1
                    break
    return adopted
