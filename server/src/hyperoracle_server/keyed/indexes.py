"""Search graphs beside the calls: built where they pay, and looked at whether they still find."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from hyperoracle_server.strategies.base import BackgroundWork
from hyperoracle_server.telemetry.failpoints import failpoint
from hyperoracle_server.telemetry.logs import about

if TYPE_CHECKING:
    from hyperoracle_server.keyed.memory.episodic import EpisodicMemory
    from hyperoracle_server.oracle.oracle import Oracle
    from hyperoracle_server.oracle.study import StudyRuntime

log = logging.getLogger(__name__)

SAMPLE = 64
"""Queries over a whole memory by which search graphs are compared with exact search."""

PAUSE_SECONDS = 0.002
"""Between two of them, for whoever waits for the study."""


class IndexBuilds(BackgroundWork):
    """Builds the search graphs that memories would profit from.

    Args:
        oracle: whose observer is told.
    """

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def run(self, studies: Sequence[Any], stop: threading.Event) -> None:
        """Build those that are due."""
        for study in studies:
            began = time.perf_counter()
            adopted = build_indexes(study, stop)
            for _ in range(adopted):
                self._oracle.observer.index_built()
                log.info("search graphs built", extra=about(study=study.name))
            if adopted:
                seconds = time.perf_counter() - began
                self._oracle.observer.worked("index build", study.name, seconds)


class RecallSamples(BackgroundWork):
    """Tells the least share of true neighbours that search graphs find, over whole memories.

    Of any hyper-action in its worst region; graphs that find too little are given up by that.

    Args:
        oracle: whose observer is told.
    """

    every_seconds: ClassVar[float] = 60.0

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def run(self, studies: Sequence[Any], stop: threading.Event) -> None:
        """Sample all memories of these studies."""
        least = 1.0
        for study in studies:
            for recollection in list(study.agent.recollections.values()):
                least = min(least, _sampled(study, recollection.memory, stop))
        self._oracle.observer.index_sampled(least)


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


def build_indexes(study: Any, stop: threading.Event) -> int:
    """Build the search graphs that a study's memories would profit from.

    They are built beside the memories, which answer exactly meanwhile, and adopted under the
    study's lock.

    Args:
        study: at work; its hyper-agent is an `EpisodicAgent`.
        stop: is set once the server ends.

    Returns:
        How many were adopted.
    """
    adopted = 0
    for recollection in list(study.agent.recollections.values()):
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
