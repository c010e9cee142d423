"""So many calls of one study at a time, so that those who wait for it keep no thread from others.

The calls beside the hot ones are worked on in threads, of which the framework has forty. A study
that is at work for seconds could fill them with calls that wait for it.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hyperoracle_server.api.access.rules import requirement
from hyperoracle_server.oracle.oracle import Oracle

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
        if scope["type"] != "http" or scope["path"].endswith(("/propose", "/report")):
            return None
        needed = requirement(scope["method"], scope["path"], self._study_of_job)
        return None if needed is None else needed.study


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
