"""One persistent connection on asyncio: bytes between the socket and a framing, messages between that and a dialogue.

Knows neither how a connection is made nor who logs in over it.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import msgspec

from tidegate.core.payload import HalfSurrogatePair, mend_surrogates
from tidegate.errors import BackendError, Disconnected
from tidegate.outbound.backends.persistent.dialogue import Dialogue
from tidegate.outbound.backends.persistent.framing import Goodbye, RpcFraming
from tidegate.outbound.backends.persistent.keepalive import ALIVE_S, Pings, keep_alive
from tidegate.outbound.backends.rpc_messages import RpcResponse, outcome
from tidegate.outbound.http_client import Lost
from tidegate.ports import Call

PIECE_BYTES = 8_192
"""How many received bytes are looked at in one turn of the event loop: 30 ms of work for the shortest messages."""

Answers = list[msgspec.Raw | BackendError]


class Unheard(Exception):
    """A connection on which nothing was under way ended before it answered: servers end those that are idle.

    `end` says how.
    """

    def __init__(self, end: Exception) -> None:
        self.end = end
        super().__init__()


class Link(asyncio.Protocol):
    """A connection over which calls are made, until it is lost, closed or retired.

    `peer` names the server in messages. `lost` is called once, when the connection has ended, but not because of
    `retire`, `close` or `abort`. `key` says with which credentials it was opened.
    """

    def __init__(
        self, framing: RpcFraming, dialogue: Dialogue, *, peer: str, key: bytes, lost: Callable[["Link"], None]
    ) -> None:
        self.key = key
        self._peer = peer
        self._framing = framing
        self._dialogue = dialogue
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._ready: asyncio.Future[Exception | None] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._end: Exception | None = None  # why no call can be made any more
        self._is_retired = False
        self._received: list[bytes] = []
        self._reading: Iterator[None] | None = None
        self._heard = 0  # how many times something came
        self._asked = 0
        self._is_paused = False
        self._is_full = False  # the peer does not read what we write
        self._pings = Pings(ping=self._ping, is_idle=lambda: dialogue.is_idle, gone=self._give_up)

    @property
    def is_usable(self) -> bool:
        """Whether new calls can be made, as far as is known."""
        return self._end is None and not self._is_retired

    @property
    def is_closed(self) -> bool:
        return self._gone.done()

    async def open(self) -> None:
        """Begin to speak, and wait until the server is ready for calls. Raises as `ask` does."""
        self._write(self._framing.opening())
        if self._framing.is_ready:
            self._settle_ready(None)
        error = await asyncio.shield(self._ready)
        if error is not None:
            raise error
        self._pings.start()

    async def ask(self, calls: Sequence[Call]) -> Answers:
        """Send all `calls` at once, and return their answers in the same order, each or its error.

        Raises a `BackendError` or `Lost` if the connection ends, or if what came cannot be matched to calls. Raises
        `Unheard` if it ends, without any answer, although nothing else was under way.
        If this is cancelled and the peer has not said anything since, it may be gone without a word: then the
        connection is retired.
        """
        if self._end is not None:
            raise self._end.with_traceback(None)
        heard, was_idle = self._heard, self._dialogue.is_idle
        self._asked += 1
        asked = self._asked
        begun = [self._dialogue.begin(call) for call in calls]
        try:
            self._write(b"".join(self._framing.wrapped(text) for _, text in begun))
            ended = [await self._dialogue.ended(number) for number, _ in begun]
            responses = [_response(each) for each in ended]
        except (Lost, Goodbye) as end:
            if was_idle and self._asked == asked and (self._heard == heard or isinstance(end, Goodbye)):
                raise Unheard(end) from end
            raise
        except asyncio.CancelledError:
            if self._heard == heard:
                self._is_retired = True
            raise
        finally:
            for number, _ in begun:
                self._dialogue.forget(number)
            self._close_if_over()
        return [outcome(response) for response in responses]

    def retire(self) -> None:
        """Take no new calls, and close the connection when those under way have ended."""
        self._is_retired = True
        self._close_if_over()

    def abort(self, why: Exception | None = None) -> None:
        """Close the connection immediately. Its calls end with `why`, by default as if the connection was lost."""
        self._is_retired = True
        self._finish(why or Lost(answer_begun=False))

    async def close(self, why: Exception) -> None:
        """Say goodbye, close the connection, and wait until it is closed. Its calls end with `why`."""
        self._is_retired = True
        self._say_goodbye()
        self._stop(why)
        if self._transport is not None:
            await asyncio.shield(self._gone)

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from it
        if (sock := transport.get_extra_info("socket")) is not None:
            keep_alive(sock)

    def data_received(self, data: bytes) -> None:
        self._heard += 1
        self._pings.heard()
        self._received.append(data)
        if self._reading is None:
            self._reading = self._read()
            self._step()

    def connection_lost(self, exc: Exception | None) -> None:
        for _ in self._reading or ():  # what came before the end
            pass
        lost = Lost(answer_begun=False)
        lost.__cause__ = exc
        self._stop(lost)
        if not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False

    # reading

    def _step(self) -> None:
        """Read on for one turn of the event loop. While there is more, nothing else is received."""
        assert self._reading is not None
        try:
            next(self._reading)
        except StopIteration:
            self._reading = None
            self._pause(paused=False)
            return
        self._pause(paused=True)
        self._loop.call_soon(self._step_on)

    def _step_on(self) -> None:
        if self._reading is not None:
            self._step()

    def _pause(self, *, paused: bool) -> None:
        if self._transport is None or self._transport.is_closing() or paused is self._is_paused:
            return
        self._is_paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _read(self) -> Iterator[None]:
        """Read all that was received. Yields where the event loop may do something else."""
        try:
            while self._received and self._end is None:
                whole = memoryview(self._received.pop(0))
                for at in range(0, len(whole), PIECE_BYTES):
                    if at:
                        yield
                    yield from self._take(bytes(whole[at : at + PIECE_BYTES]))
        except BackendError as error:
            self._write(self._framing.replies())
            self._finish(error)

    def _take(self, piece: bytes) -> Iterator[None]:
        for message in self._framing.feed(piece):
            if self._end is not None:
                return
            try:
                reply = self._dialogue.receive(message)
            except HalfSurrogatePair:
                yield from mend_surrogates(message)
                reply = self._dialogue.receive(message)
            if reply is not None:
                self._reply(self._framing.wrapped(reply))
        self._reply(self._framing.replies())
        if self._framing.is_ready:
            self._settle_ready(None)

    # writing and ending

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _reply(self, data: bytes) -> None:
        """Send what the peer asked for, unless it reads nothing: then it would fill our memory."""
        if data and self._is_full:
            raise Disconnected(f"{self._peer}: it asks, but does not read our answers")
        self._write(data)

    def _ping(self) -> bool:
        ping = b"" if self._is_full else self._framing.ping()
        self._write(ping)
        return bool(ping)

    def _give_up(self) -> None:
        self._finish(Disconnected(f"{self._peer}: it did not answer a ping within {ALIVE_S} s"))

    def _say_goodbye(self) -> None:
        if self._end is None and not self._is_full:
            self._write(self._framing.goodbye())

    def _close_if_over(self) -> None:
        if self._is_retired and self._end is None and self._dialogue.is_idle:
            self._say_goodbye()
            self._stop(Lost(answer_begun=False))

    def _finish(self, why: Exception) -> None:
        self._stop(why)
        if self._transport is not None:
            self._transport.abort()

    def _stop(self, why: Exception) -> None:
        """End all calls with `why`, and close the connection. Called again it does nothing."""
        if self._end is not None:
            return
        self._end = why
        self._pings.stop()
        self._settle_ready(why)
        self._dialogue.fail(why)
        if self._transport is not None:
            if self._transport.get_write_buffer_size():  # who does not read now would be waited for
                self._transport.abort()
            else:
                self._transport.close()
        if not self._is_retired:
            self._lost(self)

    def _settle_ready(self, error: Exception | None) -> None:
        if not self._ready.done():
            self._ready.set_result(error)


def _response(ended: RpcResponse | Exception) -> RpcResponse:
    if isinstance(ended, Exception):
        raise ended.with_traceback(None)  # many calls may end with the same error
    return ended
