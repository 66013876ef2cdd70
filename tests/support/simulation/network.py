"""The network of a world: what becomes of looking up the name of a backend, and of connecting to its address.

A backend says at its `Door` how connections are taken at present; the gateway's HTTP client comes through
`Door.connected`. Whether the connection of a call or knock stood is noted here, and nowhere asked of the gateway.
"""

import asyncio
import enum
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from async_solipsism.socket import Socket  # type: ignore[import-untyped]

from simulation.virtual import Listener, VirtualLoop
from tidegate.outbound.http_client import Destination

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)

LATE_S = 0.013
"""Kernels are so late each time: no SYN is sent in the very instant of a deadline of ours."""

PORT = 80


class Manner(enum.Enum):
    """What becomes of a connection."""

    TAKEN = "is taken"
    REFUSED = "is refused"
    UNANSWERED = "is not answered, until a SYN that is sent again is"
    RESET = "is taken and reset at once"
    EVERY_OTHER = "is refused every other time, as by a load balancer with two backends of which one is dead"
    EVERY_OTHER_RESET = "is taken and reset every other time"
    REFUSED_OR_RESET = "is refused every other time, and reset when it was taken"
    ONE_SLOT = "is refused while there is another"


class Connecting(Protocol):
    """A call or a knock. `stood` is whether the connection of its last attempt stood."""

    stood: bool


_connecting: ContextVar[Connecting | None] = ContextVar("connecting", default=None)


@contextmanager
def noted(connecting: Connecting) -> Iterator[None]:
    """Connections that are made in here are those of `connecting`. What connects to nothing uses one that stands."""
    token = _connecting.set(connecting)
    try:
        yield
    finally:
        _connecting.reset(token)


class Door:
    """The address of one backend, and its name.

    `inside` counts the connections that there are. A lookup of the name takes `lookup_s`, and finds nothing unless
    `is_known`; while one is under way, whoever needs the name waits for that.
    """

    def __init__(self, loop: VirtualLoop, name: str, syns_s: tuple[int, ...]) -> None:
        self.manner = Manner.REFUSED
        self.lookup_s = 0.0
        self.is_known = True
        self.inside = 0
        self.listener = Listener(loop, name, PORT)
        self._loop = loop
        self._name = name
        self._syns_s = syns_s
        self._came = 0
        self._lookup: asyncio.Future[bool] | None = None

    async def connected(self, to: Destination) -> "_TcpConnection":
        """A connection to the backend: `tidegate.outbound.http_client.connecting.Connect`."""
        assert to.tls is None
        assert (to.url.raw_host, to.url.port) == (self._name, PORT)
        connecting = _connecting.get()
        if connecting is not None:
            connecting.stood = False
        await self._look_up()
        sock = await self._connect()
        if connecting is not None:
            connecting.stood = True
        return _TcpConnection(sock)

    @property
    def resets(self) -> bool:
        """Whether the connection that was taken last is to be reset."""
        if self.manner is Manner.EVERY_OTHER_RESET:
            return self._came % 2 == 1
        return self.manner in {Manner.RESET, Manner.REFUSED_OR_RESET}

    async def _look_up(self) -> None:
        if self._lookup is None and self.lookup_s:
            self._lookup = self._loop.create_future()
            self._loop.call_later(self.lookup_s, self._looked_up, self._lookup)
        is_known = await asyncio.shield(self._lookup) if self._lookup is not None else self.is_known
        if not is_known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def _looked_up(self, lookup: asyncio.Future[bool]) -> None:
        self._lookup = None
        lookup.set_result(self.is_known)

    async def _connect(self) -> Socket:
        began = self._loop.time()
        for syn_s in self._syns_s:
            if syn_s:
                await asyncio.sleep(began + syn_s + LATE_S - self._loop.time())
            if self.manner is not Manner.UNANSWERED:
                return await self._enter()
        raise TimeoutError("nobody answered")

    async def _enter(self) -> Socket:
        self._came += 1
        if self._refuses():
            raise ConnectionRefusedError(f"{self._name} refuses")
        self.inside += 1  # until the backend has lost it
        taken: asyncio.Task[Any] = self._loop.create_task(self.listener.make_connection(("::1", self._came, 0, 0)))
        try:
            sock = await asyncio.shield(taken)
        except asyncio.CancelledError:
            taken.add_done_callback(_close)
            raise
        if self.manner is Manner.REFUSED_OR_RESET:
            await self._reset(sock)
        return sock

    async def _reset(self, sock: Socket) -> None:
        """Wait until the reset has come: it is as quick as the connection."""
        try:
            while not sock.read_ready():
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            sock.close()
            raise

    def _refuses(self) -> bool:
        match self.manner:
            case Manner.REFUSED:
                return True
            case Manner.EVERY_OTHER | Manner.REFUSED_OR_RESET:
                return self._came % 2 == 1
            case Manner.ONE_SLOT:
                return self.inside > 0
        return False


class _TcpConnection:
    """A connection that stands: `tidegate.outbound.http_client.connecting.NewConnection`."""

    def __init__(self, sock: Socket) -> None:
        self._sock = sock

    @property
    def is_open(self) -> bool:
        return not self._sock.read_ready()  # no backend greets, so what there is to read is the end

    async def start(self, speak: Callable[[], _Protocol]) -> _Protocol:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(speak, sock=self._sock)
        except BaseException:
            self._sock.close()
            raise
        return connection

    def close(self) -> None:
        self._sock.close()


def _close(taken: asyncio.Task[Any]) -> None:
    """Nobody waits for this connection any more."""
    if not taken.cancelled() and taken.exception() is None:
        taken.result().close()
