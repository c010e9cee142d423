from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from client.scripted_oracle import (
    ScriptedOracle,
    answer_then_lose_it,
    drip,
    garbage,
    hang,
    reply_with,
    reset,
)
from support.quickest import quickest

from hyperoracle_client.errors import DeadlineMissed, OracleMisconfigured, OracleUnreachable
from hyperoracle_client.transports import Request
from hyperoracle_client.transports.http import HttpChannel

DEADLINE = 0.05
SLACK = 0.010  # poll() counts in whole milliseconds, and the server shares the interpreter
LIVEZ = Request("GET", "/livez")


@pytest.fixture
def channel(server: ScriptedOracle) -> Iterator[HttpChannel]:
    opened = HttpChannel(server.url)
    opened.connect(time.monotonic() + 5)
    yield opened
    opened.close()


def ask(channel: HttpChannel, seconds: float = 5.0, request: Request = LIVEZ) -> bytes:
    deadline = time.monotonic() + seconds
    channel.begin(request, deadline)
    return channel.complete(deadline).body


def ask_once(url: str, request: Request = LIVEZ) -> bytes:
    with contextlib.closing(HttpChannel(url)) as channel:
        return ask(channel, request=request)


def test_answers_come_over_one_connection(server: ScriptedOracle, channel: HttpChannel) -> None:
    assert [ask(channel) for _ in range(3)] == [b'{"status": "ok"}'] * 3
    assert len(server._connections) == 1


@pytest.mark.parametrize("behaviour", [hang, drip])
def test_the_deadline_holds(
    server: ScriptedOracle, channel: HttpChannel, behaviour: Callable
) -> None:
    server.always["livez"] = behaviour

    def miss() -> None:
        with pytest.raises(DeadlineMissed):
            ask(channel, DEADLINE)

    assert DEADLINE <= quickest(miss, DEADLINE + SLACK) <= DEADLINE + SLACK


def test_the_deadline_holds_where_nobody_accepts_connections() -> None:
    with socket.socket() as black_hole:
        black_hole.bind(("127.0.0.1", 0))
        black_hole.listen(0)
        address = black_hole.getsockname()
        fillers = [socket.socket() for _ in range(3)]  # fill the backlog: later ones get no answer
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)

        def miss() -> None:
            with pytest.raises(DeadlineMissed):
                HttpChannel(f"http://127.0.0.1:{address[1]}").connect(time.monotonic() + DEADLINE)

        assert quickest(miss, DEADLINE + SLACK) <= DEADLINE + SLACK
        for filler in fillers:
            filler.close()


def test_the_deadline_holds_while_a_large_body_is_not_read(server: ScriptedOracle) -> None:
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(20)
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        request = Request("POST", "/x", {}, bytes(10_000_000))  # more than the kernel buffers

        def missed() -> float:
            """Seconds that the request took, without the connection."""
            with contextlib.closing(HttpChannel(url)) as channel:
                channel.connect(time.monotonic() + 5)
                began = time.monotonic()
                with pytest.raises(DeadlineMissed):
                    channel.begin(request, began + DEADLINE)
                return time.monotonic() - began

        # 10 MB are copied first.
        assert any(missed() <= DEADLINE + 4 * SLACK for _ in range(20))


def test_garbage_is_no_usable_answer(server: ScriptedOracle, channel: HttpChannel) -> None:
    server.always["livez"] = garbage
    with pytest.raises(OracleUnreachable, match="status"):
        ask(channel)


def test_nobody_listening_is_told_at_once(server: ScriptedOracle) -> None:
    server.die()
    with pytest.raises(OracleUnreachable, match="refused"):
        HttpChannel(server.url).connect(time.monotonic() + 5)


def test_a_connection_that_was_closed_while_idle_is_replaced(
    server: ScriptedOracle, channel: HttpChannel
) -> None:
    ask(channel)
    server.die()
    server.come_back()
    assert ask(channel) == b'{"status": "ok"}'


def test_a_request_on_a_reused_connection_that_breaks_is_sent_again(
    server: ScriptedOracle, channel: HttpChannel
) -> None:
    ask(channel)
    server.script["livez"].append(answer_then_lose_it)
    assert ask(channel) == b'{"status": "ok"}'
    assert len(server.of("livez")) == 3


def test_a_request_on_a_fresh_connection_that_breaks_is_not_sent_again(
    server: ScriptedOracle,
) -> None:
    server.always["livez"] = answer_then_lose_it
    with pytest.raises(OracleUnreachable):
        ask_once(server.url)
    assert len(server.of("livez")) == 1


def test_an_answer_that_nobody_fetched_is_not_taken_for_the_next_one(
    server: ScriptedOracle, channel: HttpChannel
) -> None:
    server.script["livez"].append(reply_with(b"of the first request"))
    channel.begin(LIVEZ, time.monotonic() + 5)
    server.wait_for("livez", 1)
    assert ask(channel) == b'{"status": "ok"}'


def test_after_a_missed_deadline_the_next_answer_is_its_own(
    server: ScriptedOracle, channel: HttpChannel
) -> None:
    server.script["livez"].append(hang)
    with pytest.raises(DeadlineMissed):
        ask(channel, 0.01)
    server.released.set()
    assert ask(channel) == b'{"status": "ok"}'


ANSWERS = {
    "content length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: t\r\n\r\n",
    "until the end": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
    "after an interim one": b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_every_framing_of_an_answer_is_read_in_pieces_of_any_size(answer: bytes, size: int) -> None:
    assert ask_once(served_once(answer, size)) == b"hello"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
        b"HTTP/2 200\r\n\r\n",
        b"200\r\n\r\n",
        b"",
    ],
)
def test_broken_answers_are_one_kind_of_error(answer: bytes) -> None:
    with pytest.raises(OracleUnreachable):
        ask_once(served_once(answer, 10_000))


def test_a_prefix_in_the_url_comes_before_every_path(server: ScriptedOracle) -> None:
    assert ask_once(server.url + "/")
    finish = Request("POST", "/finish", {"content-type": "application/json"}, b"{}")
    assert ask_once(server.url + "/v1/jobs/j", finish) == b"{}"


@pytest.mark.parametrize("url", ["http://", "http://host:port", "http://host:99999"])
def test_a_url_without_host_or_port_is_a_mistake_of_the_users(url: str) -> None:
    with pytest.raises(OracleMisconfigured, match="expected a"):
        HttpChannel(url)


def served_once(answer: bytes, size: int) -> str:
    """The url of a server that answers one request with these bytes, in pieces, and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(65536)
            try:
                for start in range(0, len(answer), size):
                    connection.send(answer[start : start + size])
            except OSError:
                reset(connection)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"
