"""A WebSocket client that records all messages in order, and judges none of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from tidegate.verify.frames import Frame, Name, Welcome, is_move, read_frame, read_welcome
from tidegate.verify.obstacles import CouldNotTest

OPEN_S = 10.0
"""Timeout for connecting, and for the first message after that."""

T = TypeVar("T")


class Refusal(msgspec.Struct):
    """The part of a problem document that says what was expected, and what came."""

    detail: str


class NotSeen(Exception):
    """An expected message did not come in time."""


class StreamEnded(Exception):
    """The gateway ended the connection. The message says how."""


class Observer:
    """A client that records what it receives; made by `observing`.

    `frames` are the valid messages, `came` is when each of them came, in monotonic seconds. `malformed` describes the
    other messages. `ended` says how the connection ended; it is None
    while the connection is open.
    """

    def __init__(self, label: str, connection: ClientConnection, *, everything: bool) -> None:
        self.label = label
        self.everything = everything
        self.frames: list[Frame] = []
        self.came: list[float] = []
        self.malformed: list[str] = []
        self.ended: str | None = None
        self._connection = connection
        self._waiters: set[asyncio.Future[None]] = set()
        self._reading = asyncio.create_task(self._read(), name=f"observer {label}")

    @property
    def welcome(self) -> Welcome:
        """The first message."""
        return read_welcome(self.frames[0])

    @property
    def mark(self) -> int:
        """The index in `frames` at which the next message will be."""
        return len(self.frames)

    def after(self, frame: Frame) -> int:
        """Return the index in `frames` just after `frame`."""
        return next(n for n, one in enumerate(self.frames, start=1) if one is frame)

    def came_at(self, frame: Frame) -> float:
        """Return when `frame` came, in monotonic seconds."""
        return self.came[self.after(frame) - 1]

    def moves(self, breaker: str, *, after: int = 0) -> list[Frame]:
        """Return the live events about moves of `breaker`."""
        states = ("closed", "open", "half_open")
        return [frame for frame in self.frames[after:] if any(is_move(frame, breaker, state) for state in states)]

    def values(self, types: Iterable[str], *, after: int = 0) -> list[Frame]:
        """Return the live data events of `types`."""
        wanted = frozenset(types)
        return [frame for frame in self.frames[after:] if frame.type in wanted and not frame.snapshot]

    def snapshots(self) -> dict[Name, Frame]:
        """Return the snapshots by name."""
        return {frame.name: frame for frame in self.frames if frame.snapshot}

    async def when(self, condition: Callable[[], T | None], *, within_s: float) -> T:
        """Call `condition` after each message until its value is true, and return this value.

        Raises `NotSeen` after `within_s` seconds, `StreamEnded`, and `CouldNotTest` if this client itself has failed.
        """
        try:
            async with asyncio.timeout(within_s):
                while not (found := condition()):
                    self._check_reading()
                    await self._changed()
                return found
        except TimeoutError:
            raise NotSeen(f"not seen within {within_s:g} s") from None

    async def ping(self, *, within_s: float) -> None:
        """Send a ping and wait for its pong. Raises `NotSeen` or `StreamEnded`."""
        try:
            async with asyncio.timeout(within_s):
                await (await self._connection.ping())
        except TimeoutError:
            raise NotSeen(f"no pong within {within_s:g} s") from None
        except ConnectionClosed as error:
            raise StreamEnded(str(error)) from error

    async def aclose(self) -> None:
        """Disconnect. The recorded messages are kept."""
        self._reading.cancel()
        await asyncio.wait([self._reading])
        await self._connection.close()

    def _check_reading(self) -> None:
        if self.ended is not None:
            raise StreamEnded(self.ended)
        if self._reading.done():
            raise CouldNotTest(f"the client {self.label!r} has died: {_death(self._reading)}")

    async def _changed(self) -> None:
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(changed)
        try:
            await asyncio.wait([changed, self._reading], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiters.discard(changed)

    async def _read(self) -> None:
        try:
            while True:
                self._take(await self._connection.recv())
        except ConnectionClosed as error:
            self.ended = str(error)
        finally:
            self._notify()

    def _take(self, text: str | bytes) -> None:
        try:
            self.frames.append(read_frame(text))
            self.came.append(time.monotonic())
        except (msgspec.MsgspecError, ValueError) as error:
            self.malformed.append(f"{error}: {text[:200]!r}")
        self._notify()

    def _notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


@asynccontextmanager
async def observing(
    url: str, *, label: str, types: Iterable[str] | None = None, since: str | None = None, token: str | None = None
) -> AsyncIterator[Observer]:
    """Connect a client to the gateway at `url` (http or https) and wait for `welcome`. It disconnects with the context.

    With `types` None it gets the gateway's defaults. `since` is ``EPOCH:SEQ``. Raises `CouldNotTest` if the gateway
    does not accept the client.
    """
    query = {"types": None if types is None else ",".join(types), "since": since}
    address = f"{url.replace('http', 'ws', 1)}/ws?{urlencode({k: v for k, v in query.items() if v is not None})}"
    headers = {"Authorization": f"Bearer {token}"} if token else None
    try:
        connection = await connect(
            address,
            additional_headers=headers,
            compression=None,
            max_size=None,
            max_queue=None,
            open_timeout=OPEN_S,
            ping_interval=None,
            proxy=None,
        )
    except (OSError, WebSocketException) as error:
        raise CouldNotTest(f"the gateway at {url} lets no client in: {error}{_reason(error)}") from error
    observer = Observer(label, connection, everything=types is not None and "*" in types)
    try:
        try:
            await observer.when(lambda: observer.frames, within_s=OPEN_S)
        except (NotSeen, StreamEnded) as error:
            raise CouldNotTest(f"the gateway at {url} says nothing to a new client: {error}") from error
        if observer.frames[0].type != "welcome":
            raise CouldNotTest(f"expected welcome as the first message, got {observer.frames[0].type}")
        yield observer
    finally:
        await observer.aclose()


def _reason(error: Exception) -> str:
    """Return what a gateway that refused a client said beside the status: its answer is a problem (RFC 9457)."""
    try:
        body = error.response.body if isinstance(error, InvalidStatus) else None
        return f": {msgspec.json.decode(body or b'', type=Refusal).detail}"
    except msgspec.MsgspecError:
        return ""


def _death(task: asyncio.Task[None]) -> str:
    return "cancelled" if task.cancelled() else repr(task.exception())
