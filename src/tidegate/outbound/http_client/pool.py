"""The pool of idle connections to one backend."""

import asyncio
from collections.abc import Awaitable, Callable

from tidegate.outbound.http_client.connection import PooledConnection


class Pool:
    """Keeps connections open between calls, and reuses the most recently used one first.

    A connection is closed after `idle_s` seconds without a call. One that is older than `age_s` seconds is closed at
    the end of its call, never during one. The next connection looks up the name again, so that the client follows a
    changed DNS entry even if the old address still answers. With an `idle_s` of 0, no connection is kept.
    """

    def __init__(self, connect: Callable[[], Awaitable[PooledConnection]], *, idle_s: float, age_s: float) -> None:
        self._connect = connect
        self._idle_s = idle_s
        self._age_s = age_s
        self._idle: dict[PooledConnection, asyncio.TimerHandle] = {}
        self._in_use: set[PooledConnection] = set()

    async def take(self, *, new: bool = False) -> PooledConnection:
        """Return a connection for one call, which the caller must give back. If `new`, do not reuse an idle one.

        Raises what opening a connection raises.
        """
        while self._idle and not new:
            connection, timer = self._idle.popitem()
            timer.cancel()
            if connection.is_open:
                self._in_use.add(connection)
                return connection
        connection = await self._connect()
        self._in_use.add(connection)
        return connection

    def give_back(self, connection: PooledConnection) -> None:
        """Take back the connection after its call."""
        self._in_use.discard(connection)
        loop = asyncio.get_running_loop()
        if not connection.is_open:
            return
        if self._idle_s <= 0 or loop.time() - connection.opened_at >= self._age_s:
            connection.close()
            return
        self._idle[connection] = loop.call_later(self._idle_s, self._drop, connection)

    def clear(self) -> None:
        """Close all idle connections."""
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            connection.close()

    async def aclose(self) -> None:
        """Close all connections, including those in use, and wait until they are closed."""
        for timer in self._idle.values():
            timer.cancel()
        closing = [*self._idle, *self._in_use]
        self._idle.clear()
        for connection in closing:
            connection.abort()
        for connection in closing:
            await connection.gone()

    def _drop(self, connection: PooledConnection) -> None:
        del self._idle[connection]
        connection.close()
