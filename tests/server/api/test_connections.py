"""Answers over real sockets: who reads them slowly gets all, who does not is cut off."""

from __future__ import annotations

import re
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from support.oracle_process import OracleProcess
from support.waiting import wait_until
from support.wire_client import Wire

PLACES = 2
REQUESTS = 200
ASK = b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OracleProcess]:
    with OracleProcess(tmp_path_factory.mktemp("strict"), request_seconds=0.5,
                       connection_limit=PLACES) as process:  # fmt: skip
        yield process


def connected(process: OracleProcess) -> socket.socket:
    host, _, port = process.url.removeprefix("http://").partition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # the kernel's share
    connection.settimeout(60)
    connection.connect((host, int(port)))
    return connection


def free_place(process: OracleProcess) -> bool:
    with closing(Wire(url=process.url)) as wire:
        return wire.call("GET", "/v1/studies").status == 200


def test_who_does_not_read_its_answers_is_cut_off_and_its_place_is_free(strict):
    """Seen to fail (all places are taken for ever) without `_look_at_reader`."""
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(strict)) for _ in range(PLACES)]
        for connection in silent:
            connection.sendall(ASK * REQUESTS)  # far more to read than the kernel keeps
        assert not free_place(strict)
        poll = select.poll()
        for connection in silent:
            poll.register(connection, select.POLLHUP | select.POLLERR)
        cut: set[int] = set()
        deadline = time.monotonic() + 60  # it takes 2 s where the machine is not busy
        while len(cut) < PLACES:
            cut |= {number for number, _ in poll.poll(1000)}
            for number in cut:
                poll.register(number, 0)
            assert time.monotonic() < deadline, f"{len(cut)} of {PLACES} are cut off"
        wait_until("their places are free", lambda: free_place(strict))
    assert strict.log().count("its answer was not read") == PLACES
    assert "Exception" not in strict.log()


def test_who_hangs_up_amid_answers_that_wait_behind_each_other_is_no_bug(strict):
    """Seen to fail (an exception in the log) where only the newest request is told."""
    with connected(strict) as connection:
        connection.sendall(ASK * REQUESTS)
        assert connection.recv(1)
    with connected(strict) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(ASK * REQUESTS)
        assert connection.recv(1)
    wait_until("their places are free", lambda: free_place(strict))
    assert "Exception" not in strict.log()


@pytest.mark.slow
def test_who_reads_slowly_gets_all(strict):
    """Reading takes several times what an answer that nobody reads has."""
    with connected(strict) as connection:
        connection.sendall(ASK * REQUESTS)
        found = 0
        rest = b""
        began = time.monotonic()
        while found < REQUESTS:
            piece = connection.recv(128 * 1024)
            assert piece, f"cut off after {found} answers"
            rest = (rest + piece)[-(len(piece) + 16) :]
            found += len(re.findall(rb"HTTP/1.1 200", rest))
            rest = rest[-11:]
            time.sleep(0.02)  # this is the slowness
        assert time.monotonic() - began > 1.5
