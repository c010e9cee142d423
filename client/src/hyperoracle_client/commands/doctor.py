"""Check that the client is installed well and reaches its oracle."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from hyperoracle_client.api import OracleApi
from hyperoracle_client.commands.options import add_options
from hyperoracle_client.commands.printing import print_json
from hyperoracle_client.errors import OracleError, OracleRefused, ProtocolMismatch
from hyperoracle_client.job.delivery.spool import SUFFIX, read_spool
from hyperoracle_client.settings import ClientSettings, load_settings, why_temporary
from hyperoracle_client.transports.endpoint import Endpoint
from hyperoracle_protocol.version import PROTOCOL_VERSION

DISTRIBUTIONS = ("protocol", "client", "server", "trainers")
ROUND_TRIPS = 9


class Finding(NamedTuple):
    """One line of the doctor's."""

    check: str
    ok: bool
    detail: str
    remedy: str | None = None


def register(subparsers: Any) -> None:
    """Add `hyperoracle doctor`."""
    parser = subparsers.add_parser("doctor", help=__doc__, description=__doc__)
    add_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    findings = list(examine({"url": args.url, "token": args.token}))
    if args.json:
        print_json([finding._asdict() for finding in findings])
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            mark = "ok  " if finding.ok else "FAIL"
            print(f"{mark}  {finding.check.ljust(width)}  {finding.detail}")
            if finding.remedy:
                print(f"      {' ' * width}  -> {finding.remedy}")
    return 0 if all(finding.ok for finding in findings) else 1


def examine(arguments: dict[str, Any]) -> Iterator[Finding]:
    """Check everything, as far as it goes."""
    yield _installed()
    try:
        settings = load_settings(arguments)
    except OracleError as error:
        yield Finding("settings", False, str(error), "correct the setting")
        return
    yield Finding("settings", True, f"oracle at {settings.url}, on_error {settings.on_error}")
    yield _spooled(settings)
    try:
        endpoint = Endpoint(settings)
    except OracleError as error:
        yield Finding("oracle", False, str(error), "see the message")
        return
    try:
        with OracleApi.at(endpoint) as api:
            yield from _oracle(api, settings)
    finally:
        endpoint.close()


def _installed() -> Finding:
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(f"hyperoracle-{name}")
        except PackageNotFoundError:
            continue
    detail = ", ".join(f"{name} {number}" for name, number in found.items())
    same = len(set(found.values())) == 1
    return Finding(
        "installed",
        same,
        detail,
        None if same else "install the same version of all hyperoracle distributions",
    )


def _spooled(settings: ClientSettings) -> Finding:
    waiting, unreadable = [], 0
    for path in sorted(settings.spool_directory.glob(f"*{SUFFIX}")):
        try:
            spooled = read_spool(path)
        except (OSError, ValueError, KeyError, TypeError):
            unreadable += 1
            continue
        waiting.append(f"{len(spooled.reports)} of {spooled.study} (job_key {spooled.job_key})")
    if not waiting and not unreadable:
        why = why_temporary(settings.spool_directory)
        temporary = f", and temporary because {why}" if why else ""
        return Finding("spool", True, f"{settings.spool_directory} is empty{temporary}")
    detail = f"{settings.spool_directory} holds reports: " + "; ".join(waiting)
    if unreadable:
        detail += f"; {unreadable} files cannot be read"
    remedy = "start the job again with its job_key to deliver them, or delete the file"
    return Finding("spool", False, detail, remedy)


def _oracle(api: OracleApi, settings: ClientSettings) -> Iterator[Finding]:
    started = f"start one with 'hyperoracle serve', or set --url (now {settings.url})"
    try:
        api.health()
    except ProtocolMismatch as error:
        yield Finding("protocol", False, str(error), "upgrade the older of the two")
        return
    except OracleError as error:
        yield Finding("reachable", False, str(error), started)
        return
    seconds = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        api.health()
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds) * 1e3
    yield Finding("reachable", True, f"{settings.url} answers in {median:.1f} ms")
    yield Finding("protocol", True, f"both speak {PROTOCOL_VERSION.partition('.')[0]}")
    yield _attempt("ready", lambda: _ready(api))
    yield _attempt("authorised", lambda: _authorised(api))


def _attempt(check: str, examination: Callable[[], Finding]) -> Finding:
    try:
        return examination()
    except OracleError as error:
        return Finding(check, False, str(error), "see the server's log")


def _ready(api: OracleApi) -> Finding:
    health = api.health("readyz")
    checks = ", ".join(f"{name}: {state}" for name, state in health.checks.items())
    ready = health.status == "ok"
    remedy = None if ready else "see the server's log, or wait until it has started"
    return Finding("ready", ready, checks or health.status, remedy)


def _authorised(api: OracleApi) -> Finding:
    try:
        studies = len(api.studies().studies)
    except OracleRefused as error:
        if error.status not in (401, 403):
            raise
        remedy = "set --token or HYPERORACLE_TOKEN to one that the operator gave out"
        return Finding("authorised", False, str(error), remedy)
    return Finding("authorised", True, f"{studies} studies can be read")
