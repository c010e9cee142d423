"""How a request reaches an oracle: over HTTP, or into an embedded one in this process.

`Transport` is the seam that an embedded oracle implements; `Channel` is what a job talks through.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from hyperoracle_protocol.version import PROTOCOL_HEADER, PROTOCOL_VERSION

REQUEST_ID_HEADER = "x-request-id"


def wire_headers(token: str | None) -> dict[str, str]:
    """The headers that every request carries."""
    headers = {PROTOCOL_HEADER: PROTOCOL_VERSION}
    if token:
        headers["authorization"] = f"Bearer {token}"
    return headers


class RequestIds:
    """Names for requests, each once: what the client says of a call and what the oracle logs."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._count = itertools.count(1)

    def __call__(self) -> str:
        """The next one."""
        return f"{self._prefix}-{next(self._count)}"


class Response(NamedTuple):
    """An answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Request(NamedTuple):
    """A call on the oracle: `path` begins with a slash and holds the query if there is one."""

    method: str
    path: str
    headers: Mapping[str, str] = {}
    body: bytes = b""


class Transport(Protocol):
    """An oracle in this process; `handle` may be called from several threads at a time."""

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Answer one request with status, headers and body."""
        ...

    def close(self) -> None:
        """Release the store; later calls fail."""
        ...


class EmbeddedOracle(Transport, Protocol):
    """What the entry points of `hyperoracle.transports` make."""

    def leave_to_owner(self) -> None:
        """In a forked child: hold nothing that the parent must be able to release alone."""
        ...


class Channel(Protocol):
    """One conversation with an oracle, a request at a time, used by one thread at a time.

    A call is cut in two, so that the answer to a request can be fetched later (prefetch).
    Deadlines are points on `time.monotonic()`.
    """

    def connect(self, deadline: float) -> None:
        """Look the oracle up and connect anew.

        Raises:
            OracleUnreachable: nobody listens there.
        """
        ...

    def begin(self, request: Request, deadline: float) -> None:
        """Send a request.

        Raises:
            OracleUnreachable: it could not be sent in time.
        """
        ...

    def complete(self, deadline: float) -> Response:
        """The answer to the request that was begun.

        Raises:
            OracleUnreachable: none came in time, or it is garbage; the channel is then closed.
        """
        ...

    def close(self) -> None:
        """Drop the connection; a later call connects anew."""
        ...
