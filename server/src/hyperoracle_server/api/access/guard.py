"""Who calls, may they, and not too often? What every request passes after the gate."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_server.api.access.audit import AuditLog
from hyperoracle_server.api.access.callers import ANYBODY, Caller, Doorkeeper
from hyperoracle_server.api.access.rules import Requirement, requirement
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.telemetry.logs import shown_path

CALLER = "hyperoracle.caller"
"""Where a request's scope holds its `Caller`."""

AUDITED = "hyperoracle.audited"
"""Where the scope of an administrative call holds what its route adds to the record."""

_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}


class Guard:
    """Pure ASGI middleware that tells callers apart and holds them to what they may do.

    Args:
        app: the application behind it.
        oracle: knows which job is whose study's.
        doorkeeper: knows the tokens; None lets everybody in (an embedded oracle).
        rate_limit: of each token.
        audit: takes the record of administrative calls.
        takes_any_host: whether an open oracle may be called by a name that is not this machine's.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        oracle: Oracle,
        doorkeeper: Doorkeeper | None,
        rate_limit: RateLimit,
        audit: AuditLog | None,
        takes_any_host: bool = False,
    ) -> None:
        self.app = app
        self._study_of_job = oracle.study_of_job
        self._doorkeeper = doorkeeper
        self._rate_limit = rate_limit
        self._audit = audit
        self._takes_any_host = takes_any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with a known caller.

        Raises:
            RequestRefused: `unauthenticated`, `forbidden`, `rate_limited`; the gate answers them.
        """
        kind = scope["type"]
        if kind == "lifespan":
            await self.app(scope, receive, send)
        elif kind == "http":
            await self._guarded(scope, receive, send)
        else:  # there are no web sockets, and none gets past here by mistake
            await send({"type": "websocket.close", "code": 1008})

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        needed = requirement(method, scope["path"], self._study_of_job)
        caller = ANYBODY
        if needed is not None and self._doorkeeper is not None:
            caller = self._admitted(scope, needed, self._doorkeeper)
            self._check_rate(caller)
            receive = self._checking_again(scope, receive, self._doorkeeper)
        scope[CALLER] = caller
        if needed is not None and _is_administrative(method, needed):
            send = self._recording(scope, caller, send)
        await self.app(scope, receive, send)

    def _admitted(self, scope: Scope, needed: Requirement, doorkeeper: Doorkeeper) -> Caller:
        """Who calls, if that caller may do this now."""
        caller = doorkeeper.admit(_header(scope, b"authorization"))
        if caller.token is None:
            _check_origin(scope)
            if not self._takes_any_host:
                _check_host(scope)
        try:
            caller.check(needed)
        except RequestRefused:
            if needed.scope == "admin":
                self._record(scope, caller, 403)
            raise
        return caller

    def _checking_again(self, scope: Scope, receive: Receive, doorkeeper: Doorkeeper) -> Receive:
        """A `receive` that looks again once a body that came in pieces is whole.

        A snapshot takes hours at the slowest that is allowed; the token may be revoked meanwhile,
        and what was no study's job may have become another's.
        """
        came_in_pieces = False

        async def receive_and_check() -> Message:
            nonlocal came_in_pieces
            message = await receive()
            if message.get("more_body", False):
                came_in_pieces = True
            elif came_in_pieces and message["type"] == "http.request":
                needed = requirement(scope["method"], scope["path"], self._study_of_job)
                if needed is not None:
                    self._admitted(scope, needed, doorkeeper)
            return message

        return receive_and_check

    def _check_rate(self, caller: Caller) -> None:
        if caller.token is None:
            return
        wait = self._rate_limit.take(caller.token.id)
        if wait > 0:
            raise RequestRefused(
                ErrorCode.RATE_LIMITED,
                f"the token {caller.name!r} makes too many calls; wait, or give each program a "
                "token of its own",
                retry_after_seconds=wait,
            )

    def _recording(self, scope: Scope, caller: Caller, send: Send) -> Send:
        """A `send` that writes the call down once its status is known."""
        scope[AUDITED] = {}

        async def recording_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._record(scope, caller, message["status"])
            await send(message)

        return recording_send

    def _record(self, scope: Scope, caller: Caller, status: int) -> None:
        is_confirmation = scope["method"] == "PUT" and status == 200  # a job starts: no change
        if self._audit is None or is_confirmation:
            return
        client = scope.get("client")
        self._audit.record(
            call=f"{scope['method']} {shown_path(scope['path'])}",
            status=status,
            token=caller.name,
            client=None if client is None else client[0],
            request_id=scope["request_id"],
            **scope.get(AUDITED, {}),
        )


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    for name, value in scope["headers"]:
        if name == wanted:
            found: bytes = value
            return found
    return None


