"""The listening socket: accepts connections while a context is open, and ends them when it is left.

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
from tidegate.inbound.server.last_places import LastPlaces
from tidegate.inbound.server.shared import OnRefused, Shared
from tidegate.runtime.limited_log import Observe
from tidegate.runtime.request_ids import RequestId, new_id

# Defaults of `serve`; its docstring says what they limit.
BODY_BYTES = 1048576
SLOW_GRACE_S = 10.0
FINISH_S = 5.0

KEEP_ALIVE_S = 75.0
"""Longer than proxies keep idle connections (nginx 60 s), so that they send no request on one that we just closed."""

ABORTED_S = 1.0
"""How many seconds the handler of a request has to end after its connection was aborted. Then it is cancelled."""

BACKLOG = 65535
"""As many as the kernel allows (`net.core.somaxconn`). If the queue is full, a client retries after 1 s, then 3 s."""

TCP_NOTSENT_LOWAT = 25
NOTSENT_BYTES = 16384
"""How many unsent bytes the kernel takes before a send fails with EAGAIN.

Without this limit it takes up to 3.9 MB for a client that does not read, and the gateway does not notice.
"""

TCP_USER_TIMEOUT = 18
UNACKNOWLEDGED_MS = 40_000
"""The kernel ends a connection if the client acknowledges nothing for this long. Its default is about 15 minutes.

As long as two pings of a WebSocket: by then, a WebSocket's client that does not answer has been given up too.
"""

log = structlog.get_logger("tidegate.http")


class Serving:
    """A server that is running, as `serve` yields it. What is changed here is for new connections and requests."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def answer_with(self, app: AsgiApp, at_once: AtOnce | None) -> None:
        """Have requests answered by these from now on; those that are being answered already are not affected."""
        self._shared.handlers.replace(app, at_once)

    def limit(self, *, handshake_s: float, body_bytes: int, slow_grace_s: float) -> None:
        """Change the limits, as `serve` explains them. A TLS handshake keeps the `handshake_s` of the start."""
        self._shared.heads.change(handshake_s)
        self._shared.body_bytes = body_bytes
        self._shared.slow_grace_s = slow_grace_s


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
    refused: OnRefused = lambda _, __, ___: None,
    request_id: RequestId = lambda _, __: new_id(),
    observe: Observe = lambda _: None,
) -> AsyncIterator[Serving]:
    """Serve HTTP on `sock` while the context is open. The socket must be bound, and not listen yet.

    `upgrade` takes over the connections that become WebSockets. `at_once` answers the requests that it wants, if they
    are received whole in one read. `app` (ASGI 3) answers all others. `refused` is called for each request head that is
    malformed, too large or late. `request_id` makes the id of each request, which is in its answer. `observe`
    counts lines that were not logged.

    A connection is closed if a whole request head has not come `handshake_s` seconds after it was opened, or after the
    first byte of a later head, and if a request that was answered early is not whole `handshake_s` after its answer. It
    is also closed if no request begins for `keep_alive_s`. `body_bytes` is the longest body
    that any route accepts; a client that sends too much beyond it is cut off (`tidegate.core.intake`). So is a client
    that reads nothing of an answer for `slow_grace_s`. An answer that is sent in pieces has no such limit: its sender
    must have one.

    Leaving closes the socket, and gives running answers `finish_s` seconds to end. Then their connections are aborted.
    Upgraded connections must be closed by their new owner.
    """
    idle = asyncio.Event()
    shared = Shared(
        handlers=Handlers(app, upgrade, at_once),
        refused=refused,
        request_id=request_id,
        scheme="https" if ssl else "http",
        body_bytes=body_bytes,
        slow_grace_s=slow_grace_s,
        heads=Deadlines(handshake_s, HttpConnection.request_timed_out),
        idle=Deadlines(keep_alive_s, HttpConnection.close_within_timeout),
        common=CommonFields(),
        gone=lambda: None if shared.connections else idle.set(),
        is_last=LastPlaces(observe).has,
    )
    listener = await _listen(shared, sock, ssl, handshake_s)
    try:
        yield Serving(shared)
    finally:
        listener.close()
        await _finish(shared, idle, finish_s)
        shared.heads.cancel()
        shared.idle.cancel()


async def _listen(
    shared: Shared, sock: socket.socket, ssl: tls.SSLContext | None, handshake_s: float
) -> asyncio.AbstractServer:
    _set_kernel_limits(sock)
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
    # Aborted connections make their handlers end by themselves; only what does not end is cancelled.
    if tasks := list(shared.handlers.tasks):
        _, running = await asyncio.wait(tasks, timeout=ABORTED_S)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _set_kernel_limits(listener: socket.socket) -> None:
    """Limit how long the kernel waits for clients, and how much it holds. Accepted connections inherit this."""
    if listener.family in {socket.AF_INET, socket.AF_INET6}:
        listener.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_BYTES)
        listener.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
