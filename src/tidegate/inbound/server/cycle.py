"""One request and its answer, as an ASGI application sees them (ASGI 3, HTTP 2.3).

Knows neither how a request is parsed nor anything about the other requests of its connection.
"""

import asyncio
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

import structlog

from tidegate.core.problem import UNFORESEEN
from tidegate.errors import LeaveReason
from tidegate.inbound.server.answering import CONTINUE, AnswerWriter, CommonFields
from tidegate.inbound.server.reading import Fields, RequestHead
from tidegate.runtime.access import LEFT

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

WholeAnswer = tuple[int, Fields, bytes]
"""Status, header fields and body of an answer."""

HELD_BODY_BYTES = 65536
"""Limit on the part of a body that waits for the application. Beyond it, reading pauses until the application takes it.

Most bodies fit, and need no pause.
"""

log = structlog.get_logger("tidegate.http")


class Carrier(Protocol):
    """What a request cycle needs of its connection."""

    def write(self, data: bytes) -> None: ...

    @property
    def is_full(self) -> bool:
        """Whether the transport's write buffer is over its high-water mark."""

    async def drained(self) -> None:
        """Wait until the buffer is below its low-water mark, or the connection is lost."""

    def close(self) -> None:
        """Close the connection once everything written has been sent."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def answered(self) -> None:
        """The answer to the running request is complete."""


class RequestCycle:
    """One request and its answer.

    `id` is for the log and the answer. `is_whole` says whether the whole request has been received. `started` and
    `complete` are about the answer.
    """

    __slots__ = (
        "_body",
        "_carrier",
        "_common",
        "_end_is_told",
        "_expects_continue",
        "_head_bytes",
        "_left",
        "_wake",
        "answer",
        "complete",
        "disconnected",
        "head",
        "id",
        "is_whole",
        "started",
    )

    def __init__(self, carrier: Carrier, head: RequestHead, *, request_id: str, common: CommonFields) -> None:
        self.head = head
        self.id = request_id
        self.answer = AnswerWriter(head, request_id)
        self.is_whole = self.started = self.complete = self.disconnected = False
        self._left = LeaveReason.CLIENT_CLOSED
        self._carrier = carrier
        self._common = common
        self._body = bytearray()
        self._end_is_told = False
        self._expects_continue = head.expects_continue
        self._head_bytes = b""
        self._wake: asyncio.Event | None = None  # made when somebody waits: most requests need none

    @property
    def body(self) -> bytes:
        """The part of the body that has been received, and that the application has not taken."""
        return bytes(self._body)

    def take(self, piece: bytes) -> None:
        """Take a piece of the body that was received. It is discarded if the answer is complete already."""
        if not self.complete:
            self._body += piece
            if len(self._body) > HELD_BODY_BYTES:
                self._carrier.pause_reading()
            self._notify()

    def end(self) -> None:
        """The whole request has been received."""
        self.is_whole = True
        self._notify()

    def disconnect(self, reason: LeaveReason) -> None:
        """The connection ends for `reason`: the handler is notified, and nothing more is written."""
        if not self.disconnected:  # the first reason counts: aborting a connection makes it end once more
            self.disconnected, self._left = True, reason
        self._notify()

    async def run(self, answering: Awaitable[None]) -> None:
        """Await the handler. However it ends, the request has an answer afterwards, or its connection is closed."""
        try:
            await answering
        except Exception as error:  # noqa: BLE001 - every error is answered
            self.fail(error)
        else:
            if not self.complete and not self.disconnected:
                log.error("handler ended without a complete answer", **self._about)
        finally:
            if not self.complete and not self.disconnected:
                self._give_up()

    def fail(self, error: Exception) -> None:
        """Log `error`, which was raised by the handler, and answer with 500 if that is still possible."""
        log.error("a request failed", **self._about, exc_info=error)
        if not self.complete and not self.disconnected:
            self._give_up()

    def send_whole(self, status: int, fields: Fields, body: bytes) -> None:
        """Send the whole answer in one write."""
        self.started = True
        head = self.answer.head(status, fields, common=self._common)
        self._carrier.write(head + self.answer.body(body, more=False))
        self._complete()

    async def send_whole_later(self, outcome: Awaitable[WholeAnswer]) -> None:
        """Await the whole answer, and send it as soon as there is room."""
        answer = await outcome
        if self._carrier.is_full and not self.disconnected:
            await self._carrier.drained()
        if not self.disconnected:
            self.send_whole(*answer)

    async def receive(self) -> AsgiMessage:
        """ASGI's `receive`: wait for a piece of the body, or for the end of the connection or of the answer."""
        if self._expects_continue and not self.started and not self.disconnected:
            self._expects_continue = False
            self._carrier.write(CONTINUE)
        while not (self.disconnected or self.complete):
            # Everything received goes into one message, with the end of the body if it has come: each message costs
            # the application a step of its task.
            if self._body or (self.is_whole and not self._end_is_told):
                body, self._body = bytes(self._body), bytearray()
                self._end_is_told = self.is_whole
                return {"type": "http.request", "body": body, "more_body": not self.is_whole}
            self._carrier.resume_reading()
            if self._wake is None:
                self._wake = asyncio.Event()
            self._wake.clear()
            await self._wake.wait()
        return {"type": "http.disconnect", LEFT: self._left}

    async def send(self, message: AsgiMessage) -> None:
        """ASGI's `send`. The head is sent with the first piece of the body, as the ASGI specification requires.

        Waits only before it writes, so a cancelled call has sent nothing and may be repeated. Raises `ValueError` for a
        message that may not follow the previous one.
        """
        if self._carrier.is_full and not self.disconnected:
            await self._carrier.drained()
        if self.disconnected:
            return
        expected = "http.response.body" if self.started else "http.response.start"
        if self.complete or message["type"] != expected:
            raise ValueError(f"expected {'nothing more' if self.complete else expected}, got {message['type']}")
        if not self.started:
            self.started = True
            fields = message.get("headers", ())
            self._head_bytes = self.answer.head(message["status"], fields, common=self._common)
        else:
            more = message.get("more_body", False)
            piece = self.answer.body(message.get("body", b""), more=more)
            data, self._head_bytes = self._head_bytes + piece, b""
            if data:
                self._carrier.write(data)
            if not more:
                self._complete()

    @property
    def _about(self) -> dict[str, object]:
        """What a line of the log says about the request."""
        return {"method": self.head.method, "path": self.head.path, "request_id": self.id}

    def _complete(self) -> None:
        self.complete = True
        self._body.clear()
        self._notify()
        if not self.answer.keep_alive:
            self._carrier.close()
        self._carrier.answered()

    def _give_up(self) -> None:
        # As long as the head is held back, nothing has been sent, and another answer can take its place. Later, closing
        # is the only way to tell the client that the answer is incomplete.
        if not self.started or self._head_bytes:
            self._carrier.write(UNFORESEEN.closing(self._common.block(), request_id=self.id))
            self.answer.keep_alive = False
            self._complete()
        else:
            self._carrier.close()

    def _notify(self) -> None:
        if self._wake is not None:
            self._wake.set()


def scope_of(head: RequestHead, *, scheme: str, client: tuple[str, int] | None, state: dict[str, Any]) -> Scope:
    """Make the ASGI scope of a request."""
    path = head.path.decode("ascii")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": head.version,
        "method": head.method,
        "scheme": scheme,
        "path": urllib.parse.unquote(path) if "%" in path else path,
        "raw_path": head.path,
        "query_string": head.query,
        "root_path": "",
        "headers": head.fields,
        "client": client,
        "server": None,
        "state": state,
    }
