"""One connection to a backend: sends a request, and feeds the answer to a reader.

Knows nothing of the pool, or of what requests and answers mean.
"""

import asyncio
from typing import cast

from tidegate.outbound.http_client.answer import PIECE_BYTES, AnswerReader, Unreadable
from tidegate.outbound.http_client.failures import Lost

REFUSAL_S = 0.25
"""How many seconds the body may take if the status is not a success: the status already says that the call failed."""

_EARLY_BYTES = 65_536
"""How many bytes from the server are kept before the first request. Then reading stops, and the kernel keeps more."""


class PooledConnection(asyncio.Protocol):
    """An HTTP/1.1 connection with one request at a time.

    Bytes that come between two answers close it: they answer no request. But bytes that come before the first request
    count as the beginning of its answer, so that a server of another protocol, which greets first, is recognized.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.opened_at = loop.time()
        self.is_reused = False
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = loop.create_future()
        self._reader: AnswerReader | None = None
        self._answered: asyncio.Future[None] | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._early = b""
        self._pending = memoryview(b"")
        self._paused = False

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, reader: AnswerReader) -> None:
        """Send `request`, and return when `reader` is whole. The connection stays open if `reader.reusable`.

        Raises `Lost` or `Unreadable`. Cancelling closes the connection.
        """
        assert self._transport is not None
        assert self._reader is None
        self._reader, self._answered = reader, self._loop.create_future()
        try:
            if self._early:
                reader.feed(self._early)
                if reader.whole:
                    reader.cut_short()  # it answers no request of ours, so the connection is not reusable
                    return
                self._resume()
            if self._transport.is_closing():
                raise Lost(answer_begun=reader.begun)
            self._transport.write(request)
            await self._answered
        finally:
            self._reader = self._answered = None
            reader.close()
            self._early = b""
            self._stop_body_timer()
            self.is_reused = True
            # After a cancellation or an error the rest of the answer may still come, so the connection is useless.
            if self._pending or not reader.reusable:
                self.abort()
            self._pending = memoryview(b"")
            self._resume()

    def close(self) -> None:
        """Close the connection, with TLS's closing handshake if it uses TLS."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection immediately."""
        if self._transport is not None:
            self._transport.abort()

    async def gone(self) -> None:
        """Wait until the connection is closed, by either side."""
        await asyncio.shield(self._gone)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from it

    def data_received(self, data: bytes) -> None:
        if self._reader is None and not self.is_reused:
            self._keep_for_later(data)
        elif self._reader is None or self._reader.whole:
            self.abort()
        else:
            self._pending = memoryview(data)
            self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reader is not None and self._answered is not None and not self._answered.done():
            self._end(self._reader, exc)
        if not self._gone.done():
            self._gone.set_result(None)

    def _read(self) -> None:
        """Parse the next piece of the received data, then yield to the event loop, even if there is more.

        Reading is paused in between: otherwise uvloop reads everything that the kernel has in the same iteration.
        """
        reader = self._reader
        if reader is None or reader.whole or not self.is_open:
            return
        try:
            reader.feed(self._pending[:PIECE_BYTES])
        except Unreadable as exc:
            self._fail(exc)
            return
        self._pending = self._pending[PIECE_BYTES:]
        if reader.whole:
            self._finish()
            return
        if reader.status and not reader.is_success and self._body_timer is None:
            # The status already says that the call failed. Wait for the body only briefly, not until the timeout.
            self._body_timer = self._loop.call_later(REFUSAL_S, self._cut_short)
        self._pause()
        self._loop.call_soon(self._read if self._pending else self._resume)

    def _end(self, reader: AnswerReader, exc: Exception | None) -> None:
        """Handle the end of the connection, with `exc`, before `reader` was whole."""
        try:
            reader.feed(self._pending)
        except Unreadable as unreadable:
            self._fail(unreadable)
            return
        if reader.whole or reader.end_of_stream():
            self._finish()
            return
        lost = Lost(answer_begun=reader.begun, in_body=bool(reader.status))
        lost.__cause__ = exc
        self._fail(lost)

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True

    def _resume(self) -> None:
        if self._paused and self._transport is not None and self.is_open:
            self._transport.resume_reading()
            self._paused = False

    def _keep_for_later(self, data: bytes) -> None:
        self._early += data
        if len(self._early) >= _EARLY_BYTES:
            self._pause()

    def _cut_short(self) -> None:
        if self._reader is not None and not self._reader.whole:
            self._reader.cut_short()
            self._finish()

    def _finish(self) -> None:
        self._stop_body_timer()
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def _fail(self, exc: Exception) -> None:
        self.abort()
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc)

    def _stop_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
