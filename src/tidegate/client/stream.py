"""A stream that outlives its connections: connect, follow, notice the end, connect again, resume.

`Stream.__anext__` is one step: either open a connection or take a frame. All state is in attributes, so a step that is
cancelled loses nothing and the next one goes on.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Self

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tidegate.client.addresses import DEFAULT_URL, names_this_machine, stream_url
from tidegate.client.credentials import Credentials, TokenSource
from tidegate.client.items import (
    UNREADABLE,
    Connected,
    Disconnected,
    Event,
    Gap,
    Item,
    Message,
    decode_message,
    event_of,
)
from tidegate.client.opening import open_websocket
from tidegate.client.options import StreamOptions
from tidegate.client.payloads import ConnectionErrorData, ErrorData, GapData, NotificationData, WelcomeData
from tidegate.client.position import ClientPosition, Position
from tidegate.client.refusals import FAILED_HANDSHAKE, Lost, judge_again, judge_close, judge_handshake
from tidegate.errors import AccessRefused, MessageErrorCode, TidegateError

SILENT_HEARTBEATS = 2.5
"""So many heartbeat intervals without a frame, and the server is asked whether it lives."""

HEARTBEAT = "heartbeat"
_PING = b'{"type":"ping"}'


_DEFAULTS = StreamOptions()


@asynccontextmanager
async def connect(
    url: str = DEFAULT_URL,
    *,
    types: Iterable[str] | None = None,
    token: TokenSource = None,
    since: str | None = None,
    since_types: Iterable[str] | None = None,
    options: StreamOptions = _DEFAULTS,
) -> AsyncIterator["Stream"]:
    """Follow the gateway at `url` for as long as the context is open.

    `types` are patterns, None for the gateway's defaults. `since` is a position that `Stream.position` once gave, and
    `since_types` what `Stream.position_types` gave with it; None: the same as `types`. Of patterns that were not among
    them, the current values are handed over too. With another token that covers more, do not resume: what only that one
    covers would be missing.
    `token` may be a function that gives one, at once or as an awaitable: it is asked at the beginning, and again when
    the gateway has refused or ended what it gave; what it raises, iterating raises.
    Nothing is sent before the stream is iterated. Raises `ValueError` for a malformed `url` or `since`.
    """
    stream = Stream(url, types=types, token=token, since=since, since_types=since_types, options=options)
    try:
        yield stream
    finally:
        await stream.aclose()


class Stream:
    """An endless asynchronous iterator over a gateway's events; see `connect`.

    Iterating raises `AccessRefused` where the gateway refuses the request and `StreamClosed` where it ended the stream
    for good; everything else is tried again, for ever, and told as `Disconnected`. Once it was let in, other answers
    (404, 421, a login page) are a deployment that passes and are tried again too; only a refused token (401, 403) is
    final, after another one was asked for once. For one iterating task at a time.
    """

    def __init__(
        self,
        url: str,
        *,
        types: Iterable[str] | None,
        token: TokenSource,
        since: str | None,
        since_types: Iterable[str] | None = None,
        options: StreamOptions,
    ) -> None:
        self._url = url
        self._types = None if types is None else frozenset(types)
        self._credentials = Credentials(token)
        self._was_let_in = False
        self._options = options
        self._progress = ClientPosition(
            _with_heartbeat(self._types),
            since=None if since is None else Position.parse(since),
            since_types=_with_heartbeat(since_types),
        )
        self._websocket: ClientConnection | None = None
        self._ended = False
        self._failures = 0
        self._next_attempt = 0.0
        self._welcomed_at: float | None = None
        self._silence_s = options.open_timeout_s
        self._opening = self._progress.opening()
        self._to_send: list[bytes] = []
        self._asked_later = False
        self._starts_over = False
        self._server_said: str | None = None
        self._server_wait_s = 0.0
        self._address()  # a malformed one is refused now, not at the first step

    @property
    def position(self) -> str | None:
        """Up to where everything has been yielded, as ``EPOCH:SEQ``; None before that can be said."""
        return None if self._progress.complete is None else str(self._progress.complete)

    @property
    def position_types(self) -> frozenset[str] | None:
        """The patterns that `position` stands for; None where there is none, or the gateway has not named them yet."""
        return None if self._progress.complete is None else self._progress.patterns

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        """The next item. Cancelling it loses nothing. Raises `AccessRefused` and `StreamClosed`, as the class says."""
        while not self._ended:
            item = await (self._open() if self._websocket is None else self._receive(self._websocket))
            if item is not None:
                return item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the connection, waiting for the server's goodbye for a moment. Iterating ends."""
        self._ended = True
        if self._websocket is not None:
            websocket, self._websocket = self._websocket, None
            await websocket.close()

    async def _open(self) -> Disconnected | None:
        await asyncio.sleep(self._next_attempt - asyncio.get_running_loop().time())
        headers = await self._credentials.headers()
        self._opening = self._progress.opening()
        try:
            self._websocket = await open_websocket(
                self._address(),
                additional_headers=headers,
                compression=None,
                proxy=None if names_this_machine(self._url) else True,
                open_timeout=self._options.open_timeout_s,
                close_timeout=self._options.close_timeout_s,
                ping_interval=None,  # `_frame` asks a silent server itself, and leaves a talking one alone
                max_size=self._options.max_message_bytes,
            )
        except FAILED_HANDSHAKE as error:
            return self._lost(self._judged(judge_handshake(error)))
        self._welcomed_at, self._server_said, self._server_wait_s = None, None, 0.0
        self._silence_s, self._to_send, self._asked_later = self._options.open_timeout_s, [], False
        return None

    async def _receive(self, websocket: ClientConnection) -> Item | None:
        try:
            while self._to_send:
                with suppress(ConnectionClosed):  # what had arrived before the end is still to be taken
                    await websocket.send(self._to_send[0], text=True)
                self._to_send.pop(0)  # only now: a cancelled step sends it again, which does no harm
            raw = await self._frame(websocket)
            item = self._take(decode_message(raw), raw)
            if self._starts_over and isinstance(item, Gap):
                websocket.transport.abort()  # a goodbye would have to wait until all the snapshots are read
                self._websocket = None
            return item
        except ConnectionClosed as error:
            return self._lost(self._judged(judge_close(error, said=self._server_said)))
        except TimeoutError:
            websocket.transport.abort()
            return self._lost(Lost(reason="the server fell silent"))
        except UNREADABLE as error:
            websocket.transport.abort()
            return self._lost(Lost(reason=f"the server sent something else than events: {error}"))
        except AccessRefused as refusal:
            websocket.transport.abort()
            return self._lost(refusal)

    async def _frame(self, websocket: ClientConnection) -> bytes:
        """The next frame. Raises `TimeoutError` for a server that answers no ping after its silence."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._silence_s):
                    return await websocket.recv(decode=False)
            pong: asyncio.Future[float] | None = None
            try:
                async with asyncio.timeout(self._options.ping_timeout_s):
                    pong = asyncio.ensure_future(await websocket.ping())
                    return await websocket.recv(decode=False)
            except TimeoutError:
                if pong is None or not pong.done():
                    raise

    def _take(self, frame: Message, raw: bytes) -> Item | None:
        """What a frame is for the user, None for nothing. Raises `AccessRefused` where a subscribe is refused."""
        self._progress.take(frame)
        self._answer(frame)
        match frame.type:
            case "welcome":
                return self._welcome(frame)
            case "gap":
                gap = msgspec.json.decode(frame.data_json, type=GapData)
                return Gap(timestamp=frame.timestamp, raw=raw, **msgspec.structs.asdict(gap))
            case "synced" | "subscribed" | "pong":
                pass
            case "connection_error":
                self._server_said = msgspec.json.decode(frame.data_json, type=ConnectionErrorData).message
            case "error" if self._asked_later:
                error = msgspec.json.decode(frame.data_json, type=ErrorData)
                raise AccessRefused(403 if error.code == MessageErrorCode.FORBIDDEN else 400, error.message)
            case _:
                return self._event(frame, raw)
        return None

    def _answer(self, frame: Message) -> None:
        """Send what follows from where the client is now."""
        if frame.type in {"welcome", "subscribed"}:
            self._to_send.append(_PING)  # a gateway that is too old for `synced` answers behind the snapshots
        if not self._progress.awaits_synced and self._progress.missing and not self._asked_later:
            self._asked_later = True
            later = {"type": "subscribe", "data": {"types": sorted(self._progress.missing)}}
            self._to_send.append(msgspec.json.encode(later))

    def _welcome(self, frame: Message) -> Connected | None:
        welcome = msgspec.json.decode(frame.data_json, type=WelcomeData)
        self._was_let_in = True
        self._credentials.accepted()
        self._welcomed_at = asyncio.get_running_loop().time()
        self._silence_s = SILENT_HEARTBEATS * welcome.heartbeat_interval_s
        # A resume names the patterns that the defaults were. Where it comes to nothing, they may be others by now.
        self._starts_over = self._types is None and self._opening.types is not None and not welcome.resumed
        if self._starts_over:
            return None
        return Connected(
            resumed=welcome.resumed,
            client_id=welcome.client_id,
            server=welcome.server,
            subscriptions=welcome.subscriptions,
            heartbeat_interval_s=welcome.heartbeat_interval_s,
        )

    def _event(self, frame: Message, raw: bytes) -> Event | None:
        if frame.type == HEARTBEAT:
            if not self._wants_heartbeats():
                return None
        elif frame.type == "notification" and frame.seq is None:
            notice = msgspec.json.decode(frame.data_json, type=NotificationData)
            self._server_said = notice.message
            self._server_wait_s = notice.retry_after_ms / 1000
        return event_of(frame, raw)

    def _judged(self, verdict: Lost | TidegateError) -> Lost | TidegateError:
        return judge_again(verdict, self._credentials) if self._was_let_in else verdict

    def _lost(self, verdict: Lost | TidegateError) -> Disconnected:
        self._websocket = None
        if isinstance(verdict, TidegateError):
            self._ended = True
            raise verdict
        now = asyncio.get_running_loop().time()
        backoff = self._options.backoff
        lived_s = None if self._welcomed_at is None else now - self._welcomed_at
        self._failures = backoff.failures(self._failures, lived_s=lived_s)
        delay_s = backoff.delay_s(
            self._failures, jitter=random.random(), at_least_s=max(verdict.at_least_s, self._server_wait_s)
        )
        self._welcomed_at, self._server_wait_s = None, 0.0
        self._next_attempt = now + delay_s
        return Disconnected(reason=verdict.reason, retry_in_s=delay_s, code=verdict.code)

    def _address(self) -> str:
        types, since, _ = self._opening
        return stream_url(
            self._url, types=None if types is None else sorted(types), since=None if since is None else str(since)
        )

    def _wants_heartbeats(self) -> bool:
        """They are always asked for, since they carry the position and show that the server lives."""
        return self._types is None or not self._types.isdisjoint({HEARTBEAT, "*"})


def _with_heartbeat(types: Iterable[str] | None) -> frozenset[str] | None:
    return None if types is None else frozenset(types) | {HEARTBEAT}
