"""The proxy of the network tests does what it says, as a plain socket sees it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from support.fault_proxy import (
    WRONG_JSON,
    Answer,
    BlackHole,
    Delay,
    Drip,
    FaultProxy,
    Loss,
    Passing,
    Refuse,
    Reset,
)

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    """Before a server that sends back what comes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def echo(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                connection.sendall(piece)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=echo, args=(connection,), daemon=True).start()

    accepting = threading.Thread(target=serve, daemon=True)
    accepting.start()
    with FaultProxy(listener.getsockname()[1]) as proxy:
        yield proxy
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    accepting.join()


@contextlib.contextmanager
def connected(proxy: FaultProxy, patience: float = 10.0) -> Iterator[socket.socket]:
    address = ("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    with socket.create_connection(address, patience) as connection:
        yield connection


def received(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (piece := connection.recv(size - len(found))):
        found += piece
    return found


def echoed(connection: socket.socket, data: bytes = REQUEST) -> bytes:
    connection.sendall(data)
    return received(connection, len(data))


def is_silent(connection: socket.socket) -> bool:
    connection.settimeout(0.05)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    return False


def test_it_passes_everything_and_the_end_too(proxy: FaultProxy) -> None:
    with connected(proxy) as connection:
        data = bytes(range(256)) * 10_000
        threading.Thread(target=connection.sendall, args=(data,)).start()
        assert received(connection, len(data)) == data
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert proxy.accepted == 1


@pytest.mark.parametrize(
    "fault", [Delay(towards_server=0.1), Delay(towards_client=0.1), Loss(1.0, 0.05), Drip(0.002)]
)
def test_it_delays_in_each_direction(proxy: FaultProxy, fault: Delay | Loss | Drip) -> None:
    with connected(proxy) as connection:
        began = time.monotonic()
        assert echoed(connection) == REQUEST
        quick = time.monotonic() - began
        proxy.become(fault)
        began = time.monotonic()
        assert echoed(connection) == REQUEST
        least = 0.002 * len(REQUEST) if isinstance(fault, Drip) else 0.1
        assert time.monotonic() - began >= least
        proxy.become(Passing())
        assert echoed(connection) == REQUEST
    assert quick < 5.0


@pytest.mark.parametrize("after", [0, 10])
def test_it_resets_in_the_middle_of_an_answer(proxy: FaultProxy, after: int) -> None:
    proxy.become(Reset(after))
    with connected(proxy) as connection:
        connection.sendall(REQUEST)
        assert received(connection, after) == REQUEST[:after]
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_black_hole_takes_all_and_says_nothing_also_later(proxy: FaultProxy) -> None:
    with connected(proxy) as before:
        assert echoed(before) == REQUEST
        proxy.become(BlackHole())
        with connected(proxy) as within:
            for connection in (before, within):
                connection.sendall(REQUEST)
                assert is_silent(connection)
            proxy.become(Passing())
            for connection in (before, within):
                assert is_silent(connection), "what was swallowed cannot be made good"
        with connected(proxy) as after:
            assert echoed(after) == REQUEST


def test_frozen_connections_are_half_open_and_new_ones_work(proxy: FaultProxy) -> None:
    with connected(proxy) as frozen, connected(proxy) as waiting:
        assert echoed(frozen) == echoed(waiting) == REQUEST
        proxy.freeze()
        frozen.sendall(REQUEST)
        assert is_silent(frozen)
        assert is_silent(waiting)
        with connected(proxy) as fresh:
            assert echoed(fresh) == REQUEST


def test_it_refuses_connections_and_listens_again_at_the_same_place(proxy: FaultProxy) -> None:
    url = proxy.url
    with connected(proxy) as connection:
        assert echoed(connection) == REQUEST
        proxy.become(Refuse())
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionRefusedError), connected(proxy):
        pass
    proxy.become(Passing())
    assert proxy.url == url
    with connected(proxy) as connection:
        assert echoed(connection) == REQUEST


def test_it_answers_each_request_once_however_it_is_cut(proxy: FaultProxy) -> None:
    proxy.become(Answer(b"no"))
    with connected(proxy) as connection:
        for byte in REQUEST:
            connection.sendall(bytes([byte]))
        connection.sendall(REQUEST)
        assert received(connection, 4) == b"nono"
        assert is_silent(connection)
    proxy.become(WRONG_JSON)
    with connected(proxy) as connection:
        connection.sendall(REQUEST)
        assert received(connection, len(WRONG_JSON.content)) == WRONG_JSON.content
