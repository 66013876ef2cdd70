"""The connections to one backend that wait for the next call."""

import asyncio
from collections.abc import Awaitable, Callable

from tidegate.outbound.http_client.connection import PooledConnection


class Pool:
    """Keeps connections open between calls, the one that was used last in front.

    One that has been idle for `idle_s` seconds is closed. One that is older than `age_s` seconds when a call is over
    is closed then, never under a call: the next one looks the name up anew, so that a name which has moved is
    followed although the old address still answers. `idle_s` of 0 keeps nothing.
    """

    def __init__(self, connect: Callable[[], Awaitable[PooledConnection]], *, idle_s: float, age_s: float) -> None:
        self._connect = connect
        self._idle_s = idle_s
        self._age_s = age_s
        self._idle: dict[PooledConnection, asyncio.TimerHandle] = {}
        self._taken: set[PooledConnection] = set()

    async def take(self, *, new: bool = False) -> PooledConnection:
        """A connection for one call, a `new` one if need be. Raises what opening one raises; give it back."""
        while self._idle and not new:
            connection, timer = self._idle.popitem()
            timer.cancel()
            if connection.is_open:
                self._taken.add(connection)
                return connection
        connection = await self._connect()
        self._taken.add(connection)
        return connection

    def give_back(self, connection: PooledConnection) -> None:
        """The call is over."""
        self._taken.discard(connection)
        loop = asyncio.get_running_loop()
        if not connection.is_open:
            return
        if self._idle_s <= 0 or loop.time() - connection.opened_at >= self._age_s:
            connection.close()
            return
        self._idle[connection] = loop.call_later(self._idle_s, self._drop, connection)

    def clear(self) -> None:
        """Keep none of the connections that wait."""
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            connection.close()

    async def aclose(self) -> None:
        """Close every connection, also those that are taken, and wait until they are closed."""
        for timer in self._idle.values():
            timer.cancel()
        closing = [*self._idle, *self._taken]
        self._idle.clear()
        for connection in closing:
            connection.abort()
        for connection in closing:
            await connection.gone()

    def _drop(self, connection: PooledConnection) -> None:
        del self._idle[connection]
        connection.close()
