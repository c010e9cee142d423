"""An oracle inside this process, which the server distribution provides as an entry point."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points

from hyperoracle_client.errors import OracleError, OracleMisconfigured, OracleUnreachable
from hyperoracle_client.transports import (
    REQUEST_ID_HEADER,
    EmbeddedOracle,
    Request,
    RequestIds,
    Response,
    Transport,
)
from hyperoracle_client.transports.forks import never_let_go, stays_with_this_process

ENTRY_POINT_GROUP = "hyperoracle.transports"


def open_embedded(path: str) -> EmbeddedOracle:
    """Open the embedded oracle whose store is the file `path`.

    Raises:
        OracleMisconfigured: the server distribution is not installed, or the store cannot be
            opened (another process owns it, another version wrote it).
    """
    found = list(entry_points(group=ENTRY_POINT_GROUP, name="embedded"))
    if not found:
        raise OracleMisconfigured(
            "an embedded oracle needs the server distribution: install hyperoracle-server, "
            "or point Oracle at a running one"
        )
    try:
        open_transport = found[0].load()
    except ImportError as error:
        raise OracleMisconfigured(
            f"hyperoracle-server cannot be imported ({error}): reinstall it, "
            "or point Oracle at a running one"
        ) from error
    try:
        transport: EmbeddedOracle = open_transport(path)
    except OracleError:
        raise
    except Exception as error:  # the server's errors are its own; here they become one line
        raise OracleMisconfigured(f"cannot open the oracle at {path!r}: {error}") from error
    return transport


class OwnTransport:
    """An embedded oracle that a forked child leaves alone: to its parent, to call and to close."""

    def __init__(self, transport: EmbeddedOracle, url: str) -> None:
        self._transport = transport
        self._url = url
        self._owner: int | None = None
        self._is_closed = False
        stays_with_this_process(self)

    def check_owner(self) -> None:
        """Whether it may be used here.

        Raises:
            OracleMisconfigured: it is another process's.
        """
        if self._owner is not None:
            raise OracleMisconfigured(
                f"the oracle {self._url} belongs to process {self._owner}, of which this one was "
                "forked: run `hyperoracle serve` on its store and give all processes its address"
            )

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Answer one request (see `Transport`).

        Raises:
            OracleMisconfigured: it is another process's.
        """
        self.check_owner()
        return self._transport.handle(method, path, headers, body)

    def close(self) -> None:
        """Release the store, unless it is another process's."""
        if self._owner is None:
            self._is_closed = True
            self._transport.close()

    def leave_to(self, owner: int) -> None:
        """In a forked child: its store, its loop and its threads are the process `owner`'s."""
        self._owner = owner
        never_let_go(self._transport)
        if not self._is_closed:
            self._transport.leave_to_owner()


class EmbeddedChannel:
    """A `Channel` that calls an embedded oracle in the caller's thread; deadlines do not apply."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._request_ids = RequestIds()
        self._response: Response | None = None

    def connect(self, deadline: float) -> None:
        """Nothing to do: it is in this process."""

    def begin(self, request: Request, deadline: float) -> None:  # noqa: ARG002 - Channel's signature
        """Make the call and keep its answer."""
        self._response = None
        try:
            headers = {**request.headers, REQUEST_ID_HEADER: self._request_ids()}
            answer = self._transport.handle(request.method, request.path, headers, request.body)
        except Exception as error:  # whatever breaks inside the oracle must not reach training
            raise OracleUnreachable(f"the embedded oracle failed: {error!r}") from error
        self._response = Response(*answer)

    def complete(self, deadline: float) -> Response:  # noqa: ARG002 - Channel's signature
        """The kept answer."""
        response, self._response = self._response, None
        if response is None:
            raise OracleUnreachable("no request was begun")
        return response

    def close(self) -> None:
        """Forget an answer that nobody fetched."""
        self._response = None
