"""Where the oracle is: makes the channels that lead there, and says what an api needs."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

from hyperoracle_client.errors import OracleMisconfigured, OracleRefused, refusal
from hyperoracle_client.settings import ClientSettings
from hyperoracle_client.transports import Channel, Request, Response, Transport, wire_headers
from hyperoracle_client.transports.embedded import EmbeddedChannel, OwnTransport, open_embedded
from hyperoracle_client.transports.http import HttpChannel

if TYPE_CHECKING:
    from hyperoracle_client.api import OracleApi


class Endpoint:
    """An oracle's address, remote or embedded; an embedded one is opened at once.

    Attributes:
        settings: those that name it.
        tls: whom an https oracle must be vouched for by, None for others.
    """

    def __init__(self, settings: ClientSettings) -> None:
        """Open the endpoint that the settings name.

        Raises:
            OracleMisconfigured: an embedded oracle that cannot be opened, certificates that
                cannot be read.
        """
        self.settings = settings
        self._headers = wire_headers(settings.token)
        self.tls = _trust(settings) if settings.url.startswith("https") else None
        self._embedded: OwnTransport | None = None
        if settings.embedded_path is not None:
            self._embedded = OwnTransport(open_embedded(settings.embedded_path), settings.url)

    @property
    def url(self) -> str:
        """The oracle's url, for messages."""
        return self.settings.url

    def channel(self) -> Channel:
        """A new channel for the hot calls of one thread.

        Raises:
            OracleMisconfigured: an embedded oracle that is closed, or another process's.
        """
        if (transport := self.embedded()) is not None:
            return EmbeddedChannel(transport)
        if self.settings.embedded_path is not None:
            raise OracleMisconfigured(f"the oracle {self.url} is closed: open it again")
        return HttpChannel(self.url, self._headers, self.tls)

    def api(self) -> OracleApi:
        """A new api for every call but the hot ones; to be closed.

        Raises:
            OracleMisconfigured: an embedded oracle that is closed, or another process's.
        """
        from hyperoracle_client.api import OracleApi  # costs 0.2 s with httpx: not at import

        return OracleApi.at(self)

    def embedded(self) -> Transport | None:
        """The embedded oracle, None of a remote one and of one that is closed.

        Raises:
            OracleMisconfigured: it is another process's.
        """
        if self._embedded is not None:
            self._embedded.check_owner()
        return self._embedded

    def close(self) -> None:
        """Close an embedded oracle."""
        if self._embedded is not None:
            self._embedded.close()
            self._embedded = None


def _trust(settings: ClientSettings) -> ssl.SSLContext:
    """Whom an https oracle must be vouched for by.

    Raises:
        OracleMisconfigured: the bundle is none.
    """
    try:
        return ssl.create_default_context(cafile=settings.ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise OracleMisconfigured(
            f"expected certificates (PEM) in the ca_bundle {settings.ca_bundle}: {error}"
        ) from None


def exchange(channel: Channel, request: Request, seconds: float) -> Response:
    """Make a whole call within so many seconds and return its 2xx answer.

    Raises:
        OracleUnreachable: no usable answer in time.
        OracleRefused: an answer that is not 2xx.
    """
    deadline = time.monotonic() + seconds
    channel.begin(request, deadline)
    response = channel.complete(deadline)
    if not 200 <= response.status < 300:
        raise refusal(response.status, response.body)
    return response


def is_passing(error: OracleRefused) -> bool:
    """Whether a refusal may be gone later: the server's own trouble, or its being busy."""
    return error.status >= 500 or error.status in (408, 425, 429)
