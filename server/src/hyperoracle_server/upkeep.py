"""The one background thread: trains encoders that are due, builds search indexes that pay."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from hyperoracle_server.encoder_rounds import EncoderRounds
from hyperoracle_server.hyper_agents.episodic import EpisodicAgent

if TYPE_CHECKING:
    from hyperoracle_server.oracle import Oracle
    from hyperoracle_server.study import StudyRuntime

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often it looks for work."""


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
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self._rounds.run_due()
                for study in self._oracle.studies():
                    build_indexes(study, self._stop)
            except Exception:  # a bug in upkeep must not end it: serving goes on as it is
                log.exception("upkeep failed; it tries again in %.0f s", LOOK_SECONDS)


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
        with study.lock:
            build = memory.start_index_build() if memory.index_build_due else None
        while build is not None and not stop.is_set():
            build.run()
            with study.lock:
                if build.adopt():
                    adopted += 1
                    break
    return adopted
