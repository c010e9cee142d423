"""Who is worked on where: hot calls at once or in a thread, all others with a place of their study.

Most hot calls take less than a thread would cost, so they are answered where they arrive. Two kinds
are not: those whose study is at work already (its lock is held), and those that take long (a
Q-network learns, a model of hundreds of jobs is asked, a long body of JSON is read). Of one study
one call at a time is in a thread, in the order of arrival: so no study holds more than one of the
threads, however many calls it gets.

The calls beside the hot ones are worked on in threads, of which the framework has forty. A study
that is at work for seconds could fill them with calls that wait for it: so many calls of one study
at a time, that those who wait for it keep no thread from others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from anyio import CapacityLimiter, to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hyperoracle_server.api.access.rules import requirement
from hyperoracle_server.oracle.admission import Call, expected_seconds
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.oracle.study import StudyRuntime

LONG_SECONDS = 0.004
"""A call that takes longer is worked on in a thread."""

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

    async def take(self, call: Call, job: str, *, is_bulky: bool, answer: Callable[[], T]) -> T:
        """Answer a call of a job, once it is its turn.

        Args:
            call: which one.
            job: the caller.
            is_bulky: whether its body alone makes it long, whatever its study has to do.
            answer: what is to be done.

        Raises:
            RequestRefused: as `answer`.
        """
        study = self._oracle.study_at_work(job)
        if study is None:  # it is refused, or its study has to be loaded again
            return await to_thread.run_sync(answer, limiter=self._waiting)
        queue = self._queues.get(study)
        is_long = is_bulky or expected_seconds(study, call, job) > LONG_SECONDS
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

    async def wait(self, durable: Future[Any]) -> None:
        """Wait until an answer may be given, while the loop goes on.

        Raises:
            RequestRefused: it may not: `store_unavailable`.
        """
        if durable.done():
            durable.result()
        else:
            await asyncio.wrap_future(durable)


PLACES = 4
"""Calls of one study in threads at a time; the next wait without one."""


class Places:
    """Pure ASGI middleware behind the guard. Used by one event loop.

    Args:
        app: the application behind it.
        oracle: knows which job is whose study's.
    """

    def __init__(self, app: ASGIApp, *, oracle: Oracle) -> None:
        self.app = app
        self._study_of_job = oracle.study_of_job
        self._places: dict[str, tuple[asyncio.Semaphore, int]] = {}  # and how many want one

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on; it has a place from when its body is there until its answer begins."""
        study = self._study(scope)
        if study is None:
            await self.app(scope, receive, send)
            return
        semaphore, wanted = self._places.get(study, (asyncio.Semaphore(PLACES), 0))
        self._places[study] = semaphore, wanted + 1
        has_place = False

        async def take() -> None:
            nonlocal has_place
            if not has_place:
                await semaphore.acquire()
                has_place = True

        def leave() -> None:
            nonlocal has_place
            if has_place:
                semaphore.release()
                has_place = False

        async def placed_receive() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                await take()
            return message

        async def placed_send(message: Message) -> None:
            leave()
            await send(message)

        try:
            if not _has_body(scope):
                await take()
            await self.app(scope, placed_receive, placed_send)
        finally:
            leave()
            semaphore, wanted = self._places.pop(study)
            if wanted > 1:
                self._places[study] = semaphore, wanted - 1

    def _study(self, scope: Scope) -> str | None:
        """The study that a call may have to wait for; hot calls have turns of their own."""
        if scope["type"] != "http" or scope["path"].endswith(("/propose", "/report", "/reports")):
            return None
        needed = requirement(scope["method"], scope["path"], self._study_of_job)
        return None if needed is None else needed.study


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
