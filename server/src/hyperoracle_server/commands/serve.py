"""Run an oracle that training jobs can share."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import logging
import os
import shlex
import signal
import socket
import ssl
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvicorn
from pydantic import ValidationError

from hyperoracle_server.api.app import create_app
from hyperoracle_server.api.connections import BoundedProtocol, Limits
from hyperoracle_server.api.deployment import deployment_of
from hyperoracle_server.commands.garbage import NewObjectsOnly
from hyperoracle_server.errors import StoreRefused
from hyperoracle_server.settings import ENVIRONMENT_ONLY, ServerSettings
from hyperoracle_server.telemetry import logs

log = logging.getLogger("hyperoracle_server")


SWITCH_SECONDS = 0.001
"""How long a thread that computes may keep the interpreter from the event loop."""


def register(subparsers: Any) -> None:
    """Add `hyperoracle serve`."""
    parser = subparsers.add_parser("serve", help=__doc__, description=__doc__)
    for name in _options():
        field = ServerSettings.model_fields[name]
        flag = f"--{name.replace('_', '-')}"
        default = "" if field.default in (None, False) else f" Default: {field.default}."
        text = f"{field.description}{default}".replace("%", "%%")
        if field.annotation is bool:
            parser.add_argument(flag, action="store_true", default=None, help=text)
        else:
            parser.add_argument(flag, metavar=name.upper(), help=text)
    parser.add_argument(
        "--ready-file", metavar="FILE", help="Write {url, pid} as JSON here once it listens."
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM, SIGHUP or Ctrl-C; returns the exit code."""
    try:
        settings = ServerSettings.load(**{name: getattr(args, name) for name in _options()})
        return serve(settings, args.ready_file)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"{_spellings(str(part))}: " for part in first["loc"][:1])
        what = first["msg"].removeprefix("Value error, ")
        print(f"hyperoracle serve: {where}{what}", file=sys.stderr)
    except (StoreRefused, ValueError, OSError) as error:
        print(f"hyperoracle serve: {error}", file=sys.stderr)
    return 1


def _spellings(name: str) -> str:
    """A setting, and how it is given."""
    flag = "" if name in ENVIRONMENT_ONLY else f"--{name.replace('_', '-')} or "
    return f"{name} ({flag}HYPERORACLE_{name.upper()})"


def _options() -> list[str]:
    return [name for name in ServerSettings.model_fields if name not in ENVIRONMENT_ONLY]


def check_exposure(settings: ServerSettings, *, asks_for_tokens: bool) -> None:
    """Refuse to listen where others could reach it without a token, unless told to.

    Raises:
        ValueError: with the remedy.
    """
    if _is_loopback(settings.host):
        return
    if not asks_for_tokens and not settings.insecure:
        raise ValueError(
            f"{settings.host} can be reached by others and there is no token yet: make one "
            "(`hyperoracle token create --name me --scope admin --store "
            f"{shlex.quote(settings.store)}`), "
            "listen on 127.0.0.1, or add --insecure on a network that you trust"
        )
    if asks_for_tokens and settings.tls_certificate is None:
        log.warning(
            "tokens cross the network readably: add --tls-certificate and --tls-key, or put a "
            "proxy in front that speaks https"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_certificate(certificate: Path, key: Path) -> None:
    """See that https can be served with these files.

    Raises:
        ValueError: saying which file is wrong.
    """

    def encrypted() -> str:
        raise ValueError(f"{key} is encrypted; give a key without a pass phrase")

    for path in (certificate, key):
        try:
            path.read_bytes()
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, encrypted)
    except ssl.SSLError as error:
        raise ValueError(
            f"expected a certificate chain in {certificate} and its key in {key}, both as PEM: "
            f"{error.reason or error}"
        ) from None


def serve(settings: ServerSettings, ready_file: str | None) -> int:
    """Listen and answer until told to stop."""
    logs.configure(settings.log_level, settings.log_format)
    sys.setswitchinterval(SWITCH_SECONDS)
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is not None and key is not None:
        check_certificate(certificate, key)
    # Here, so that an oracle that is asked for no traces has nothing of them in mind at its start.
    from hyperoracle_server.telemetry.tracing import open_tracing, traces_endpoint

    traces = traces_endpoint(settings.otlp_endpoint, os.environ)
    # IPPROTO_TCP said explicitly: only then does asyncio set TCP_NODELAY on the connections.
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        raise ValueError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; choose another "
            "with --host or --port"
        ) from None
    host, port = listener.getsockname()[:2]
    scheme = "http" if certificate is None else "https"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    app = create_app(settings, tracing=None if traces is None else open_tracing(traces))
    deployment = deployment_of(app)
    try:
        check_exposure(settings, asks_for_tokens=deployment.doorkeeper.asks_for_tokens)
    except ValueError:
        deployment.close()
        raise
    limits = Limits(settings.connection_limit, settings.request_seconds, deployment.metrics)
    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", partial(BoundedProtocol, limits=limits)),
        ws="none",
        log_config=None,  # as the program's own logs
        access_log=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        server_header=False,
        date_header=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    NewObjectsOnly()
    server = _Announcing(config, url=url, store=settings.store, ready_file=ready_file)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # the terminal closed; not under nohup
        signal.signal(signal.SIGHUP, server.handle_exit)
    server.run(sockets=[listener])
    return 0 if server.started else 1


class _Announcing(uvicorn.Server):
    """A server that says where it listens once it does."""

    def __init__(
        self, config: uvicorn.Config, *, url: str, store: str, ready_file: str | None
    ) -> None:
        super().__init__(config)
        self._url = url
        self._store = store
        self._ready_file = ready_file

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then announce."""
        await super().startup(sockets)
        print(
            f"HyperOracle listens on {self._url}, store {self._store}; the calls: {self._url}/docs",
            flush=True,
        )
        if self._ready_file is not None:
            # Renamed into place, so that who sees the file sees all of it.
            ready = Path(self._ready_file)
            partial = ready.with_name(ready.name + ".partial")
            announcement = {"url": self._url, "pid": os.getpid(), "store": self._store}
            partial.write_text(json.dumps(announcement))
            partial.replace(ready)
