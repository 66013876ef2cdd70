"""The clients of a world: real WebSocket connections through `websockets`' sans-I/O protocol, each with its manners.

A client keeps what it received and what it asked for, visit by visit; judging that is the checker's.
"""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import Raw
from resuming import Resuming
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from simulation.scenario import Scenario

HOST, PORT = "localhost", 12080

MOMENT_S = 1e-3
"""Less is not worth waiting for: timers are as exact as the loop's clock."""


class Message(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Any message of the gateway."""

    type: str
    timestamp: str
    data: Raw
    seq: int | None = None
    key: str | None = None
    id: int | None = None
    source: str | None = None
    stale: bool | None = None
    as_of: str | None = None
    error_code: str | None = None
    retry_at: str | None = None
    cause: str | None = None
    expired: bool = False
    gone: bool = False
    snapshot: bool = False

    @property
    def name(self) -> tuple[str, str]:
        return self.type, self.key or ""


DECODER = msgspec.json.Decoder(Message)


class Visit:
    """One connection of a client: `heard` is what it received, and when; `text` is the frame as it came.

    `deaf` are the spans in which it did not read. `ended` is when it was over, `left` whether by the client's own will
    and in good order.
    """

    __slots__ = ("asked", "client", "deaf", "ended", "heard", "left", "patterns", "requests", "since", "started")

    def __init__(self, client: str, started: float, patterns: Sequence[str], since: str | None) -> None:
        self.client = client
        self.started = started
        self.patterns = patterns
        self.since = since
        self.heard: list[tuple[float, Message, bytes]] = []
        self.asked = 0
        self.requests: dict[int, str] = {}
        self.deaf: list[list[float]] = []
        self.ended: float | None = None
        self.left = False


class Wire(asyncio.Protocol):
    """One connection. `opened` ends with the handshake; `lost` with the connection."""

    def __init__(self, path: str, hear: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[Response] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._hear = hear
        self._protocol = ClientProtocol(parse_uri(f"ws://{HOST}:{PORT}{path}"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self.opened.set_result(event)
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                assert event.fin
                self._hear(bytes(event.data))
        self._flush()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("lost in the handshake"))

    def ask(self, message: dict[str, Any]) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(json.dumps(message).encode())
            self._flush()

    def stop_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def go_on_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            self._flush()

    def abort(self) -> None:
        self._transport.abort()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data and not self._transport.is_closing():
                self._transport.write(data)
            elif not data:
                self._transport.close()


class Client:
    """Stays from its first connection to the end. Others behave as they override.

    `heard` is told of every message, and `ended` of every visit once it is over.
    """

    patterns: Sequence[str] = ("*",)
    names_types = True

    def __init__(
        self,
        name: str,
        scenario: Scenario,
        *,
        heard: Callable[[str, float, Message, bytes], None],
        ended: Callable[[Visit], None],
    ) -> None:
        self.name = name
        self.visit: Visit | None = None
        self._scenario = scenario
        self._rng = random.Random(f"client {name} {scenario.seed}")
        self._heard = heard
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._rule = Resuming(self.patterns)
        self._deaf_from = 0.0

    async def run(self) -> None:
        """Come and go until the scenario's end."""
        end, final_at = self._scenario.duration_s, self._scenario.final_at
        await asyncio.sleep(self._first())
        while (now := self._loop.time()) < end:
            until = now + self._length()
            wire = await self._connect()
            try:
                await self._opened(wire)
                await self._stay(wire, end if until > final_at else until)
                self._leave(wire)
                await wire.lost
            finally:
                wire.abort()  # where the world is broken off: who does not read would never hear of its end
            self._end_visit()
            now = self._loop.time()
            if now < end:
                await asyncio.sleep(max(0.5, min(self._away(), final_at - now)))

    def _first(self) -> float:
        return 0.0

    def _length(self) -> float:
        return float("inf")

    def _away(self) -> float:
        return 0.5

    def _wanted(self) -> Sequence[str]:
        return self.patterns

    def _since(self) -> str | None:
        return self._rule.opening[1]

    async def _stay(self, wire: Wire, until: float) -> None:
        await asyncio.wait([wire.lost], timeout=until - self._loop.time())

    def _leave(self, wire: Wire) -> None:
        visit = self.visit
        assert visit is not None
        if not wire.lost.done():
            visit.left = True
            visit.ended = self._loop.time()
        wire.close()

    async def _connect(self) -> Wire:
        patterns, since = list(self._wanted()), self._since()
        query = {"types": ",".join(patterns)} if self.names_types else {}
        query |= {"since": since} if since else {}
        visit = self.visit = Visit(self.name, self._loop.time(), patterns, since)

        def hear(text: bytes) -> None:
            if visit.ended is None:
                self._hear(visit, text)

        _, wire = await self._loop.create_connection(lambda: Wire(f"/ws?{urlencode(query)}", hear), HOST, PORT)
        return wire

    async def _opened(self, wire: Wire) -> None:
        response = await wire.opened
        assert response.status_code == 101, f"{self.name} was refused: {response}"

    def _hear(self, visit: Visit, text: bytes) -> None:
        now = self._loop.time()
        message = DECODER.decode(text)
        visit.heard.append((now, message, text))
        self._heard(self.name, now, message, text)
        self._rule.tell(json.loads(text))

    def _end_visit(self) -> None:
        visit = self.visit
        assert visit is not None
        if visit.ended is None:
            visit.ended = self._loop.time()
        self._ended(visit)

    def _ask(self, wire: Wire, kind: str, **fields: Any) -> None:
        visit = self.visit
        assert visit is not None
        visit.asked += 1
        visit.requests[visit.asked] = kind
        wire.ask({"type": kind, "id": visit.asked, **fields})


class Resumer(Client):
    """Comes and goes, and wants what it missed."""

    def _first(self) -> float:
        return self._rng.uniform(0, 120)

    def _length(self) -> float:
        return 10 ** self._rng.uniform(0, 3)

    def _away(self) -> float:
        return 10 ** self._rng.uniform(-1, 2.8)

    def _since(self) -> str | None:
        die = self._rng.random()
        if die < 0.1:
            return "elsewhere:5"
        return None if die < 0.2 else super()._since()

    def _leave(self, wire: Wire) -> None:
        if self._rng.random() < 0.3:
            self._part(wire)
        else:
            super()._leave(wire)

    def _part(self, wire: Wire) -> None:
        super()._leave(wire)
        wire.abort()


class Picky(Resumer):
    """A resumer that wants little."""

    def _first(self) -> float:
        self.patterns = self._rng.choice(
            [
                ["alpha.one", "heartbeat"],
                ["alpha.*", "circuit_breaker.*"],
                ["source.freshness", "heartbeat", "alpha.two"],
                ["rpc_error", "notification", "heartbeat"],
            ]
        )
        return super()._first()


class Changer(Client):
    """Subscribes and unsubscribes, and asks for nonsense at times."""

    patterns = ("heartbeat",)
    choices = ("*", "alpha.*", "alpha.one", "alpha.two", "beta.*", "circuit_breaker.state", "source.freshness")

    def _length(self) -> float:
        return self._rng.uniform(200, 1500)

    def _away(self) -> float:
        return 10 ** self._rng.uniform(-1, 2)

    def _since(self) -> str | None:
        return None

    async def _stay(self, wire: Wire, until: float) -> None:
        while (now := self._loop.time()) < until - MOMENT_S and not wire.lost.done():
            await asyncio.wait([wire.lost], timeout=min(10 ** self._rng.uniform(0, 2), until - now))
            if self._loop.time() < min(until, self._scenario.final_at) - MOMENT_S:
                types = self._rng.sample(self.choices, self._rng.randint(1, 2))
                kind = self._rng.choice(["subscribe", "subscribe", "unsubscribe", "unsubscribe", "ping", "nonsense"])
                self._ask(wire, kind, data={"types": types})


class Staller(Client):
    """Stops reading for a while, now and then; often it goes on sending, so that it is not taken for dead."""

    def _length(self) -> float:
        return self._rng.uniform(300, 3000)

    async def _stay(self, wire: Wire, until: float) -> None:
        assert self.visit is not None
        while (now := self._loop.time()) < until - MOMENT_S and not wire.lost.done():
            await asyncio.wait([wire.lost], timeout=min(10 ** self._rng.uniform(0.5, 2.5), until - now))
            left = min(until, self._scenario.final_at) - self._loop.time()
            if left > MOMENT_S and not wire.lost.done():
                self.visit.deaf.append([self._loop.time(), float("inf")])
                wire.stop_reading()
                await self._be_deaf(wire, min(10 ** self._rng.uniform(0, 2.3), left))
                wire.go_on_reading()
                self.visit.deaf[-1][1] = self._loop.time()

    async def _be_deaf(self, wire: Wire, length: float) -> None:
        talks = self._rng.random() < 0.6
        until = self._loop.time() + length
        while (now := self._loop.time()) < until - MOMENT_S and not wire.lost.done():
            await asyncio.wait([wire.lost], timeout=min(10.0, until - now))
            if talks:
                self._ask(wire, "ping")
