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
from tidegate.verify.faultproxy.delivery import HeldAnswers
from tidegate.verify.faultproxy.drawing import FaultSet
from tidegate.verify.faultproxy.faults import AnyFault, Down
from tidegate.verify.faultproxy.listener import Listener
from tidegate.verify.faultproxy.site import Site
from tidegate.verify.faultproxy.upstream import Address


class FaultProxy:
    """A proxy in front of one HTTP server that passes everything on, except where a fault says otherwise.

    ``async with`` opens and closes it, once. WebSockets and event streams pass through, with the faults of the
    transport only. Switches act at once: what is set applies to the next call, and to the next piece of a stream.
    `seed` makes the draws of a sequence of calls repeatable. Not thread-safe: every method belongs to the event loop.
    """

    def __init__(
        self, *, upstream: str, listen: tuple[str, int] = ("127.0.0.1", 0), seed: float | str | None = None
    ) -> None:
        """`upstream` is ``http://HOST:PORT``, else `ValueError`. Port 0 means any free one."""
        self.upstream = upstream
        self.calls = CallLog()
        self._faults = FaultSet(random.Random(seed))
        self._held = HeldAnswers(self._notify)
        self._site = Site(
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
        """Where clients connect; the same before, while and after it is down."""
        host, port = self._address[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def port(self) -> int:
        return int(self._address[1])

    @property
    def faults(self) -> tuple[AnyFault, ...]:
        """What is switched on, oldest first, each with the `count` that is left to it."""
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
        """How many answers wait for `release`."""
        return len(self._held)

    def set(self, fault: AnyFault) -> None:
        """Switch `fault` on, in place of an earlier one of its name. When this returns, `Down` refuses connections.

        Raises `msgspec.ValidationError` for parameters out of range.
        """
        self._faults.set(fault)
        self._follow()

    def clear(self, name: str | None = None) -> None:
        """Switch off the fault called `name`, or all. Raises `UnknownName`; one that is not on is no error.

        Held answers stay held, and a connection that fell into a black hole stays there.
        """
        self._faults.clear(name)
        self._follow()

    def release(self, count: int | None = None) -> int:
        """Let the oldest `count` held answers go, or all of them; how many went."""
        return self._held.release(count)

    async def until(self, condition: Callable[[Self], bool]) -> None:
        """Return once `condition` holds; looked at whenever a call comes, ends or is held, or a client has gone."""
        while not condition(self):
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(changed)
            try:
                await changed
            finally:
                self._waiters.discard(changed)

    async def __aenter__(self) -> Self:
        """Listen. Raises `OSError` if the address cannot be had."""
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
        """Bring the listener and the connections to what `is_down` says; before and after ``async with``, nothing."""
        if self._listener is None or self._listener.listening != self.is_down:
            return
        if not self.is_down:
            self._listener.start()
            return
        self._listener.stop()
        self._stop_connections(rst=True)

    def _stop_connections(self, *, rst: bool) -> None:
        for connection in self._connections.values():
            connection.stop(rst=rst)

    def _accept(self, accepted: socket.socket) -> None:
        connection = Connection(accepted, site=self._site)
        task = asyncio.create_task(connection.serve())
        self._connections[task] = connection
        task.add_done_callback(functools.partial(self._forget, accepted))

    def _forget(self, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        accepted.close()  # a task that was cancelled before it ran has not
        self._notify()
        if not task.cancelled() and (error := task.exception()):
            context = {"message": "a connection of the fault proxy failed", "exception": error}
            task.get_loop().call_exception_handler(context)

    def _notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
