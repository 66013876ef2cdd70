"""A stream that survives the loss of its connection: it connects, receives, reconnects and resumes.

Each call of `Stream.__anext__` opens a connection or receives frames. All state is kept in attributes, so a cancelled
call loses nothing, and the next call continues where it stopped.
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
from tidegate.client.refusals import FAILED_HANDSHAKE, Lost, judge_close, judge_handshake, judge_reconnect
from tidegate.errors import AccessRefused, MessageErrorCode, TidegateError

SILENT_HEARTBEATS = 2.5
"""Heartbeat intervals without any frame after which the server is pinged. One heartbeat may be late, two are not."""

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
    """Follow the gateway at `url` while the context is open. Nothing is sent before the stream is iterated.

    `types`: patterns to subscribe to; None for the gateway's defaults.
    `since`: a saved `Stream.position`, to resume from.
    `since_types`: the `Stream.position_types` saved with it; None if they equal `types`. For patterns in `types` that
        were not among them, the current values are sent as well.
    `token`: a token, or a function that returns one (or an awaitable of one). The function is called at the start, and
        again when the gateway has refused the token or ended the stream because of it. Its exceptions come out of the
        iteration. Do not resume with a different token that covers more: events that only the new token covers would
        be missing.

    Raises `ValueError` for a malformed `url` or `since`.
    """
    stream = Stream(url, types=types, token=token, since=since, since_types=since_types, options=options)
    try:
        yield stream
    finally:
        await stream.aclose()


class Stream:
    """An endless asynchronous iterator over a gateway's events; made by `connect`. Only one task may iterate at a time.

    Iterating raises `AccessRefused` if the gateway refuses the request, and `StreamClosed` if it ends the stream for
    good. After any other failure the stream yields `Disconnected` and reconnects, without limit.
    After the gateway has accepted the stream once, other refusals (404, 421, a login page) are retried too, because
    they come up for a while during deployments. Then only a refused token (401, 403) is final; a token function is
    asked for a new token once before that.
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
        self._was_accepted = False
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
        self._subscribed_later = False
        self._starts_over = False
        self._server_said: str | None = None
        self._server_wait_s = 0.0
        self._address()  # raises ValueError for a malformed `url` now, rather than during iteration

    @property
    def position(self) -> str | None:
        """The position up to which all events have been yielded, as ``EPOCH:SEQ``; None while it is unknown."""
        return None if self._progress.complete is None else str(self._progress.complete)

    @property
    def position_types(self) -> frozenset[str] | None:
        """The patterns for which `position` is valid; None without a position, or before the gateway has named them."""
        return None if self._progress.complete is None else self._progress.patterns

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        """Return the next item. Cancelling loses nothing. Raises `AccessRefused` or `StreamClosed`: see the class."""
        while not self._ended:
            item = await (self._open() if self._websocket is None else self._receive(self._websocket))
            if item is not None:
                return item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the connection and end the iteration. Waits for the closing handshake, at most `close_timeout_s`."""
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
                ping_interval=None,  # `_frame` sends pings itself, and only while the server is silent
                max_size=self._options.max_message_bytes,
            )
        except FAILED_HANDSHAKE as error:
            return self._lost(self._judged(judge_handshake(error)))
        self._welcomed_at, self._server_said, self._server_wait_s = None, None, 0.0
        self._silence_s, self._to_send, self._subscribed_later = self._options.open_timeout_s, [], False
        return None

    async def _receive(self, websocket: ClientConnection) -> Item | None:
        try:
            while self._to_send:
                with suppress(ConnectionClosed):  # frames that arrived before the end must still be read, below
                    await websocket.send(self._to_send[0], text=True)
                self._to_send.pop(0)  # after sending: if cancelled in between, it is sent twice, which is harmless
            raw = await self._frame(websocket)
            item = self._take(decode_message(raw), raw)
            if self._starts_over and isinstance(item, Gap):
                websocket.transport.abort()  # a closing handshake would first have to read all the snapshots
                self._websocket = None
            return item
        except ConnectionClosed as error:
            return self._lost(self._judged(judge_close(error, said=self._server_said)))
        except TimeoutError:
            websocket.transport.abort()
            return self._lost(Lost(reason="the server went silent"))
        except UNREADABLE as error:
            websocket.transport.abort()
            return self._lost(Lost(reason=f"the server sent something other than events: {error}"))
        except AccessRefused as refusal:
            websocket.transport.abort()
            return self._lost(refusal)

    async def _frame(self, websocket: ClientConnection) -> bytes:
        """Return the next frame. Raises `TimeoutError` if the server is silent and then does not answer a ping."""
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
                # An answered ping is as good as a frame: wait for the next one.
                if pong is None or not pong.done():
                    raise

    def _take(self, frame: Message, raw: bytes) -> Item | None:
        """Process a frame. Return the item to yield, if any. Raises `AccessRefused` if a subscribe was refused."""
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
            case "error" if self._subscribed_later:
                error = msgspec.json.decode(frame.data_json, type=ErrorData)
                raise AccessRefused(403 if error.code == MessageErrorCode.FORBIDDEN else 400, error.message)
            case _:
                return self._event(frame, raw)
        return None

    def _answer(self, frame: Message) -> None:
        """Queue the messages that `frame` calls for."""
        if frame.type in {"welcome", "subscribed"}:
            self._to_send.append(_PING)  # an old gateway sends no `synced`; its `pong` follows the snapshots instead
        if not self._progress.awaits_synced and self._progress.missing and not self._subscribed_later:
            self._subscribed_later = True
            later = {"type": "subscribe", "data": {"types": sorted(self._progress.missing)}}
            self._to_send.append(msgspec.json.encode(later))

    def _welcome(self, frame: Message) -> Connected | None:
        welcome = msgspec.json.decode(frame.data_json, type=WelcomeData)
        self._was_accepted = True
        self._credentials.accepted()
        self._welcomed_at = asyncio.get_running_loop().time()
        self._silence_s = SILENT_HEARTBEATS * welcome.heartbeat_interval_s
        # A resume names the patterns that were the gateway's defaults. If the resume failed, the gateway may have
        # restarted with other defaults: connect again without naming any.
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
        return judge_reconnect(verdict, self._credentials) if self._was_accepted else verdict

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
        """Return whether to yield heartbeats. They are always subscribed to: they carry the position, and show life."""
        return self._types is None or not self._types.isdisjoint({HEARTBEAT, "*"})


def _with_heartbeat(types: Iterable[str] | None) -> frozenset[str] | None:
    return None if types is None else frozenset(types) | {HEARTBEAT}
