"""One client's connection: requests in, answers out, or a stream after an upgrade.

Two tasks serve it. One reads, so that a disconnect is noticed at once. The other answers the calls, one after the
other. When either ends, both end.
"""

import asyncio
import contextlib
import enum
import socket
import time
from typing import Final

from tidegate.verify.faultproxy.answers import STALLED_HEAD, AnswerBody, MadeUp, changed, made_up, plain_status
from tidegate.verify.faultproxy.calls import CallRecord, How
from tidegate.verify.faultproxy.context import ProxyContext
from tidegate.verify.faultproxy.delivery import Cut, Delivery, reset_on_close
from tidegate.verify.faultproxy.drawing import Plan
from tidegate.verify.faultproxy.faults import (
    CALL_FAULTS,
    CLOSE_FAULTS,
    PIECE_FAULTS,
    REUSED_CALL_FAULTS,
    BlackHole,
    DeadKeepAlive,
    SlowClose,
    SpoilFault,
    StalledHeaders,
)
from tidegate.verify.faultproxy.framing import BadHttp, Request, RequestReader, ResponseHead
from tidegate.verify.faultproxy.jsonrpc import Asked, asked
from tidegate.verify.faultproxy.upstream import Upstream

MAX_WAITING_REQUESTS: Final = 16
"""Limit on pipelined requests."""
MAX_EARLY_BYTES: Final = 65536
"""Limit on bytes that a client sends before the answer to its upgrade."""
MAX_SPOILT_BYTES: Final = 16 * 1024 * 1024
"""Limit on an answer of upstream that a fault changes, since it is held in memory."""

_READ_BYTES: Final = 65536
_ENCODINGS: Final = frozenset({b"accept-encoding"})


class _Mode(enum.Enum):
    """How to treat bytes from the client."""

    HTTP = enum.auto()
    UNDECIDED = enum.auto()
    """An upgrade was requested and is not answered yet: keep the bytes."""
    STREAM = enum.auto()
    SWALLOWED = enum.auto()
    """A black hole hit the connection: drop the bytes from now on."""
    REFUSED = enum.auto()
    """The bytes were not HTTP: drop the rest. Earlier requests are still answered."""


