"""Where a hot call is worked on: at once on the event loop, or in a thread while others go on.

Most hot calls take less than a thread would cost, so they are answered where they arrive. Two kinds
are not: those whose study is at work already (its lock is held), and those that take long (a
Q-network learns, a model of hundreds of jobs is asked, a long body of JSON is read). Of one study
one call at a time is in a thread, in the order of arrival: so no study holds more than one of the
threads, however many calls it gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

from anyio import CapacityLimiter, to_thread

from hyperoracle_server.oracle.load import Call, expected_seconds
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.oracle.study import StudyRuntime

LONG_SECONDS = 0.004
"""A call that takes longer is worked on in a thread."""

LONG_JSON_BYTES = 64 * 1024
"""So does a longer body of JSON."""

AT_WORK = 2
"""Calls that take long at the same time, over all studies: more would only divide the processor."""

WAITING = 256
"""Studies of which a call may wait in a thread for the study's lock, at the same time."""

T = TypeVar("T")


class Turns:
    """Gives hot calls their turn. Used by one event loop.

    Args:
        oracle: whose jobs call.
    """

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._queues: WeakKeyDictionary[StudyRuntime, asyncio.Lock] = WeakKeyDictionary()
        self._at_work = CapacityLimiter(AT_WORK)
        self._waiting = CapacityLimiter(WAITING)

    async def take(self, call: Call, job: str, json_bytes: int, answer: Callable[[], T]) -> T:
        """Answer a call of a job, once it is its turn.

        Args:
            call: which one.
            job: the caller.
            json_bytes: length of a body of JSON, 0 of another.
            answer: what is to be done.

        Raises:
            OracleError: as `answer`.
        """
        study = self._oracle.study_at_work(job)
        if study is None:  # it is refused, or its study has to be loaded again
            return await to_thread.run_sync(answer, limiter=self._waiting)
        queue = self._queues.get(study)
        is_long = json_bytes > LONG_JSON_BYTES or expected_seconds(study, call, job) > LONG_SECONDS
        is_free = not is_long and (queue is None or not queue.locked())
        if is_free and study.lock.acquire(blocking=False):
            try:
                return answer()
            finally:
                study.lock.release()
        if queue is None:
            queue = self._queues.setdefault(study, asyncio.Lock())
        async with queue:
            limiter = self._at_work if is_long else self._waiting
            return await to_thread.run_sync(answer, limiter=limiter)
