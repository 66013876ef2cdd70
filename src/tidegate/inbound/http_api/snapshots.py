"""Sends snapshots over HTTP in pieces, because a snapshot may be larger than the memory that one client may use.

Knows nothing of the contents of a snapshot, or of who may see it.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from litestar.response.base import ASGIResponse

from tidegate.core.envelope import encode
from tidegate.core.events import Position

HEADERS = [(b"content-type", b"application/json")]

log = structlog.get_logger("tidegate.http")


class SnapshotAnswer:
    """The ASGI response with `position` and the encoded events of `pieces`.

    Takes the next piece only when the transport has room for it, and yields to the event loop between two pieces. The
    connection of a client that reads nothing for `grace_s` seconds is aborted; so is it if `is_allowed`, which is asked
    before each further piece, says no. `transport_of` returns the transport of an ASGI scope.
    """

    def __init__(
        self,
        position: Position,
        pieces: Iterator[list[bytes]],
        *,
        transport_of: Callable[[Any], asyncio.Transport],
        grace_s: float,
        is_allowed: Callable[[], bool],
    ) -> None:
        self._position = position
        self._pieces = pieces
        self._transport_of = transport_of
        self._grace_s = grace_s
        self._is_allowed = is_allowed
        self._is_over = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        head = b'{"epoch":%b,"seq":%d,"events":[' % (encode(self._position.epoch), self._position.seq)
        first = next(self._pieces, [])
        second = next(self._pieces, None)
        if second is None:
            await ASGIResponse(body=head + b",".join(first) + b"]}")(scope, receive, send)
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(receive))
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await self._write(self._bodies(head, first, second), self._transport_of(scope), send)

    def _bodies(self, head: bytes, first: list[bytes], second: list[bytes]) -> Iterator[bytes]:
        yield head + b",".join(first)
        is_first = not first
        for piece in self._from(second):
            if piece:
                yield b"," * (not is_first) + b",".join(piece)
                is_first = False
            else:
                yield b""  # nothing to send, but `_write` still yields to the event loop
        yield b"]}"

    def _from(self, second: list[bytes]) -> Iterator[list[bytes]]:
        yield second
        yield from self._pieces

    async def _write(self, bodies: Iterator[bytes], transport: asyncio.Transport, send: Any) -> None:
        for body in bodies:
            if self._is_over:
                return
            if not self._is_allowed():
                transport.abort()  # the answer must not look whole
                return
            if body and not await self._is_taken(body, transport, send):
                log.debug("client does not read a snapshot", slow_grace_s=self._grace_s)
                transport.abort()
                return
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _is_taken(self, body: bytes, transport: asyncio.Transport, send: Any) -> bool:
        """Send `body`. Returns False if there was no room for it, and the client read nothing for the grace period."""
        while True:
            unsent = transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(self._grace_s):
                    # `send` waits only before it writes, so it can be cancelled here and called again.
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            except TimeoutError:
                if transport.get_write_buffer_size() >= unsent:
                    return False
            else:
                return True

    async def _watch(self, receive: Any) -> None:
        """Wait until the client leaves, or an answer to HEAD has ended. Returns when the answer ends at the latest."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._is_over = True
