"""One connection to a backend: carries a request, feeds its answer to a reader. Knows no pool and no meaning."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from aiohappyeyeballs import AddrInfoType, start_connection
from yarl import URL

from tidegate.outbound.http_client.answer import PIECE_BYTES, AnswerReader, Unreadable
from tidegate.outbound.http_client.failures import Lost
from tidegate.outbound.http_client.names import looked_up

REFUSAL_S = 0.25
"""How long the rest of a body may take that comes with a status that is no success, in seconds."""

TLS_GOODBYE_S = 0.1
"""How long a TLS connection that we close waits for the server to agree, in seconds."""

_NEXT_ADDRESS_S = 0.25
"""After so many seconds without an answer a name's next address is tried as well (RFC 8305)."""

_EARLY_BYTES = 65_536
"""How much a server may say on a new connection before it is asked; more waits in the kernel."""


class PooledConnection(asyncio.Protocol):
    """An HTTP/1.1 connection that asks one thing at a time.

    Bytes that come between two answers end it: nothing that they might say is wanted. What a server says before it
    was asked for the first time counts as the beginning of its answer, which is how one that speaks no HTTP is known.
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
        self._patience: asyncio.TimerHandle | None = None
        self._early = b""
        self._pending = memoryview(b"")
        self._paused = False

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, reader: AnswerReader) -> None:
        """Send `request` and return when `reader` is whole; the connection stays open if `reader.reusable`.

        Raises `Lost` or `Unreadable`. Cancelling closes the connection.
        """
        assert self._transport is not None
        assert self._reader is None
        self._reader, self._answered = reader, self._loop.create_future()
        try:
            if self._early:
                reader.feed(self._early)
                if reader.whole:
                    reader.cut_short()
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
            self._stop_waiting()
            self.is_reused = True
            if self._pending or not reader.reusable:
                self.abort()
            self._pending = memoryview(b"")
            self._resume()

    def close(self) -> None:
        """Close politely: with TLS the server is told."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    async def gone(self) -> None:
        """Return once the connection has been closed, by whomever."""
        await asyncio.shield(self._gone)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

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
        """Read the next piece of what has come; then others have a turn, whatever there is still to be read.

        Without the pause, uvloop would go on in the same turn with all that the kernel has.
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
        if reader.status and not reader.is_success and self._patience is None:
            # The status says enough; its body is worth a moment, not the call's whole time.
            self._patience = self._loop.call_later(REFUSAL_S, self._cut_short)
        self._pause()
        self._loop.call_soon(self._read if self._pending else self._resume)

    def _end(self, reader: AnswerReader, exc: Exception | None) -> None:
        """The connection has ended, with `exc`, before `reader` was whole."""
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
        self._stop_waiting()
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def _fail(self, exc: Exception) -> None:
        self.abort()
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


Connect = Callable[[URL, ssl.SSLContext | None], Awaitable[PooledConnection]]
"""Opens a connection to the host of an address, over TLS where a context is given. Raises `OSError`."""


async def connected(url: URL, tls: ssl.SSLContext | None) -> PooledConnection:
    """A new connection over TCP. Each of the name's addresses is tried, the next one while the last is still tried.

    Raises `OSError`, of which `ssl.SSLError` and `socket.gaierror` are kinds. Cancelling leaves nothing behind.
    """
    loop = asyncio.get_running_loop()
    found = await _addresses(url)
    sock = await start_connection(found, happy_eyeballs_delay=_NEXT_ADDRESS_S)
    # A TLS connection that is closed would otherwise stay open for 30 s where the server has stopped.
    name, goodbye_s = (_tls_name(url), TLS_GOODBYE_S) if tls else (None, None)
    try:
        _, connection = await loop.create_connection(
            PooledConnection, sock=sock, ssl=tls, server_hostname=name, ssl_shutdown_timeout=goodbye_s
        )
    except BaseException:
        sock.close()
        raise
    return connection


async def _addresses(url: URL) -> Sequence[AddrInfoType]:
    host, port = url.raw_host or "", url.port or 0
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return await looked_up(host, port)
    if isinstance(literal, ipaddress.IPv4Address):
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    if literal.scope_id:
        return await looked_up(url.host or "", port)  # where ``%25`` is ``%``
    return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]


def _tls_name(url: URL) -> str:
    return (url.raw_host or "").partition("%")[0].rstrip(".")