class Connection:
    """Serves one accepted socket. `serve` is called once."""

    __slots__ = (
        "_answered",
        "_client_left",
        "_context",
        "_early",
        "_mode",
        "_reader",
        "_requests",
        "_sock",
        "_stopped",
        "_upstream",
        "_writer",
    )

    def __init__(self, sock: socket.socket, *, context: ProxyContext) -> None:
        self._sock = sock
        self._context = context
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._upstream = Upstream(context.upstream)
        self._reader = RequestReader()
        self._requests: asyncio.Queue[Request | BadHttp] = asyncio.Queue(MAX_WAITING_REQUESTS)
        self._mode = _Mode.HTTP
        self._early = bytearray()
        self._answered = 0
        self._client_left = False

    async def serve(self) -> None:
        """Serve until the client leaves, an exchange ends the connection, or `stop` is called. Then close it."""
        client, self._writer = await asyncio.open_connection(sock=self._sock)
        self._writer.transport.set_write_buffer_limits(high=0)
        tasks = (asyncio.create_task(self._receive(client)), asyncio.create_task(self._answer_all()))
        try:
            await asyncio.wait((*tasks, self._stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._end(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    def stop(self, *, rst: bool) -> None:
        """Make `serve` close the connection now, with RST if `rst`.

        Do not cancel `serve` instead: that could interrupt a close in progress.
        """
        if rst:
            reset_on_close(self._sock)
        if not self._stopped.done():
            self._stopped.set_result(None)

    async def _end(self, tasks: tuple[asyncio.Task[None], ...]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self._upstream.aclose()
        # This loses no answer: `Delivery.send` waits until its bytes have left the transport.
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _receive(self, client: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError, Cut):
            while data := await client.read(_READ_BYTES):
                await self._take(data)
            if self._mode is _Mode.STREAM:
                self._upstream.write_eof()
                await _for_ever()
        self._client_left = True

    async def _take(self, data: bytes) -> None:
        match self._mode:
            case _Mode.HTTP:
                self._parse(data)
            case _Mode.UNDECIDED:
                self._early += data
                if len(self._early) > MAX_EARLY_BYTES:
                    raise ConnectionAbortedError("expected the client to wait for the answer to its upgrade")
            case _Mode.STREAM:
                await self._upstream.write(data)
            case _Mode.SWALLOWED | _Mode.REFUSED:
                pass

    def _parse(self, data: bytes) -> None:
        try:
            requests, self._early[:] = self._reader.feed(data)
        except BadHttp as bad:
            self._queue(bad)
            self._mode = _Mode.REFUSED
            return
        for request in requests:
            self._queue(request)
        if requests and requests[-1].upgrade:
            self._mode = _Mode.UNDECIDED

    def _queue(self, request: Request | BadHttp) -> None:
        try:
            self._requests.put_nowait(request)
        except asyncio.QueueFull:
            raise ConnectionAbortedError(f"expected at most {MAX_WAITING_REQUESTS} requests at a time") from None

    async def _answer_all(self) -> None:
        close_after_s: float | None = None
        while close_after_s is None:
            request = await self._requests.get()
            if isinstance(request, BadHttp):
                await self._refuse(request)
                return
            close_after_s = await self._call(request)
        await asyncio.sleep(close_after_s)

    async def _refuse(self, bad: BadHttp) -> None:
        answer = plain_status(bad.status, (b"Connection", b"close"))
        with contextlib.suppress(OSError):
            await self._deliver(answer.head, answer, self._delivery(Plan()))

    async def _call(self, request: Request) -> float | None:
        """Answer `request` and log it. Return the seconds after which to close the connection; None to keep it."""
        question = asked(request.body)
        path = request.target.partition("?")[0][:200]
        record = self._context.calls.begin(
            http_method=request.method,
            path=path,
            methods=question.methods,
            mono=time.monotonic(),
            wall=time.time(),
        )
        self._context.changed()
        how = How.STOPPED
        try:
            close_after_s = await self._exchange(request, question, record)
            how = How.ANSWERED
        except Cut as cut:
            how = cut.how
            if cut.rst:
                reset_on_close(self._sock)
            return 0.0
        except OSError:
            how = How.CLIENT_LEFT
            return 0.0
        except asyncio.CancelledError:
            how = How.CLIENT_LEFT if self._client_left else How.STOPPED
            raise
        finally:
            self._context.calls.end(record, how=how, mono=time.monotonic())
            self._context.changed()
        self._answered += 1
        return close_after_s

    async def _exchange(self, request: Request, question: Asked, record: CallRecord) -> float | None:
        kinds = REUSED_CALL_FAULTS if self._answered else CALL_FAULTS
        plan = self._context.faults.draw(kinds, called=question.methods or (record.path,))
        record.faults = plan.names
        delivery = self._delivery(plan)
        match plan.answer:
            case DeadKeepAlive():
                raise Cut(How.CLOSED, rst=False)
            case BlackHole():
                self._mode = _Mode.SWALLOWED
                await _for_ever()
            case StalledHeaders():
                await delivery.send(STALLED_HEAD)
                await _for_ever()
        head, answer = await self._find_answer(request, question, plan)
        await delivery.wait()
        slow_close = plan.get(SlowClose)
        if slow_close and head.status != 101:
            head = head.replacing((b"Connection", b"close"))
        record.status = head.status
        await self._deliver(head, answer, delivery)
        if head.is_stream:
            slow_close = slow_close or self._context.faults.draw(CLOSE_FAULTS).get(SlowClose)
        self._return_to_http()
        if slow_close:
            return slow_close.delay_s
        return None if request.keep_alive and head.keep_alive and head.status != 101 else 0.0

    async def _find_answer(self, request: Request, question: Asked, plan: Plan) -> tuple[ResponseHead, AnswerBody]:
        match plan.answer:
            case None:
                return await self._upstream.ask(request), self._upstream
            case SpoilFault() as fault:
                head = await self._upstream.ask(request, without=_ENCODINGS)
                if head.is_stream:
                    return head, self._upstream
                spoilt = changed(fault, head, await self._whole_body())
                return spoilt.head, spoilt
            case fault:
                answer = made_up(fault, question)
                return answer.head, answer if request.method != "HEAD" else MadeUp(answer.head, iter(()))

    async def _whole_body(self) -> bytes:
        body = bytearray()
        while piece := await self._upstream.read():
            body += piece
            if len(body) > MAX_SPOILT_BYTES:
                raise Cut(How.UPSTREAM_FAILED)
        return bytes(body)

    async def _deliver(self, head: ResponseHead, answer: AnswerBody, delivery: Delivery) -> None:
        await delivery.send(head.encode())
        if head.status == 101:
            await self._become_stream()
        redraw = False
        while piece := await answer.read():
            if redraw:
                await self._redraw(delivery)
            redraw = head.is_stream
            if self._mode is not _Mode.SWALLOWED:
                await delivery.send_body(piece, chunked=head.chunked)
        if self._mode is _Mode.SWALLOWED:
            await _for_ever()
        await delivery.finish(chunked=head.chunked)

    async def _redraw(self, delivery: Delivery) -> None:
        """Draw the faults for the next piece of a stream, and wait as they demand."""
        delivery.plan = self._context.faults.draw(PIECE_FAULTS)
        if isinstance(delivery.plan.answer, BlackHole):
            self._mode = _Mode.SWALLOWED
        await delivery.wait()

    async def _become_stream(self) -> None:
        early = bytes(self._early)
        self._early.clear()
        self._mode = _Mode.STREAM
        await self._upstream.write(early)

    def _return_to_http(self) -> None:
        """Continue with HTTP after a refused upgrade. The early bytes are the start of the next request."""
        if self._mode is _Mode.UNDECIDED:
            self._mode = _Mode.HTTP
            self._parse(bytes(self._early))

    def _delivery(self, plan: Plan) -> Delivery:
        return Delivery(self._writer, plan=plan, held=self._context.held, jitter=self._context.jitter)


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()
