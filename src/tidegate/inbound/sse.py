"""Server-sent events: a gateway connection carried by an ASGI response (WHATWG HTML, section 9.2).

The hub writes into a queue here. For each stream, one task passes the queue to the server, and another waits for the
client to leave. Knows nothing of routes or tokens: who may open a stream was decided before.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from tidegate.core.framing import EVENT_STREAM
from tidegate.errors import CloseCode
from tidegate.runtime.admission import Admission
from tidegate.runtime.connection import Connection
from tidegate.runtime.gateway import Gateway

RETRY_MS = 1000
RETRY_SPREAD_MS = 4000
"""A client whose stream ended reconnects after `RETRY_MS` plus a random part of this."""

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),  # a proxy that compresses would hold events back
    (b"x-accel-buffering", b"no"),
]

COMMENT = b":\n\n"

LINGER_S = 2.0
"""How long (seconds) the client may take to read an ended stream, before its connection is aborted."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class EventStreams:
    """Opens the streams of one gateway.

    `transport_of` finds the transport under a request. A stream that holds more than `soft_bytes` gets no new events
    until it holds none. `jitter` gives random numbers in [0, 1).
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        transport_of: Callable[[Scope], asyncio.Transport],
        soft_bytes: int,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.gateway = gateway
        self.transport_of = transport_of
        self.soft_bytes = soft_bytes
        self.jitter = jitter

    def open(self, admission: Admission) -> "EventStream":
        """The ASGI response that is the stream of whoever was let in with `admission`."""
        return EventStream(self, admission)

    def retry_ms(self) -> int:
        """After how many milliseconds the next client whose stream ends is to reconnect."""
        return RETRY_MS + int(RETRY_SPREAD_MS * self.jitter())


class EventStream:
    """One stream. It is its connection's channel, and the ASGI response that carries it."""

    socket = None
    """The server's framing and TLS lie between us and the socket."""

    def __init__(self, streams: EventStreams, admission: Admission) -> None:
        self._streams = streams
        self._admission = admission
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        """What waits, with the piece that the server is taking just now."""
        self._wake = asyncio.Event()
        self._closed = False
        """The gateway has ended the stream: what waits still goes out."""
        self._gone = False
        """Nobody reads any more: nothing goes out."""
        self._reason = "closed by the client"
        self._deadline: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with the stream, until either side ends it. Cancellation ends it too."""
        self._transport = self._streams.transport_of(scope)
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        self._connection = self._connect()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(receive))
                # The first event's block begins with the time to wait, so that the stream begins with `welcome`.
                preamble = EVENT_STREAM.retry(self._streams.retry_ms())
                self._connection.start(self._admission.since, by_default=self._admission.by_default, preamble=preamble)
                await self._pump(send)
        finally:
            if self._deadline is not None:
                self._deadline.cancel()
            self._streams.gateway.clients.disconnect(self._connection, self._reason)
            del self._connection

    # ClosableChannel

    def write(self, data: bytes) -> None:
        self._waiting.append(data)
        self._bytes += len(data)
        self._wake.set()
        if self._bytes > self._streams.soft_bytes:
            self._connection.pause()

    def unsent(self) -> int:
        return self._bytes + self._transport.get_write_buffer_size()

    def close(self, code: CloseCode, reason: str) -> None:
        self._end(code, reason)
        self._deadline = asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)

    def abort(self, code: CloseCode, reason: str) -> None:
        self._end(code, reason)
        self._leave()
        self._transport.abort()

    def _connect(self) -> Connection:
        return self._streams.gateway.clients.connect(
            self,
            transport="sse",
            address=self._admission.address,
            framing=EVENT_STREAM,
            grant=self._admission.grant,
            patterns=self._admission.patterns,
        )

    def _end(self, code: CloseCode, reason: str) -> None:
        self._closed = True
        self._reason = f"closed by the server with {code.value}: {reason}"
        self._wake.set()

    def _leave(self) -> None:
        self._gone = True
        self._wake.set()

    async def _watch(self, receive: Receive) -> None:
        """Wait for the client to leave. The server also says ``http.disconnect`` when the answer is complete."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._leave()

    async def _pump(self, send: Send) -> None:
        """Pass on what waits, and a comment each heartbeat interval, so that proxies keep the connection."""
        loop = asyncio.get_running_loop()
        interval_s = self._streams.gateway.options.heartbeat_interval_s
        comment_at = loop.time() + interval_s
        while not self._gone:
            await self._send_waiting(send)
            if self._closed or self._gone:
                break
            if loop.time() >= comment_at:
                await send(_body(COMMENT))
                comment_at = loop.time() + interval_s
            with suppress(TimeoutError):
                async with asyncio.timeout_at(comment_at):
                    await self._wake.wait()
            self._wake.clear()
        if not self._gone:
            await send(_body(b"", more=False))

    async def _send_waiting(self, send: Send) -> None:
        while self._waiting and not self._gone:
            data = self._waiting.popleft()
            await send(_body(data))
            self._bytes -= len(data)
            # Not before nothing waits: what the connection sends next would only pile up.
            if self._connection.subscriber.paused and not self._waiting and not self._gone:
                self._connection.resume()


def _body(data: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": more}
