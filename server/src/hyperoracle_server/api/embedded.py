"""The oracle inside the job's own process: the same application without a socket.

The client finds `open_transport` by the entry point group `hyperoracle.transports`.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar, cast
from urllib.parse import unquote

from hyperoracle_protocol.errors import PROBLEM_MEDIA_TYPE
from hyperoracle_protocol.version import PROTOCOL_HEADER, PROTOCOL_VERSION
from hyperoracle_server.api.app import create_app
from hyperoracle_server.api.deployment import deployment_of
from hyperoracle_server.api.hot import JSON_MEDIA_TYPE, answer_hot
from hyperoracle_server.api.problems import problem
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.oracle.admission import Call
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.oracle.upkeep import end_all
from hyperoracle_server.settings import ServerSettings

_T = TypeVar("_T")

_HOT = re.compile(r"/v1/jobs/([^/]+)/(propose|reports?)")


class _CallersThread:
    """A way in whose calls are worked on where they come from; it never suspends."""

    async def take(self, call: Call, job: str, *, is_bulky: bool, answer: Callable[[], _T]) -> _T:
        """Make the answer now."""
        del call, job, is_bulky
        return answer()

    async def wait(self, durable: Future[Any]) -> None:
        """Wait in this thread."""
        durable.result()


_CALLERS_THREAD = _CallersThread()


def _at_once(call: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine that never suspends, without an event loop."""
    try:
        call.send(None)
    except StopIteration as done:
        result: _T = done.value
        return result
    raise AssertionError("it waits for an event loop")


class EmbeddedTransport:
    """Calls the application directly. Thread-safe.

    The hot calls run in the caller's thread; all others pass through the ASGI application on a
    loop of its own.
    """

    def __init__(self, path: str) -> None:
        self._app = create_app(ServerSettings.embedded(path), is_embedded=True)
        self._deployment = deployment_of(self._app)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="embedded-oracle", daemon=True
        )
        self._thread.start()
        self._lifespan = self._app.router.lifespan_context(self._app)
        self._run(self._lifespan.__aenter__())

    @property
    def oracle(self) -> Oracle:
        """The oracle that answers."""
        return self._deployment.oracle

    def end_all_jobs(self) -> None:
        """Count every running job as fallen silent; its next call takes it back."""
        end_all(self.oracle)

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer a request.

        Args:
            method: `GET`, `PUT`, `POST` or `DELETE`.
            path: with its query.
            headers: by lower-case name.
            body: the request's body.

        Returns:
            Status, headers by lower-case name, body.
        """
        hot = _HOT.fullmatch(path) if method == "POST" else None
        if hot is not None:
            return self._answer_hot(cast("Call", hot[2]), hot[1], headers, body)
        answer: tuple[int, dict[str, str], bytes] = self._run(
            self._through_asgi(method, path, headers, body)
        )
        return answer

    def _answer_hot(
        self, name: Call, job: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        began, status = time.perf_counter(), 200
        media_type = headers.get("content-type", "")
        try:
            call = answer_hot(self._deployment, _CALLERS_THREAD, name, job, media_type, body, began)
            content, kind = _at_once(call), JSON_MEDIA_TYPE
        except RequestRefused as error:
            status, content = problem(error, headers.get("x-request-id"))
            kind = PROBLEM_MEDIA_TYPE
        return status, {"content-type": kind, PROTOCOL_HEADER: PROTOCOL_VERSION}, content

    async def _through_asgi(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        route, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(route),
            "raw_path": route.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            "server": ("embedded", 0),
            "client": ("embedded", 0),
        }
        sent: list[Any] = []

        received = False

        async def receive() -> dict[str, Any]:
            nonlocal received
            if received:  # whoever listens for the caller's going away waits until it is done
                await asyncio.Event().wait()
            received = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        answered = {k.decode("latin-1"): v.decode("latin-1") for k, v in sent[0]["headers"]}
        content = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], answered, content

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def leave_to_owner(self) -> None:
        """In a forked child: the store is the parent's; nothing here is used any more."""
        self.oracle.ledger.leave_to_owner()

    def close(self) -> None:
        """Write what is queued, let go of the store, stop the loop."""
        if self._loop.is_closed():
            return
        self._run(self._lifespan.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def open_transport(path: str) -> EmbeddedTransport:
    """Open the store at this path, which no other process may have open.

    Raises:
        StoreRefused: with one line that says what to do.
    """
    transport = EmbeddedTransport(path)
    # Nobody else can have this store open: whose job still runs in it died with its process.
    transport.end_all_jobs()
    return transport
