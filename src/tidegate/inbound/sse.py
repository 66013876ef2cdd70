"""Server-sent events: carries a client's connection over an ASGI response (WHATWG HTML, section 9.2).

The hub writes into a queue here. For each stream, one task sends the queue to the server, and another waits for the
client to leave. Knows nothing of routes or tokens: the request was admitted before.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from tidegate.codes import LEAVE_REASONS
from tidegate.core.delivery.framing import EVENT_STREAM
from tidegate.errors import CloseCode, LeaveReason
from tidegate.runtime.access import LEFT
from tidegate.runtime.admission import Admission
from tidegate.runtime.connection import Connection
from tidegate.runtime.gateway import Gateway

RETRY_MS = 1000
RETRY_SPREAD_MS = 4000
"""A client reconnects `RETRY_MS` plus a random part of this after its stream ended.

So clients that lost their streams together, as in a restart of the gateway, do not all reconnect at the same moment.
"""

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),  # a proxy that compresses would delay events
    (b"x-accel-buffering", b"no"),  # nginx would collect events in a buffer
]

COMMENT = b":\n\n"

LINGER_S = 2.0
"""How many seconds a client may take to read the rest of a closed stream before its connection is aborted."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class EventStreams:
    """Opens the event streams of one gateway.

    `transport_of` returns the transport of an ASGI scope. A stream with more than `soft_bytes` in its queue gets no new
    events until the queue is empty. `jitter` returns random numbers in [0, 1).
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
        """Make the ASGI response that streams events to the client of `admission`."""
        return EventStream(self, admission)

    def retry_ms(self) -> int:
        """Return a random reconnection delay in milliseconds."""
        return RETRY_MS + int(RETRY_SPREAD_MS * self.jitter())


class EventStream:
    """One stream: the channel of a connection, and at the same time the ASGI response that carries it."""

    socket = None
    """The hub cannot write to the socket directly: the server adds chunked framing, and perhaps TLS."""

    def __init__(self, streams: EventStreams, admission: Admission) -> None:
        self._streams = streams
        self._admission = admission
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        """The size of the queue and of the piece that is just being sent."""
        self._wake = asyncio.Event()
        self._closed = False
        """The gateway has closed the stream. The queue is still sent."""
        self._gone = False
        """The client has gone. Nothing more is sent."""
        self._left: tuple[LeaveReason, str] = LeaveReason.CLIENT_CLOSED, ""
        """Why the stream ended, and details for the log."""
        self._deadline: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream as the response, until either side ends it. Cancelling ends it too."""
        self._transport = self._streams.transport_of(scope)
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        self._connection = self._connect()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(receive))
                # The reconnection delay goes into the block of the first event, so that this is `welcome`.
                preamble = EVENT_STREAM.retry(self._streams.retry_ms())
                self._connection.start(self._admission.since, by_default=self._admission.by_default, preamble=preamble)
                await self._pump(send)
        except asyncio.CancelledError:  # the server ends
            self._left = LeaveReason.DRAINED, "cancelled"
            raise
        except Exception:
            self._left = LeaveReason.ERROR, "our own code failed"
            raise
        finally:
            if self._deadline is not None:
                self._deadline.cancel()
            self._streams.gateway.clients.disconnect(self._connection, *self._left)
            del self._connection  # it refers to this channel: without the cycle, both are freed at once

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
            request_id=self._admission.request_id,
            framing=EVENT_STREAM,
            grant=self._admission.grant,
            patterns=self._admission.patterns,
            token=self._admission.token,
            revision=self._admission.revision,
        )

    def _end(self, code: CloseCode, reason: str) -> None:
        self._closed = True
        self._left = LEAVE_REASONS.get(code, LeaveReason.ERROR), f"{code.value}: {reason}"
        self._wake.set()

    def _leave(self) -> None:
        self._gone = True
        self._wake.set()

    async def _watch(self, receive: Receive) -> None:
        """Wait for the client to leave. The server also sends ``http.disconnect`` when the response is complete."""
        while (message := await receive())["type"] != "http.disconnect":
            pass
        if not self._closed:
            self._left = message.get(LEFT, LeaveReason.CLIENT_CLOSED), ""
        self._leave()

    async def _pump(self, send: Send) -> None:
        """Send the queue, and a comment every heartbeat interval, so that proxies do not close an idle connection."""
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
            # Resume only when the queue is empty: before that, new events would only add to it.
            if self._connection.subscriber.paused and not self._waiting and not self._gone:
                self._connection.resume()


def _body(data: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": more}
