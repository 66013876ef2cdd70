"""A WebSocket client that keeps every message in the order in which it came, and decides nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tidegate.verify.frames import Frame, Name, Welcome, is_move, read_frame, read_welcome
from tidegate.verify.obstacles import CouldNotTest

OPEN_S = 10.0
"""How long connecting may take before the gateway counts as out of reach."""

T = TypeVar("T")


class NotSeen(Exception):
    """What was waited for did not come in time."""


class StreamEnded(Exception):
    """The gateway ended the connection; the text says how."""


class Observer:
    """What one client was told. Made by `observing`.

    `frames` are the messages, `malformed` those that are none. `ended` says how the connection ended; None while open.
    """

    def __init__(self, label: str, connection: ClientConnection, *, everything: bool) -> None:
        self.label = label
        self.everything = everything
        self.frames: list[Frame] = []
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
        """Where what comes from now on will be in `frames`."""
        return len(self.frames)

    def after(self, frame: Frame) -> int:
        """Where what came after `frame` is in `frames`."""
        return next(n for n, one in enumerate(self.frames, start=1) if one is frame)

    def moves(self, breaker: str, *, after: int = 0) -> list[Frame]:
        """The moves of `breaker` that were told live."""
        states = ("closed", "open", "half_open")
        return [frame for frame in self.frames[after:] if any(is_move(frame, breaker, state) for state in states)]

    def values(self, types: Iterable[str], *, after: int = 0) -> list[Frame]:
        """The data events of `types` that were told live."""
        wanted = frozenset(types)
        return [frame for frame in self.frames[after:] if frame.type in wanted and not frame.snapshot]

    def snapshots(self) -> dict[Name, Frame]:
        """What was handed over at the start."""
        return {frame.name: frame for frame in self.frames if frame.snapshot}

    async def when(self, condition: Callable[[], T | None], *, within_s: float) -> T:
        """The first true value of `condition`, which is asked after every message.

        Raises `NotSeen` after `within_s` seconds, `StreamEnded`, and `CouldNotTest` if this client itself has died.
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
        """A ping and its pong. Raises `NotSeen` or `StreamEnded`."""
        try:
            async with asyncio.timeout(within_s):
                await (await self._connection.ping())
        except TimeoutError:
            raise NotSeen(f"no pong within {within_s:g} s") from None
        except ConnectionClosed as error:
            raise StreamEnded(str(error)) from error

    async def aclose(self) -> None:
        """Leave. Messages that came before stay."""
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
    """A client of the gateway at `url` (http or https) that has been welcomed; it leaves with the context.

    `types` None asks for the gateway's defaults; `since` is ``EPOCH:SEQ``. Raises `CouldNotTest` where the gateway
    lets nobody in.
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
        raise CouldNotTest(f"the gateway at {url} lets no client in: {error}") from error
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


def _death(task: asyncio.Task[None]) -> str:
    return "cancelled" if task.cancelled() else repr(task.exception())
