"""A small real HTTP server that keeps the wire contract and can be told to misbehave.

It is the peer of the fault tests: it checks every message against the protocol, remembers what it
was asked, and does to the next call of a kind whatever the test scripts.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from hyperoracle_protocol.codec import decode_frame, split_frames
from hyperoracle_protocol.hyper_state import HyperStateLayout
from hyperoracle_protocol.jobs import (
    FinishJob,
    Heartbeat,
    ProposeMetadata,
    ReportMetadata,
    StartedJob,
    StartJob,
)
from hyperoracle_protocol.space import default_bins
from hyperoracle_protocol.studies import StudyDefinition

ROUTES = {
    "study": re.compile(r"PUT /v1/studies/[^/]+"),
    "start": re.compile(r"POST /v1/studies/[^/]+/jobs"),
    "propose": re.compile(r"POST /v1/jobs/[^/]+/propose"),
    "report": re.compile(r"POST /v1/jobs/[^/]+/report"),
    "reports": re.compile(r"POST /v1/jobs/[^/]+/reports"),
    "heartbeat": re.compile(r"POST /v1/jobs/[^/]+/heartbeat"),
    "finish": re.compile(r"POST /v1/jobs/[^/]+/finish"),
    "livez": re.compile(r"GET /livez"),
}

Behaviour = Callable[["_Handler"], None]


class ScriptedOracle:
    """Listens on a loopback port until it dies; may come back on the same port.

    Attributes:
        calls: (kind, message) in order of arrival; a report's message has its returns, a
            proposal's its features. One of several reports at once is followed by each of them.
        script: behaviours for the next calls of a kind, consumed one a call.
        always: a behaviour for every call of a kind.
        layout: told to jobs that start.
        job_id, last_sequence, last_report: told to jobs that start.
        answer: fields that replace a proposal's.
        reports_at_once: told to jobs that start.
        refused: sequences of reports that are refused where they come with others.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.script: dict[str, deque[Behaviour]] = defaultdict(deque)
        self.always: dict[str, Behaviour] = {}
        self.layout = HyperStateLayout(kind="none")
        self.lease_seconds = 600.0
        self.job_id = "j1"
        self.last_sequence = 0
        self.last_report: int | None = None
        self.reports_at_once = 1
        self.refused: set[int] = set()
        self.answer: dict[str, Any] = {}
        self.definition: StudyDefinition | None = None
        self.released = threading.Event()
        self.accepted: dict[int, Any] = {}
        self._arrived = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._server: _Server | None = None
        self.port = 0
        self.come_back()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def come_back(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.owner = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def die(self) -> None:
        """Stop listening and reset every connection, as a killed process does."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        for connection in list(self._connections):
            reset(connection)

    def close(self) -> None:
        self.released.set()
        self.die()

    def of(self, kind: str) -> list[Any]:
        """The messages of one kind that have arrived."""
        return [message for called, message in list(self.calls) if called == kind]

    def wait_for(self, kind: str, count: int, seconds: float = 10.0) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.of(kind)) >= count, seconds), (
                f"expected {count} calls of {kind}, got {len(self.of(kind))}"
            )

    def record(self, kind: str, message: Any) -> None:
        with self._arrived:
            self.calls.append((kind, message))
            self._arrived.notify_all()


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    owner: ScriptedOracle

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that the test broke is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.oracle = self.server.owner
        self.oracle._connections.add(self.connection)

    def finish(self) -> None:
        self.oracle._connections.discard(self.connection)
        super().finish()

    def log_message(self, *args: Any) -> None:
        """Tests print nothing."""

    def do_GET(self) -> None:
        self._dispatch()

    do_PUT = do_POST = do_GET  # noqa: N815 - the names that http.server looks for

    def _dispatch(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        called = f"{self.command} {self.path}"
        self.kind = next((k for k, route in ROUTES.items() if route.fullmatch(called)), "unknown")
        self.message = self._parse(body)
        script = self.oracle.script[self.kind]
        behave = script.popleft() if script else self.oracle.always.get(self.kind, answer)
        self.oracle.record(self.kind, self.message)
        if self.kind == "reports":
            for each in self.message:
                self.oracle.record("report", each)
        behave(self)

    def _parse(self, body: bytes) -> Any:
        if self.kind == "study":
            self.oracle.definition = StudyDefinition.model_validate_json(body)
            return self.oracle.definition
        models = {"start": StartJob, "heartbeat": Heartbeat, "finish": FinishJob}
        if self.kind in models:
            return models[self.kind].model_validate_json(body)
        if self.kind == "propose":
            return _of_frame(ProposeMetadata, body)
        if self.kind == "report":
            return _of_frame(ReportMetadata, body)
        if self.kind == "reports":
            frames = split_frames(body, self.oracle.reports_at_once)
            return [_of_frame(ReportMetadata, frame) for frame in frames]
        return None

    def reply(self, status: int, body: bytes, media_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _of_frame(model: Any, body: bytes) -> Any:
    frame = decode_frame(body)
    numbers = None if frame.dtype == "none" else np.frombuffer(frame.numbers, frame.dtype)
    return model.model_validate_json(bytes(frame.metadata)), numbers, body


def good_answer(handler: _Handler) -> bytes:
    """What a healthy oracle says."""
    oracle = handler.oracle
    if handler.kind == "start":
        started = StartedJob(
            job_id=oracle.job_id,
            study="s",
            role="exploit",
            layout=oracle.layout,
            space=oracle.definition.space,
            lease_seconds=oracle.lease_seconds,
            last_sequence=oracle.last_sequence,
            last_report=oracle.last_report,
            reports_at_once=oracle.reports_at_once,
        )
        return started.model_dump_json().encode()
    if handler.kind == "study":
        study = {
            "name": "s",
            "definition": handler.message.model_dump(mode="json"),
            "seed": 1,
            "created_at": "2026-01-01T00:00:00Z",
        }
        counts = ("jobs", "running_jobs", "proposals", "reports", "credited_proposals")
        return json.dumps({**study, **dict.fromkeys(counts, 0), "memory_size": 0}).encode()
    if handler.kind == "propose":
        metadata = handler.message[0]
        space = oracle.definition.space
        proposal = {
            "proposal_id": f"p{metadata.sequence}",
            "sequence": metadata.sequence,
            "hyperparameters": {name: max(h.values) for name, h in space.items()},
            "bins": default_bins(space),
            "explored": False,
            "epsilon": 0.1,
            **oracle.answer,
        }
        return json.dumps(proposal).encode()
    if handler.kind == "report":
        return json.dumps(_receipt(oracle, handler.message)).encode()
    if handler.kind == "reports":
        receipts: dict[str, Any] = {"receipts": []}
        for message in handler.message:
            if message[0].sequence in oracle.refused:
                receipts["refusal"] = problem(422, "invalid_request")
                break
            receipts["receipts"].append(_receipt(oracle, message))
        return json.dumps(receipts).encode()
    if handler.kind == "livez":
        return b'{"status": "ok"}'
    return b"{}"


def _receipt(oracle: ScriptedOracle, message: Any) -> dict[str, Any]:
    metadata, _, body = message
    assert oracle.accepted.setdefault(metadata.sequence, body) == body, "sequence conflict"
    return {"sequence": metadata.sequence, "status": "applied", "credited": 1}


def problem(status: int, code: str) -> dict[str, Any]:
    """What a refusal's body says."""
    return {"title": code, "status": status, "code": code, "detail": "No."}


def answer(handler: _Handler) -> None:
    """Answer as a healthy oracle does."""
    handler.reply(200, good_answer(handler))


def hang(handler: _Handler) -> None:
    """Say nothing until the test ends, then hang up."""
    handler.oracle.released.wait(30)
    handler.close_connection = True


def answer_then_lose_it(handler: _Handler) -> None:
    """Do what was asked, and break the connection before the answer."""
    good_answer(handler)
    reset(handler.connection)
    handler.close_connection = True


def break_the_connection(handler: _Handler) -> None:
    """Reset without doing anything."""
    reset(handler.connection)
    handler.close_connection = True


def garbage(handler: _Handler) -> None:
    """Answer what is no HTTP."""
    handler.wfile.write(b"\x00\xffnonsense\r\n\r\nmore of it")
    handler.close_connection = True


def drip(handler: _Handler) -> None:
    """Answer a byte every few milliseconds, so that no single wait is long."""
    whole = b"HTTP/1.1 200 OK\r\nx-filler: " + b"x" * 4096
    for byte in whole:
        if handler.oracle.released.wait(0.005):
            break
        try:
            handler.wfile.write(bytes([byte]))
        except OSError:
            break
    handler.close_connection = True


def refuse(status: int, code: str = "invalid_request") -> Behaviour:
    """Answer with a problem."""

    def behave(handler: _Handler) -> None:
        body = json.dumps(problem(status, code)).encode()
        handler.reply(status, body, "application/problem+json")

    return behave


def answer_after(seconds: float) -> Behaviour:
    """Answer as a healthy oracle does, but late."""

    def behave(handler: _Handler) -> None:
        handler.oracle.released.wait(seconds)
        with contextlib.suppress(OSError):  # nobody may be waiting any more
            answer(handler)

    return behave


def reply_with(body: bytes, status: int = 200) -> Behaviour:
    """Answer with this body."""
    return lambda handler: handler.reply(status, body)


def reset(connection: socket.socket) -> None:
    """Close a connection the hard way."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    except OSError:
        pass
