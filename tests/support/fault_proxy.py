"""A TCP proxy between clients and a real server that does to the connection what networks do.

It runs in a thread of its own, on real sockets. What it does can be changed at any time; a
connection that is open follows with the next piece of data.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

_PIECE = 256 * 1024


@dataclass(frozen=True)
class Passing:
    """Forward everything as it is."""


@dataclass(frozen=True)
class Delay:
    """Forward each piece so many seconds later."""

    towards_server: float = 0.0
    towards_client: float = 0.0


@dataclass(frozen=True)
class Loss:
    """Lose a share of the packets, as TCP shows it: those pieces come a retransmission later."""

    share: float
    seconds: float
    seed: int = 0


@dataclass(frozen=True)
class Reset:
    """Let requests through, and reset (RST) after so many bytes of what the server answers."""

    after_bytes: int = 0


@dataclass(frozen=True)
class BlackHole:
    """Accept, take whatever comes, and never answer; connections are never closed."""


@dataclass(frozen=True)
class Refuse:
    """Nobody listens; open connections are reset."""


@dataclass(frozen=True)
class Answer:
    """Answer each request with these bytes; the server sees none of it."""

    content: bytes


@dataclass(frozen=True)
class Drip:
    """Forward what the server answers a byte at a time, with so many seconds before each."""

    seconds: float


Fault = Passing | Delay | Loss | Reset | BlackHole | Refuse | Answer | Drip

GARBAGE_BYTES = Answer(b"\x00\xff\x13nonsense\r\n\r\nand more of it")
GARBAGE_PAGE = Answer(
    b"HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 20\r\n\r\n"
    b"<html>nothing</html>"
)
WRONG_JSON = Answer(
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\r\n"
    b'{"hello":"world"}'
)


class FaultProxy:
    """Listens on a free loopback port and forwards to a server's port.

    Attributes:
        accepted: connections that clients have opened so far.
        stalled: pieces that `Loss` has held back so far.
    """

    def __init__(self, server_port: int) -> None:
        self.accepted = 0
        self.stalled = 0
        self._server_port = server_port
        self._fault: Fault = Passing()
        self._random = random.Random(0)
        self._port = 0
        self._listener: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._port}"

    def become(self, fault: Fault) -> None:
        """Do this from now on; returns once it is so."""
        self._call(self._become(fault))

    def freeze(self) -> None:
        """Make every open connection half-open: nothing passes any more, no end ever comes.

        Connections that are opened later are not touched, as behind a router that has forgotten
        the ones it knew.
        """
        self._call(self._freeze())

    def __enter__(self) -> Self:
        self._thread.start()
        self.become(Passing())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, action: Awaitable[None]) -> None:
        asyncio.run_coroutine_threadsafe(action, self._loop).result(10)  # type: ignore[arg-type]

    async def _become(self, fault: Fault) -> None:
        self._fault = fault
        if isinstance(fault, Loss):
            self._random.seed(fault.seed)
        if isinstance(fault, Refuse):
            self._stop_listening()
            for connection in list(self._connections):
                connection.reset()
        elif self._listener is None:
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
            self._port = self._listener.sockets[0].getsockname()[1]

    async def _freeze(self) -> None:
        for connection in self._connections:
            connection.is_dead = True

    async def _end(self) -> None:
        self._stop_listening()
        ending = list(self._connections)
        for connection in ending:
            connection.reset()
        await asyncio.gather(*(each.task for each in ending), return_exceptions=True)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = _Connection(self, reader, writer, self._server_port)
        self._connections.add(connection)
        if isinstance(self._fault, Refuse):  # it came in the moment before
            connection.reset()
        connection.task.add_done_callback(lambda _: self._connections.discard(connection))


class _Connection:
    """One client's connection, and the one to the server on its behalf."""

    def __init__(
        self,
        proxy: FaultProxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_port: int,
    ) -> None:
        self.is_dead = False
        self.task = asyncio.get_running_loop().create_task(self._run(server_port))
        self._proxy = proxy
        self._client = reader, writer
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._request = b""
        self._answered = 0

    async def _run(self, port: int) -> None:
        """Forward until both sides have ended, or one is broken."""
        try:
            self._server = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(
                self._pump(self._client[0], self._towards_server, self._server[1]),
                self._pump(self._server[0], self._towards_client, self._client[1]),
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self.reset()

    def reset(self) -> None:
        """End both sides with RST."""
        self.task.cancel()
        for _, writer in filter(None, (self._client, self._server)):
            raw = writer.get_extra_info("socket")
            if raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        forward: Callable[[bytes], Awaitable[None]],
        sink: asyncio.StreamWriter,
    ) -> None:
        while piece := await source.read(_PIECE):
            await self._stop_if_dead()
            await forward(piece)
        await self._stop_if_dead()
        sink.write_eof()

    async def _stop_if_dead(self) -> None:
        if isinstance(self._proxy._fault, BlackHole):
            self.is_dead = True
        if self.is_dead:
            await asyncio.Event().wait()  # until the proxy ends

    async def _towards_server(self, piece: bytes) -> None:
        fault = self._proxy._fault
        if isinstance(fault, Answer):
            self._answer(fault, piece)
            return
        if isinstance(fault, Delay):
            await asyncio.sleep(fault.towards_server)
        await self._stall(fault)
        await self._write(self._server, piece)

    async def _towards_client(self, piece: bytes) -> None:
        fault = self._proxy._fault
        if isinstance(fault, Reset):
            piece = piece[: max(0, fault.after_bytes - self._answered)]
            self._answered += len(piece)
        if isinstance(fault, Drip):
            for byte in piece:
                await asyncio.sleep(fault.seconds)
                await self._write(self._client, bytes([byte]))
            return
        if isinstance(fault, Delay):
            await asyncio.sleep(fault.towards_client)
        await self._stall(fault)
        await self._write(self._client, piece)
        if isinstance(fault, Reset) and self._answered >= fault.after_bytes:
            await asyncio.sleep(0)  # what is written is sent before the reset
            self.reset()

    async def _stall(self, fault: Fault) -> None:
        if isinstance(fault, Loss) and self._proxy._random.random() < fault.share:
            self._proxy.stalled += 1
            await asyncio.sleep(fault.seconds)

    async def _write(self, side: Any, piece: bytes) -> None:
        await self._stop_if_dead()
        side[1].write(piece)
        await side[1].drain()

    def _answer(self, fault: Answer, piece: bytes) -> None:
        """Answer once for each whole request."""
        self._request += piece
        while (end := self._request.find(b"\r\n\r\n")) >= 0:
            lines = self._request[:end].lower().split(b"\r\n")
            lengths = [int(x[15:]) for x in lines if x.startswith(b"content-length:")]
            whole = end + 4 + sum(lengths)
            if len(self._request) < whole:
                return
            self._request = self._request[whole:]
            self._client[1].write(fault.content)
