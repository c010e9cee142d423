"""The oracle inside the job's own process: the same application without a socket.

The client finds `open_transport` by the entry point group `hyperoracle.transports`.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from hyperoracle_protocol.version import PROTOCOL_HEADER, PROTOCOL_VERSION
from hyperoracle_server.api import wire
from hyperoracle_server.app import create_app
from hyperoracle_server.errors import OracleError
from hyperoracle_server.oracle import leases
from hyperoracle_server.settings import ServerSettings

_HOT = re.compile(r"/v1/jobs/([^/]+)/(propose|report)")


class EmbeddedTransport:
    """Calls the application directly. Thread-safe.

    The hot calls run in the caller's thread; all others pass through the ASGI application on a
    loop of its own.
    """

    def __init__(self, path: str) -> None:
        self._app = create_app(ServerSettings.embedded(path), is_embedded=True)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="embedded-oracle", daemon=True
        )
        self._thread.start()
        self._lifespan = self._app.router.lifespan_context(self._app)
        self._run(self._lifespan.__aenter__())

    def end_all_jobs(self) -> None:
        """Count every running job as fallen silent; its next call takes it back."""
        leases.end_all(self._app.state.oracle)

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
            return self._handle_hot(hot[1], hot[2], headers, body)
        answer: tuple[int, dict[str, str], bytes] = self._run(
            self._through_asgi(method, path, headers, body)
        )
        return answer

    def _handle_hot(
        self, job: str, name: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        call = wire.propose if name == "propose" else wire.report
        try:
            answer = call(self._app.state.oracle, job, headers.get("content-type", ""), body)
            if answer.durable is not None:
                answer.durable.result()
            if answer.outcome is not None:
                self._app.state.metrics.count_report(answer.outcome)
        except OracleError as error:
            if name == "report":
                self._app.state.metrics.count_report("rejected")
            answer = wire.problem(error, headers.get("x-request-id"))
        identity = {"content-type": answer.media_type, PROTOCOL_HEADER: PROTOCOL_VERSION}
        return answer.status, identity, answer.body

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
        self._app.state.oracle.ledger.leave_to_owner()

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
