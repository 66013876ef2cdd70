"""A backend over HTTP that goes out in the ways in which backends do, and comes back, on the same port.

``GET /NUMBER`` is answered with a JSON object. It notes when which call began, and knows nothing of who asks.
"""

import asyncio
import enum
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable

HOST = "127.0.0.1"

BACKLOG = 4096


class Outage(enum.Enum):
    """How a backend is out; the value is what tables call it."""

    REFUSED = "connection refused"
    HANG = "accepts, never answers"
    ERROR = "HTTP 500"
    UNANSWERED = "unanswered SYNs"
    UNAUTHORIZED = "HTTP 401"
    ONE_POLL = "one failed poll"
    """It answers a single call with 500."""


class FaultyBackend:
    """Answers each call `latency_s` after it came. Its port stays its own while nothing listens there.

    `called_at` has the Unix time of each call that arrived, in their order, and `numbers` what each one asked for.
    """

    def __init__(self, *, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.called_at: list[float] = []
        self.numbers: list[int] = []
        self.outage: Outage | None = None
        self.connected = 0
        """How many connections were accepted."""
        self.connections: set[_Connection] = set()
        self.on_well: Callable[[], None] = lambda: None
        """Called when the one call of `Outage.ONE_POLL` has been answered."""
        self._bound = _bound(0)
        self.port: int = self._bound.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._fillers: list[socket.socket] = []
        self._closed = False

    async def start(self) -> None:
        """Listen, and answer."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), sock=self._bound, backlog=BACKLOG)

    async def go_out(self, outage: Outage) -> None:
        """Be out. For all but the two that need them, connections that stand are reset."""
        self.outage = outage
        if outage in {Outage.REFUSED, Outage.UNANSWERED}:
            self.stop_listening()
            self._drop_connections()
        if outage is Outage.UNANSWERED:
            # With a backlog of none, one connection that nobody accepts makes Linux drop every further SYN.
            self._bound.listen(0)
            self._fillers.append(socket.create_connection((HOST, self.port), timeout=1))

    async def come_back(self) -> float:
        """Be well again; returns the Unix time from which on calls are answered."""
        outage, self.outage = self.outage, None
        returned_at = time.time()
        if outage in {Outage.REFUSED, Outage.UNANSWERED}:
            await self.start()
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        return returned_at

    def opened(self, connection: "_Connection") -> None:
        """A connection was accepted."""
        self.connected += 1
        self.connections.add(connection)

    def ended(self, connection: "_Connection") -> None:
        """A connection is no more."""
        self.connections.discard(connection)

    def close(self) -> None:
        """Stop listening, and drop everything."""
        self._closed = True
        self.stop_listening()
        self._bound.close()
        self._drop_connections()
        for filler in self._fillers:
            filler.close()

    def calls(self, begin: float, end: float) -> int:
        """How many calls arrived between two moments."""
        return sum(begin <= at < end for at in self.called_at)

    def busiest_second(self, begin: float, end: float) -> int:
        """The most calls within any second that begins with a call between the two moments."""
        return busiest([at for at in self.called_at if begin <= at < end])

    def stop_listening(self) -> None:
        """Refuse new connections, but keep the port."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._bound.close()
        self._bound = _bound(self.port)

    def _drop_connections(self) -> None:
        for connection in list(self.connections):
            connection.abort()


def busiest(moments: list[float], width_s: float = 1.0) -> int:
    """The most of the sorted `moments` that lie within any `width_s`."""
    most = first = 0
    for number, moment in enumerate(moments):
        while moments[first] <= moment - width_s:
            first += 1
        most = max(most, number - first + 1)
    return most


def per_second(moments: list[float], begin: float) -> Counter[int]:
    """How many of `moments` lie in each second since `begin`."""
    return Counter(int(moment - begin) for moment in moments if moment >= begin)


class Resetting(FaultyBackend):
    """Accepts every connection, and resets it at once."""

    def opened(self, connection: "_Connection") -> None:
        super().opened(connection)
        connection.reset()


class OneSlot(FaultyBackend):
    """A device with a single TCP connection: while it stands, further ones are refused."""

    def opened(self, connection: "_Connection") -> None:
        super().opened(connection)
        self.stop_listening()

    def ended(self, connection: "_Connection") -> None:
        super().ended(connection)
        if not self._closed and self.outage is None:
            self._again = asyncio.ensure_future(self.start())


class _Connection(asyncio.Protocol):
    def __init__(self, backend: FaultyBackend) -> None:
        self._backend = backend
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._backend.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._backend.ended(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._asked(int(head.split(b" ", 2)[1].strip(b"/") or 0))

    def reset(self) -> None:
        assert self._transport is not None
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _asked(self, number: int) -> None:
        backend = self._backend
        backend.called_at.append(time.time())
        backend.numbers.append(number)
        match backend.outage:
            case Outage.HANG:
                return
            case Outage.UNAUTHORIZED:
                self._answer(b"401 Unauthorized", b"{}")
            case Outage.ERROR:
                self._answer(b"500 Internal Server Error", b"{}")
            case Outage.ONE_POLL:
                backend.outage = None
                self._answer(b"500 Internal Server Error", b"{}")
                backend.on_well()
            case _:
                body = b'{"number":%d,"calls":%d}' % (number, len(backend.called_at))
                if backend.latency_s:
                    asyncio.get_running_loop().call_later(backend.latency_s, self._answer, b"200 OK", body)
                else:
                    self._answer(b"200 OK", body)

    def _answer(self, status: bytes, body: bytes) -> None:
        if self._transport is not None:
            head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            self._transport.write(head % (status, len(body)) + body)


def _bound(port: int) -> socket.socket:
    """A socket that holds `port` without listening: who connects is refused."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, port))
    return sock
