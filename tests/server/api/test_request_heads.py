"""How much a connection may bring beside bodies. That it comes in time is R11's."""

from __future__ import annotations

import socket
from itertools import repeat
from urllib.parse import urlsplit

import pytest

FIRST = b"GET /livez HTTP/1.1\r\nhost: a\r\n"
CHUNKED = b"POST /v1/jobs/none/report HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
PART = b"x" * 20 * 1024


@pytest.fixture
def connection(running_oracle):
    parts = urlsplit(running_oracle.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10.0) as made:
        yield made


def to_the_end(connection: socket.socket) -> bytes:
    """All that comes until the server closes, which it has to."""
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer


@pytest.mark.parametrize(
    ("first", "more"),
    {
        "one header": (FIRST + b"a: ", PART),
        "many headers": (FIRST, b"a: b\r\n" * 3000),
        "request line": (b"GET /", PART),
        "trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", b"a: " + PART + b"\r\n"),
        "extension of a chunk": (CHUNKED + b"1;", PART),
    }.values(),
)
def test_a_head_without_end_is_refused_before_it_fills_the_memory(connection, first, more):
    """Seen to hang with the comparison taken out: the server takes what comes."""
    connection.sendall(first)
    try:
        for part in repeat(more, 200):
            connection.sendall(part)
            connection.settimeout(0.05)  # who sends on after the answer may lose it
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                answer = b""
            connection.settimeout(10.0)
            if answer:
                break
    except ConnectionError:
        return  # cut off: the answer crossed with what was sent
    answer += to_the_end(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"head is too large" in answer


def test_a_body_in_the_smallest_chunks_is_no_long_head(connection):
    connection.sendall(CHUNKED + b"1\r\n \r\n" * 100_000 + b"0\r\n\r\n")
    assert connection.recv(65536).startswith(b"HTTP/1.1 422 ")  # blanks are no report


def test_some_requests_may_wait_on_a_connection_and_not_without_end(connection):
    """Seen to answer them all with the comparison taken out: each that waits takes memory."""
    few = 20
    connection.sendall((FIRST + b"\r\n") * (few - 1) + FIRST + b"connection: close\r\n\r\n")
    assert to_the_end(connection).count(b"HTTP/1.1 200") == few


def test_a_connection_with_too_many_waiting_requests_ends(connection):
    many = 1000
    connection.sendall((FIRST + b"\r\n") * (many - 1) + FIRST + b"connection: close\r\n\r\n")
    assert to_the_end(connection).count(b"HTTP/1.1 200") < many
