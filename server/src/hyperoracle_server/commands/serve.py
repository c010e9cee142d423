"""Run an oracle that training jobs can share."""

from __future__ import annotations

import argparse
import ipaddress
import json
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import ValidationError

from hyperoracle_server.app import create_app
from hyperoracle_server.errors import StoreRefused
from hyperoracle_server.settings import ServerSettings

log = logging.getLogger("hyperoracle_server")


def register(subparsers: Any) -> None:
    """Add `hyperoracle serve`."""
    parser = subparsers.add_parser("serve", help=__doc__, description=__doc__)
    for name, field in ServerSettings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        text = f"{field.description} Default: {field.default}."
        if field.annotation is bool:
            parser.add_argument(flag, action="store_true", default=None, help=text)
        else:
            parser.add_argument(flag, metavar=name.upper(), help=text)
    parser.add_argument(
        "--ready-file", metavar="FILE", help="Write {url, pid} as JSON here once it listens."
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; returns the exit code."""
    try:
        chosen = {name: getattr(args, name) for name in ServerSettings.model_fields}
        settings = ServerSettings.load(**chosen)
        _check_exposure(settings)
        return serve(settings, args.ready_file)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        print(f"hyperoracle serve: {first['loc'][0]}: {first['msg']}", file=sys.stderr)
    except (StoreRefused, ValueError, OSError) as error:
        print(f"hyperoracle serve: {error}", file=sys.stderr)
    return 1


def _check_exposure(settings: ServerSettings) -> None:
    """Refuse to listen where others could reach it, unless told to.

    Raises:
        ValueError: with the remedy.
    """
    if settings.host == "localhost" or settings.insecure:
        return
    try:
        loopback = ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(
            f"{settings.host} can be reached by others and this release has no tokens yet: "
            "listen on 127.0.0.1, or add --insecure on a network that you trust"
        )


def serve(settings: ServerSettings, ready_file: str | None) -> int:
    """Listen and answer until told to stop."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
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
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_config=None,  # as the program's own logs
        access_log=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        server_header=False,
        date_header=False,
    )
    server = _Announcing(config, url=url, store=settings.store, ready_file=ready_file)
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
