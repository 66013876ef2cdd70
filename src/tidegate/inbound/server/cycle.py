"""One request and its answer, as an ASGI application sees them (ASGI 3, HTTP 2.3).

Knows neither how a request is read nor what else goes on on its connection.
"""

import asyncio
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

import structlog

from tidegate.core.problem import ProblemAnswer
from tidegate.inbound.server.answering import CONTINUE, AnswerWriter, CommonFields
from tidegate.inbound.server.reading import Fields, RequestHead

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

WholeAnswer = tuple[int, Fields, bytes]
"""Status, header fields and body of an answer."""

HELD_BODY_BYTES = 65536
"""Most bytes of a body that wait for the application. Then reading pauses until it asks for them."""

UNFORESEEN = "the request failed for a reason that only the server's log tells"

DISCONNECT: AsgiMessage = {"type": "http.disconnect"}

log = structlog.get_logger("tidegate.http")


class Carrier(Protocol):
    """What a cycle needs of its connection."""

    def write(self, data: bytes) -> None: ...

    @property
    def is_full(self) -> bool:
        """Whether so much of what was written has not gone out that there is no room for more."""

    async def drained(self) -> None:
        """Until there is room again, or the connection is lost."""

    def close(self) -> None:
        """End the connection once what was written has gone out."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def answered(self) -> None:
        """The answer to the running request is complete."""


class RequestCycle:
    """One request. `started` and `complete` tell of its answer, `is_whole` whether the whole request has come."""

    __slots__ = (
        "_body",
        "_carrier",
        "_common",
        "_end_is_told",
        "_expects_continue",
        "_head_bytes",
        "_news",
        "answer",
        "complete",
        "disconnected",
        "head",
        "is_whole",
        "started",
    )

    def __init__(self, carrier: Carrier, head: RequestHead, *, common: CommonFields) -> None:
        self.head = head
        self.answer = AnswerWriter(head)
        self.is_whole = self.started = self.complete = self.disconnected = False
        self._carrier = carrier
        self._common = common
        self._body = bytearray()
        self._end_is_told = False
        self._expects_continue = head.expects_continue
        self._head_bytes = b""
        self._news: asyncio.Event | None = None

    @property
    def body(self) -> bytes:
        """What of the body has come and was not told yet."""
        return bytes(self._body)

    def take(self, piece: bytes) -> None:
        """A piece of the body came. One of a request that has its answer is thrown away."""
        if not self.complete:
            self._body += piece
            if len(self._body) > HELD_BODY_BYTES:
                self._carrier.pause_reading()
            self._tell()

    def end(self) -> None:
        """The whole request has come."""
        self.is_whole = True
        self._tell()

    def disconnect(self) -> None:
        """The connection ends: nothing is written any more, and whoever answers hears of it."""
        self.disconnected = True
        self._tell()

    async def run(self, answering: Awaitable[None]) -> None:
        """Await `answering`. However it ends, the request then has an answer, or its connection is closed."""
        try:
            await answering
        except Exception as error:  # noqa: BLE001 - every error is answered
            self.fail(error)
        else:
            if not self.complete and not self.disconnected:
                log.error("a request has no whole answer", method=self.head.method, path=self.head.path)
        finally:
            if not self.complete and not self.disconnected:
                self._give_up()

    def fail(self, error: Exception) -> None:
        """`error` was raised in place of an answer."""
        log.error("a request failed", method=self.head.method, path=self.head.path, exc_info=error)
        if not self.complete and not self.disconnected:
            self._give_up()

    def tell(self, status: int, fields: Fields, body: bytes) -> None:
        """The whole answer in one go."""
        self.started = True
        head = self.answer.head(status, fields, common=self._common)
        self._carrier.write(head + self.answer.body(body, more=False))
        self._complete()

    async def tell_later(self, outcome: Awaitable[WholeAnswer]) -> None:
        """The whole answer once it is known, and once there is room for it."""
        answer = await outcome
        if self._carrier.is_full and not self.disconnected:
            await self._carrier.drained()
        if not self.disconnected:
            self.tell(*answer)

    async def receive(self) -> AsgiMessage:
        """ASGI's: a piece of the body, or the end of the connection or of the answer."""
        if self._expects_continue and not self.started and not self.disconnected:
            self._expects_continue = False
            self._carrier.write(CONTINUE)
        while not (self.disconnected or self.complete):
            # One message for everything that has come, with the end: each message costs the application a turn.
            if self._body or (self.is_whole and not self._end_is_told):
                body, self._body = bytes(self._body), bytearray()
                self._end_is_told = self.is_whole
                return {"type": "http.request", "body": body, "more_body": not self.is_whole}
            self._carrier.resume_reading()
            if self._news is None:
                self._news = asyncio.Event()
            self._news.clear()
            await self._news.wait()
        return DISCONNECT

    async def send(self, message: AsgiMessage) -> None:
        """ASGI's. The head is held back for the first piece of the body, as the specification asks for.

        Waits only before it has written anything. Raises `ValueError` for what does not follow from what came before.
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

    def _complete(self) -> None:
        self.complete = True
        self._body.clear()
        self._tell()
        if not self.answer.keep_alive:
            self._carrier.close()
        self._carrier.answered()

    def _give_up(self) -> None:
        # Nothing was sent yet (a head is held back), so there is room for an answer that says so.
        if not self.started or self._head_bytes:
            self._carrier.write(ProblemAnswer(500, UNFORESEEN).closing(self._common.block()))
            self.answer.keep_alive = False
            self._complete()
        else:
            self._carrier.close()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()


def scope_of(head: RequestHead, *, scheme: str, client: tuple[str, int] | None, state: dict[str, Any]) -> Scope:
    """The ASGI scope of a request."""
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
