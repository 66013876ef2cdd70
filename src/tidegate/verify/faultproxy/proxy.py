"""The fault proxy itself: its listening socket, its connections, and the switches."""

import asyncio
import functools
import random
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tidegate.verify.faultproxy.calls import CallLog
from tidegate.verify.faultproxy.connection import Connection
from tidegate.verify.faultproxy.context import ProxyContext
from tidegate.verify.faultproxy.delivery import HeldAnswers
from tidegate.verify.faultproxy.drawing import FaultSet
from tidegate.verify.faultproxy.faults import AnyFault, Down, Unanswered
from tidegate.verify.faultproxy.listener import Listener, Reception
from tidegate.verify.faultproxy.upstream import Address


class FaultProxy:
    """A proxy in front of one HTTP server. It passes everything through, except when a fault hits.

    Use it once, with ``async with``. WebSockets and event streams pass through too, subject to transport faults only.
    A fault that is set applies to the next call and to the next piece of a stream. `seed` makes the random choices for
    a sequence of calls repeatable. Not thread-safe: call all methods in the event loop.
    """

    def __init__(
        self, *, upstream: str, listen: tuple[str, int] = ("127.0.0.1", 0), seed: float | str | None = None
    ) -> None:
        """`upstream` is ``http://HOST:PORT``; anything else raises `ValueError`. Port 0 in `listen` is any free one."""
        self.upstream = upstream
        self.calls = CallLog()
        self._faults = FaultSet(random.Random(seed))
        self._held = HeldAnswers(self._notify)
        self._context = ProxyContext(
            upstream=Address.parse(upstream),
            faults=self._faults,
            calls=self.calls,
            held=self._held,
            jitter=random.Random(seed),
            changed=self._notify,
        )
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._waiters: set[asyncio.Future[None]] = set()
        self._listener: Listener | None = None
        self._address: Any = listen

    @property
    def url(self) -> str:
        """The URL for clients. It stays the same while the proxy is down and after."""
        host, port = self._address[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def port(self) -> int:
        return int(self._address[1])

    @property
    def faults(self) -> tuple[AnyFault, ...]:
        """The active faults, oldest first, each with its remaining `count`."""
        return self._faults.active

    @property
    def is_down(self) -> bool:
        return any(isinstance(fault, Down) for fault in self.faults)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    @property
    def held(self) -> int:
        """The number of answers that wait for `release`."""
        return len(self._held)

    def set(self, fault: AnyFault) -> None:
        """Switch `fault` on. It replaces an earlier fault of the same name.

        `Down` and `Unanswered` take effect before this returns.

        Raises `msgspec.ValidationError` for parameters out of range.
        """
        self._faults.set(fault)
        self._follow()

    def clear(self, name: str | None = None) -> None:
        """Switch off the fault called `name`, or all. Raises `UnknownName`, but not for a fault that is off.

        Held answers stay held, and connections that were hit by a black hole stay dead.
        """
        self._faults.clear(name)
        self._follow()

    def release(self, count: int | None = None) -> int:
        """Release the oldest `count` held answers, or all. Return how many were released."""
        return self._held.release(count)

    async def until(self, condition: Callable[[Self], bool]) -> None:
        """Wait until `condition` holds. It is checked when a call comes, ends or is held, and when a client leaves."""
        while not condition(self):
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(changed)
            try:
                await changed
            finally:
                self._waiters.discard(changed)

    async def __aenter__(self) -> Self:
        """Listen. Raises `OSError` if the address cannot be bound."""
        self._listener = await Listener.bind(self._address, accepted=self._accept)
        self._address = self._listener.address
        self._follow()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._stop_connections(rst=False)
        if self._connections:
            await asyncio.wait(list(self._connections))

    def _follow(self) -> None:
        """Apply `Down` and `Unanswered` to the listener and the connections. Does nothing outside of ``async with``."""
        if self._listener is None or self._listener.reception is self._reception:
            return
        self._listener.receive(self._reception)
        if self._reception is not Reception.ACCEPTED:
            self._stop_connections(rst=True)

    @property
    def _reception(self) -> Reception:
        if self.is_down:
            return Reception.REFUSED
        is_unanswered = any(isinstance(fault, Unanswered) for fault in self.faults)
        return Reception.UNANSWERED if is_unanswered else Reception.ACCEPTED

    def _stop_connections(self, *, rst: bool) -> None:
        for connection in self._connections.values():
            connection.stop(rst=rst)

    def _accept(self, accepted: socket.socket) -> None:
        connection = Connection(accepted, context=self._context)
        task = asyncio.create_task(connection.serve())
        self._connections[task] = connection
        task.add_done_callback(functools.partial(self._forget, accepted))

    def _forget(self, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        accepted.close()  # needed if the task was cancelled before it ran, and so has not closed the socket
        self._notify()
        if not task.cancelled() and (error := task.exception()):
            context = {"message": "a connection of the fault proxy failed", "exception": error}
            task.get_loop().call_exception_handler(context)

    def _notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