def _check_origin(scope: Scope) -> None:
    """Refuse changes that some page in the browser of an open oracle's user tries to make.

    A page of another port of this machine is another page: to a browser it is of the same site.

    Raises:
        RequestRefused: `forbidden`.
    """
    if scope["method"] == "GET":
        return
    site, origin = _header(scope, b"sec-fetch-site"), _header(scope, b"origin")
    if site is not None:
        is_other = site.strip().lower() not in (b"same-origin", b"none")
    else:  # no secure context: a browser says less
        is_other = origin is not None and not _is_own(origin, scope)
    if is_other:
        raise RequestRefused(
            ErrorCode.FORBIDDEN,
            "a page of another site or port may not change anything here; give programs a token",
            expected="the header Sec-Fetch-Site same-origin, or an Origin that is this oracle's",
            got=(origin or site or b"").decode("latin-1"),
        )


def _is_own(origin: bytes, scope: Scope) -> bool:
    scheme, _, host = origin.strip().lower().partition(b"://")
    port = _DEFAULT_PORTS.get(scheme, b"")
    asked = (_header(scope, b"host") or b"").strip().lower()
    return host.removesuffix(port) == asked.removesuffix(port)


def _check_host(scope: Scope) -> None:
    """Refuse a name in the public DNS, which a page of that name can make mean this machine.

    To the browser the page and an oracle on loopback are then of one origin, and the page reads
    and changes what it likes (DNS rebinding). An address or a name without a dot is nobody's.

    Raises:
        RequestRefused: `forbidden`.
    """
    host = (_header(scope, b"host") or b"").decode("latin-1").lower()
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    name = name.strip("[]").removesuffix(".")
    if "." not in name or name.endswith(".localhost"):
        return
    try:
        ipaddress.ip_address(name)
    except ValueError:
        raise RequestRefused(
            ErrorCode.FORBIDDEN,
            "this oracle asks for no token, so it is called by an address or as localhost; to call "
            "it by another name, make a token (`hyperoracle token create`)",
            expected="a header Host with an address, or localhost",
            got=host,
        ) from None


def _is_administrative(method: str, needed: Requirement) -> bool:
    """Whether a call is recorded: all that takes an administrator, and the creation of studies."""
    return needed.scope == "admin" or method == "PUT"


BURST_SECONDS = 2.0
"""A caller that was silent for so long may make the calls of that time at once."""


class RateLimit:
    """Counts calls. Used by one thread.

    Args:
        per_second: calls of one caller that are let through in the long run; 0: all are.
        monotonic: a clock that never jumps, in seconds.
    """

    def __init__(self, per_second: float, monotonic: Callable[[], float]) -> None:
        self._per_second = per_second
        self._most = max(1.0, BURST_SECONDS * per_second)
        self._monotonic = monotonic
        self._buckets: dict[str, tuple[float, float]] = {}  # caller: what is left, when

    def take(self, caller: str) -> float:
        """Take one call from a caller's bucket.

        Returns:
            0 where there was one, else the seconds until there will be.
        """
        if self._per_second == 0:
            return 0.0
        now = self._monotonic()
        left, then = self._buckets.get(caller, (self._most, now))
        left = min(self._most, left + (now - then) * self._per_second)
        if left < 1.0:
            self._buckets[caller] = (left, now)
            return (1.0 - left) / self._per_second
        self._buckets[caller] = (left - 1.0, now)
        return 0.0
