"""Virtual time: an event loop whose clock jumps to the next timer, and sockets that exist only inside it.

Nothing waits, nothing is faked of our own: asyncio's transports, the client of backends and our server run as
they are. A byte that is written arrives in the same instant.
"""

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import async_solipsism  # type: ignore[import-untyped]
from async_solipsism.clock import Clock as Ticks  # type: ignore[import-untyped]
from async_solipsism.selector import Selector  # type: ignore[import-untyped]
from async_solipsism.socket import ListenSocket, Queue, Socket, SocketFd  # type: ignore[import-untyped]

from tidegate.core.instant import Instant

EPOCH_WALL = 1_795_000_000.0
"""Unix time at the beginning of every run."""

TURNS = 20_000
"""Turns of the loop without time passing, after which it is taken to go round for ever."""

_ROUNDING = 1e-3
"""The part of a tick that is only the inexactness of adding seconds up."""

T = TypeVar("T")


class VirtualLoop(async_solipsism.EventLoop):  # type: ignore[misc] # the library has no types
    """An event loop of its own world. `open_sockets` is empty once everything is closed."""

    def __init__(self) -> None:
        super().__init__()
        ticks = _Ticks()
        self.time = ticks.time
        self.selector = _Selector(ticks)
        self._selector: Any = self.selector

    def stand_still(self, seconds: float) -> None:
        """Time passes and nothing runs: the machine sleeps."""
        self.selector.clock.advance(seconds)

    @property
    def open_sockets(self) -> int:
        """Sockets that somebody still listens to."""
        return len(self.selector.registered)


class WorldClock:
    """Monotonic time is the loop's; the wall clock jumps when it is told to."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._offset = EPOCH_WALL

    def now(self) -> Instant:
        mono = self._loop.time()
        return Instant(mono, mono + self._offset)

    async def sleep_until(self, mono: float) -> None:
        await asyncio.sleep(max(0.0, mono - self._loop.time()))

    def call_at(self, mono: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        timer: asyncio.TimerHandle = self._loop.call_at(mono, callback)
        return timer

    def wall(self) -> float:
        return self.now().wall

    def jump(self, seconds: float) -> None:
        self._offset += seconds


class Listener(ListenSocket):  # type: ignore[misc] # the library has no types
    """A listening socket. The kernels of its connections hold `capacity` bytes on the way to the client.

    Takes every option without a warning, as its connections do: none means anything here.
    """

    def __init__(self, loop: VirtualLoop, host: str, port: int, *, capacity: int | None = None) -> None:
        super().__init__((host, port))
        self._touch = loop.selector.touch
        self._capacity = capacity

    def accept(self) -> tuple[Socket, Any]:
        waiting = [(waiter, peer) for waiter, peer in self._queue if not waiter.done()]
        self._queue.clear()
        if not waiting:
            raise BlockingIOError
        (waiter, peer), *rest = waiting
        self._queue.extend(rest)
        to_client, to_server = _Queue(self._touch, self._capacity), _Queue(self._touch)
        theirs = _Socket(to_client, to_server, sockname=peer, peername=self._sockname)
        ours = _Socket(to_server, to_client, sockname=self._sockname, peername=peer)
        to_client.ends = to_server.ends = (theirs, ours)
        waiter.set_result(theirs)
        return ours, peer

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        pass

    async def make_connection(self, peername: Any) -> Any:
        self._touch(self)
        return await super().make_connection(peername)


def run_in_virtual_time(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run `main` to its end in a world of its own. Tasks that it left behind are cancelled then."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        return runner.run(main(loop))


class _Ticks(Ticks):  # type: ignore[misc] # the library has no types
    """Rounds up, so that waiting for less than a tick gets somewhere."""

    def advance(self, delta: float) -> None:
        if delta > 0:
            self._ticks += max(1, math.ceil(delta / self._resolution - _ROUNDING))


class _Socket(Socket):  # type: ignore[misc] # the library has no types
    """Takes every option without a warning: none means anything here."""

    def close(self) -> None:
        """As often as one likes, as with any socket."""
        if self._read_queue is not None:
            super().close()

    def fileno(self) -> "_Descriptor":
        return _Descriptor(self)

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        pass


class _Descriptor(SocketFd):  # type: ignore[misc] # the library has no types
    """Less than any number: of these there are enough, whatever the limit of the process is."""

    def __lt__(self, other: int) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SocketFd) and self.socket is other.socket

    def __hash__(self) -> int:
        return hash(self.socket)


class _Queue(Queue):  # type: ignore[misc] # the library has no types
    """Bytes on their way in one direction; whoever may be affected by a change is looked at by the selector."""

    ends: tuple[Socket, ...] = ()

    def __init__(self, touch: Callable[[Any], None], capacity: int | None = None) -> None:
        super().__init__(capacity)
        self._touch = touch

    def write(self, data: Any) -> int | None:
        self._touch_ends()
        taken: int | None = super().write(data)
        return taken

    def read(self, size: int = -1) -> bytes:
        self._touch_ends()
        data: bytes = super().read(size)
        return data

    def write_eof(self) -> None:
        self._touch_ends()
        super().write_eof()

    def _touch_ends(self) -> None:
        for end in self.ends:
            self._touch(end)


class _Selector(Selector):  # type: ignore[misc] # the library has no types
    """The same as its parent, but it looks only at sockets to which something happened since they were last idle."""

    def __init__(self, clock: Ticks) -> None:
        super().__init__(clock)
        self.registered: dict[Any, Any] = {}
        self._touched: dict[Any, None] = {}
        self._turns = 0

    def touch(self, sock: Any) -> None:
        self._touched[sock] = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
        return self._note(super().register(fileobj, events, data))

    def modify(self, fileobj: Any, events: int, data: Any = None) -> Any:
        return self._note(super().modify(fileobj, events, data))

    def unregister(self, fileobj: Any) -> Any:
        key: Any = super().unregister(fileobj)
        self.registered.pop(key.fd.socket, None)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[Any, int]]:
        ready: list[tuple[Any, int]] = []
        for sock in list(self._touched):
            key = self.registered.get(sock)
            events = 0
            if key is not None and key.events & selectors.EVENT_READ and sock.read_ready():
                events |= selectors.EVENT_READ
            if key is not None and key.events & selectors.EVENT_WRITE and sock.write_ready():
                events |= selectors.EVENT_WRITE
            if key is not None and events:
                ready.append((key, events))
            else:
                del self._touched[sock]
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing will ever happen again in this world")
            self.clock.advance(timeout)
        self._turns = 0 if timeout and not ready else self._turns + 1
        if self._turns == TURNS:
            raise RuntimeError(f"{TURNS} turns of the event loop in one instant")
        return ready

    def _note(self, key: Any) -> Any:
        self.registered[key.fd.socket] = key
        self.touch(key.fd.socket)
        return key
