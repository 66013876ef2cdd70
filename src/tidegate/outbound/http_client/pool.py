"""The pool of idle connections to one backend, and what is known of an attempt to connect."""

import asyncio
from collections.abc import Mapping, Sequence

from tidegate.outbound.http_client.connecting import Connect, NewConnection
from tidegate.outbound.http_client.connection import PooledConnection
from tidegate.outbound.http_client.destinations import Destination
from tidegate.outbound.http_client.failures import had_stood, is_our_lack

KNOCKED_S = 5.0
"""How many seconds a connection that `Pool.knock` made is kept for the next call."""


class Attempt:
    """What is known of the last attempt of one call. It is right also when the call was cancelled.

    `connected` says whether the TCP or Unix connection stood. It is also true if this machine lacked what it needs to
    make one, such as a descriptor: then nothing is known of the backend. `fields` are the header fields of the last
    answer, by their names in lower case.
    """

    def __init__(self) -> None:
        self.connected = True
        self.fields: Mapping[bytes, Sequence[bytes]] = {}


class Pool:
    """Keeps connections open between calls, and reuses the most recently used one first.

    A connection is closed after `idle_s` seconds without a call. One that is older than `age_s` seconds is closed at
    the end of its call, never during one. The next connection looks up the name again, so that the client follows a
    changed DNS entry even if the old address still answers. With an `idle_s` of 0, no connection is kept.

    `connect` makes connections, and raises `OSError` or a `BackendError`. All lead to the same place.
    """

    def __init__(self, connect: Connect, *, idle_s: float, age_s: float) -> None:
        self._connect = connect
        self._idle_s = idle_s
        self._age_s = age_s
        self._idle: dict[PooledConnection, asyncio.TimerHandle] = {}
        self._in_use: set[PooledConnection] = set()
        self._knocked: tuple[NewConnection, asyncio.TimerHandle] | None = None

    def keep_idle(self, idle_s: float) -> None:
        """Keep idle connections for that long from now on, unless none is kept."""
        if self._idle_s > 0:
            self._idle_s = idle_s

    async def take(self, to: Destination, attempt: Attempt, *, new: bool = False) -> PooledConnection:
        """Return a connection for one call, which the caller must give back. If `new`, do not reuse an idle one.

        A connection from `knock` comes before all others, and counts as new. Notes in `attempt` whether the
        connection stood, if it makes one. Raises what opening a connection raises.
        """
        made = self._take_knocked()
        while made is None and self._idle and not new:
            connection, timer = self._idle.popitem()
            timer.cancel()
            if connection.is_open:
                self._in_use.add(connection)
                return connection
        connection = await (made or await self._reach(to, attempt)).start(PooledConnection)
        self._in_use.add(connection)
        return connection

    async def knock(self, to: Destination) -> None:
        """Make a connection, and keep it for the next `take`, but not longer than `KNOCKED_S` seconds.

        Idle connections are closed first: they may lead to a host that is gone, or take the only place that a device
        has. If the peer closes the connection at once, nothing is kept. Raises what opening a connection raises.
        Cancelling leaves nothing open.
        """
        self.clear()
        try:
            made = await self._connect(to)
        except OSError as exc:
            if had_stood(exc):
                return
            raise
        self._drop_knocked()  # of another knock, which was made meanwhile
        self._knocked = made, asyncio.get_running_loop().call_later(KNOCKED_S, self._drop_knocked)

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
        self._drop_knocked()
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            connection.close()

    async def aclose(self) -> None:
        """Close all connections, including those in use, and wait until they are closed."""
        self._drop_knocked()
        for timer in self._idle.values():
            timer.cancel()
        closing = [*self._idle, *self._in_use]
        self._idle.clear()
        for connection in closing:
            connection.abort()
        for connection in closing:
            await connection.gone()

    async def _reach(self, to: Destination, attempt: Attempt) -> NewConnection:
        attempt.connected = False
        try:
            made = await self._connect(to)
        except OSError as exc:
            attempt.connected = is_our_lack(exc) or had_stood(exc)
            raise
        attempt.connected = True
        return made

    def _take_knocked(self) -> NewConnection | None:
        """Return the connection that a knock left here; None if there is none, or the peer has closed it."""
        if self._knocked is None:
            return None
        made, timer = self._knocked
        timer.cancel()
        self._knocked = None
        if made.is_open:
            return made
        made.close()
        return None

    def _drop_knocked(self) -> None:
        if self._knocked is not None:
            made, timer = self._knocked
            timer.cancel()
            self._knocked = None
            made.close()

    def _drop(self, connection: PooledConnection) -> None:
        del self._idle[connection]
        connection.close()
