"""The listening socket: connections are accepted while a context is open, and ended in order when it is left.

Knows nothing of routes, events or clients.
"""

import asyncio
import functools
import socket
import ssl as tls
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from tidegate.inbound.server.answering import CommonFields
from tidegate.inbound.server.connection import HttpConnection
from tidegate.inbound.server.cycle import AsgiApp
from tidegate.inbound.server.deadlines import Deadlines
from tidegate.inbound.server.handlers import AtOnce, Handlers, Upgrade
from tidegate.inbound.server.shared import OnRefused, Shared

BODY_BYTES = 1048576
SLOW_GRACE_S = 10.0
FINISH_S = 5.0

KEEP_ALIVE_S = 75.0
"""Longer than proxies keep idle connections to us, so that they never send into one that we just closed."""

ABORTED_S = 1.0
"""How long a request may take to notice that its connection was aborted, before its task is cancelled."""

BACKLOG = 65535
"""As many as the kernel allows (`net.core.somaxconn`). A client whose SYN finds no room retries after 1 s, then 3 s."""

TCP_NOTSENT_LOWAT = 25
NOTSENT_BYTES = 16384
"""Unsent bytes that the kernel holds before EAGAIN. Without it, up to 3.9 MB of a stuck reader wait unseen there."""

TCP_USER_TIMEOUT = 18
UNACKNOWLEDGED_MS = 40_000
"""A peer that acknowledged nothing for this long is gone, as for a WebSocket ping. The kernel's default is 15 min."""

log = structlog.get_logger("tidegate.http")


@asynccontextmanager
async def serve(
    app: AsgiApp,
    upgrade: Upgrade,
    at_once: AtOnce | None = None,
    *,
    sock: socket.socket,
    ssl: tls.SSLContext | None = None,
    handshake_s: float,
    body_bytes: int = BODY_BYTES,
    slow_grace_s: float = SLOW_GRACE_S,
    keep_alive_s: float = KEEP_ALIVE_S,
    finish_s: float = FINISH_S,
    refused: OnRefused = lambda _, __: None,
) -> AsyncIterator[None]:
    """Answer on `sock`, bound and not yet listening, while the context is open.

    `upgrade` answers requests for a WebSocket. `at_once` answers the requests that it wants and that come whole in one
    read. `app` (ASGI 3) answers all others. `refused` is told of each request head that is malformed, too large or
    late.

    A connection is closed if a whole request head has not come `handshake_s` seconds after it opened, or after the
    first byte of a later head, and if it is idle for `keep_alive_s`. A peer that sends more than `body_bytes` that no
    route reads is cut off (`tidegate.core.intake`). A peer that takes nothing of a whole answer for `slow_grace_s` is
    cut off; an answer in pieces is left to its sender.

    On leaving, the socket is closed, running responses have `finish_s` seconds to end, and then connections are
    aborted. Upgraded connections must be closed by their new owner.
    """
    idle = asyncio.Event()
    shared = Shared(
        handlers=Handlers(app, upgrade, at_once),
        refused=refused,
        scheme="https" if ssl else "http",
        body_bytes=body_bytes,
        slow_grace_s=slow_grace_s,
        heads=Deadlines(handshake_s, HttpConnection.head_overdue),
        idle=Deadlines(keep_alive_s, HttpConnection.idle_overdue),
        common=CommonFields(),
        gone=lambda: None if shared.connections else idle.set(),
    )
    listener = await _listen(shared, sock, ssl, handshake_s)
    try:
        yield
    finally:
        listener.close()
        await _finish(shared, idle, finish_s)
        shared.heads.cancel()
        shared.idle.cancel()


async def _listen(
    shared: Shared, sock: socket.socket, ssl: tls.SSLContext | None, handshake_s: float
) -> asyncio.AbstractServer:
    _set_limits_of_kernel(sock)
    return await asyncio.get_running_loop().create_server(
        functools.partial(HttpConnection, shared),
        sock=sock,
        ssl=ssl,
        ssl_handshake_timeout=handshake_s if ssl else None,
        backlog=BACKLOG,
    )


async def _finish(shared: Shared, idle: asyncio.Event, finish_s: float) -> None:
    shared.is_ending = True
    for connection in list(shared.connections):
        connection.shutdown()
    if shared.connections:
        idle.clear()
        try:
            async with asyncio.timeout(finish_s):
                await idle.wait()
        except TimeoutError:
            log.warning("connections aborted", count=len(shared.connections), finish_s=finish_s)
    for connection in list(shared.connections):
        connection.abort()
    if tasks := list(shared.handlers.tasks):
        _, running = await asyncio.wait(tasks, timeout=ABORTED_S)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _set_limits_of_kernel(listener: socket.socket) -> None:
    """Connections have them from their listener."""
    if listener.family in {socket.AF_INET, socket.AF_INET6}:
        listener.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_BYTES)
        listener.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
