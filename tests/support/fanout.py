"""The fan-out in a test's hands: a stream without a loop, a gateway with a clock of the test's, and fake channels."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

from msgspec import Raw

from tidegate.core.access.grant import EVERYTHING, UNRESTRICTED, Grant
from tidegate.core.delivery.cohort import Interest
from tidegate.core.delivery.framing import WEBSOCKET, Framing
from tidegate.core.delivery.history import History
from tidegate.core.delivery.hub import WRITE_BYTES, Hub
from tidegate.core.delivery.retained import Retained
from tidegate.core.delivery.session import SessionLimits
from tidegate.core.delivery.slowness import SendLimits
from tidegate.core.delivery.stream import Stream
from tidegate.core.delivery.subscriber import Subscriber
from tidegate.core.delivery.traffic import Traffic
from tidegate.core.envelope import encode_draft, event_at, event_without_position
from tidegate.core.events import Draft, Event, Position
from tidegate.core.topics import PatternSet
from tidegate.errors import CloseCode
from tidegate.inbound.multicast import send_to_all
from tidegate.outbound.auth import KnownToken, OpenAuthenticator, TokenAuthenticator
from tidegate.outbound.bus_memory import MemoryBus
from tidegate.ports import Authenticator, Bus
from tidegate.runtime.connection import Connection
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.gateway_options import GatewayOptions
from tidegate.testing import ManualClock, RecordingMetrics

EPOCH = "e1"
KIB = "x" * 1024
NOW = ManualClock().now()
WALL = NOW.wall
LIMITS = SendLimits(hard_bytes=1 << 22, grace_s=10.0)


def draft(event_type: str, data: Any = None, **fields: Any) -> Draft:
    """A draft whose data is `data` as compact JSON."""
    return Draft(type=event_type, data=Raw(json.dumps(data, separators=(",", ":")).encode()), **fields)


def event(event_type: str, seq: int | None, data: Any = None, **fields: Any) -> Event:
    """An event at `seq`, published at `WALL`."""
    made = draft(event_type, data, **fields)
    return (
        event_without_position(made, timestamp=WALL)
        if seq is None
        else event_at(seq, encode_draft(made, timestamp=WALL))
    )


def interest(*patterns: str, allowed: PatternSet = EVERYTHING, framing: Framing = WEBSOCKET) -> Interest:
    """What a client of `patterns` wants."""
    return Interest(PatternSet(patterns), allowed=allowed, framing=framing)


def messages(frames: bytes) -> list[dict[str, Any]]:
    """The JSON objects in whole, unmasked text frames."""
    return [json.loads(payload) for payload in _payloads(frames)]


def _payloads(frames: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(frames):
        assert frames[at] == 0x81, "expected a text frame"
        size, at = frames[at + 1], at + 2
        width = {126: 2, 127: 8}.get(size, 0)
        if width:
            size, at = int.from_bytes(frames[at : at + width]), at + width
        assert at + size <= len(frames), "expected a whole frame"
        yield frames[at : at + size]
        at += size


class FakeChannel:
    """A transport whose kernel takes bytes when the test says so.

    It pauses its writer when it holds more than `soft_bytes`, and resumes it when it holds a quarter of that, as
    asyncio's transports do; `paused` says which. One that is `on` some `Sockets` has a socket that may be sent to while
    it holds nothing.
    """

    def __init__(self, soft_bytes: int = 1 << 18, *, on: "Sockets | None" = None) -> None:
        self.socket = None if on is None else on.add(self)
        self.room = 0
        """What its socket takes at once, although the reader does not read."""
        self.soft_bytes = soft_bytes
        self.taken = bytearray()
        self.writes = 0
        self.ended: tuple[str, CloseCode] | None = None
        self.may_fail = False
        self.on_pause: Callable[[], None] = lambda: None
        self.on_resume: Callable[[], None] = lambda: None
        self.on_holding: Callable[[bool], None] = lambda _: None
        self._held = bytearray()
        self.paused = False
        self._blocked = False

    def write(self, data: bytes) -> None:
        assert data, "nothing is written for nothing"
        assert self.ended is None, "nothing is written after the end"
        self.writes += 1
        self._held += data
        if not self._blocked:
            self.take()
            return
        self.on_holding(True)
        if not self.paused and len(self._held) > self.soft_bytes:
            self.paused = True
            self.on_pause()

    def sent(self, data: bytes) -> int:
        """Bytes came past the transport, to its socket; how many of them it takes."""
        assert not self._held, "nothing overtakes what the transport holds"
        assert self.ended is None, "nothing is written after the end"
        self.writes += 1
        taken = data[: self.room] if self._blocked else data
        self.taken += taken
        return len(taken)

    def unsent(self) -> int:
        return len(self._held)

    def close(self, code: CloseCode, reason: str) -> None:
        self._check_end(code, reason)
        self.ended = self.ended or ("close", code)

    def abort(self, code: CloseCode, reason: str) -> None:
        self._check_end(code, reason)
        self.ended = self.ended or ("abort", code)

    def _check_end(self, code: CloseCode, reason: str) -> None:
        """A connection keeps its failures to itself: without this it would also keep those that a test looks for."""
        assert self.may_fail or code is not CloseCode.INTERNAL_ERROR, reason

    def block(self) -> None:
        """The reader stops reading."""
        self._blocked = True

    def unblock(self) -> None:
        """The reader reads everything, also what comes from now on."""
        self._blocked = False
        self.take()

    def take(self, size: int | None = None) -> None:
        """The kernel takes `size` bytes; None: all there are."""
        count = len(self._held) if size is None else size
        self.taken += self._held[:count]
        del self._held[:count]
        if not self._held:
            self.on_holding(False)
        if self.paused and len(self._held) <= self.soft_bytes // 4:
            self.paused = False
            self.on_resume()
            if not self._blocked and self._held:
                self.take()

    def received(self) -> list[dict[str, Any]]:
        """The messages that the reader got since the last call; its last frame must be whole."""
        taken = bytes(self.taken)
        self.taken.clear()
        return messages(taken)


def _raise(error: Exception) -> None:
    raise error


class Sockets:
    """The sockets of channels. Implements `tidegate.core.delivery.hub.Multicast`."""

    def __init__(self) -> None:
        self._channels: list[FakeChannel] = []

    def add(self, channel: FakeChannel) -> int:
        self._channels.append(channel)
        return len(self._channels) - 1

    def __call__(self, sockets: Sequence[int], data: bytes) -> list[tuple[int, int]]:
        taken = [self._channels[socket].sent(data) for socket in sockets]
        return [(place, count) for place, count in enumerate(taken) if count < len(data)]


def follow_socket(subscriber: Subscriber, channel: FakeChannel) -> None:
    """Let `subscriber` know while `channel` holds bytes."""
    channel.on_holding = subscriber.set_holding


class Fabric:
    """A `Stream` and everything that a gateway does around it, without an event loop."""

    def __init__(self, *, max_events: int = 1000, max_bytes: int = 1 << 20, write_bytes: int = WRITE_BYTES) -> None:
        self.sockets = Sockets()
        self.traffic = Traffic()
        self.hub = Hub(EPOCH, self.sockets, traffic=self.traffic, write_bytes=write_bytes)
        self.retained = Retained()
        self.history = History(max_events=max_events, max_bytes=max_bytes)
        self.history.begin(Position(EPOCH, 0))
        self.stream = Stream(
            hub=self.hub,
            history=self.history,
            retained=self.retained,
            traffic=self.traffic,
        )
        self.seq = 0

    @property
    def position(self) -> Position:
        return Position(EPOCH, self.seq)

    def publish(self, event_type: str, data: Any = None, *, flush: bool = True, **fields: Any) -> Event:
        """Publish the next event, and end the turn of the loop unless `flush` is false."""
        self.seq += 1
        published = event(event_type, self.seq, data, **fields)
        self.stream.append(published)
        if published.draft.retain or published.draft.gone:
            self.retained.apply(published, NOW)
        self.hub.publish(published)
        if flush:
            self.hub.flush()
        return published

    def subscriber(
        self, *patterns: str, channel: FakeChannel | None = None, limits: SendLimits = LIMITS
    ) -> "tuple[Subscriber, FakeChannel, list[str]]":
        """A subscriber that was not fed yet, its channel, and the reasons for which it was found too slow."""
        channel = channel or FakeChannel()
        reasons: list[str] = []
        subscriber = Subscriber(
            channel,
            stream=self.stream,
            interest=interest(*patterns),
            limits=limits,
            too_slow=reasons.append,
            broken=_raise,
        )
        channel.on_pause = subscriber.pause
        channel.on_resume = lambda: subscriber.resume(NOW)
        follow_socket(subscriber, channel)
        return subscriber, channel, reasons

    @property
    def counted(self) -> dict[str, int]:
        """How many events of which type gaps have named."""
        return {name: counts.skipped for name, counts in self.traffic.by_type.items() if counts.skipped}


def open_at_once(gateway: Gateway) -> AbstractAsyncContextManager[None]:
    """Open `gateway` for as long as the result is held: a bus in memory takes no time for that."""
    opened = gateway.open()
    with suppress(StopIteration):
        opened.__aenter__().__await__().__next__()
    return opened


def knowing(grants: Mapping[str, Grant]) -> TokenAuthenticator:
    """Someone who knows these tokens and no others."""
    return TokenAuthenticator([KnownToken(token, grant) for token, grant in grants.items()])


SESSION_LIMITS = SessionLimits(patterns=8, messages_per_s=50.0, messages_burst=100)


def options(**changes: Any) -> GatewayOptions:
    """A gateway of two sources, with the defaults of the contract but for what `changes` says."""
    fields: dict[str, Any] = {
        "server": "tidegate/test",
        "source_types": frozenset({"system.status", "storage.update"}),
        "default_types": ("system.status", "storage.update", "rpc_error", "notification", "heartbeat"),
        "heartbeat_interval_s": 10.0,
        "history_events": 10_000,
        "history_bytes": 1 << 26,
        "event_bytes": 1 << 20,
        "max_clients": 100,
        "session_limits": SESSION_LIMITS,
        "send_limits": LIMITS,
    }
    return GatewayOptions(**{**fields, **changes})


class House:
    """A gateway on the running loop, with its clock and metrics."""

    def __init__(self, *, authenticator: Authenticator | None = None, bus: Bus | None = None, **changes: Any) -> None:
        self.clock = ManualClock()
        self.metrics = RecordingMetrics()
        self.gateway = Gateway(
            options(**changes),
            bus=bus or MemoryBus(EPOCH),
            clock=self.clock,
            metrics=self.metrics,
            authenticator=authenticator or OpenAuthenticator(),
            multicast=send_to_all,
        )
        self._opened = open_at_once(self.gateway)

    def connect(
        self,
        *patterns: str,
        channel: FakeChannel | None = None,
        grant: Grant = UNRESTRICTED,
        framing: Framing = WEBSOCKET,
        transport: str = "websocket",
        **admitted: Any,
    ) -> tuple[Connection, FakeChannel]:
        """A client that `start` was not called for yet."""
        channel = channel or FakeChannel()
        connection = self.gateway.clients.connect(
            channel,
            transport=transport,
            address="192.0.2.1",
            framing=framing,
            grant=grant,
            patterns=PatternSet(patterns),
            **admitted,
        )
        channel.on_pause = connection.pause
        channel.on_resume = connection.resume
        return connection, channel

    def started(
        self, *patterns: str, since: Position | None = None, **how: Any
    ) -> tuple[Connection, FakeChannel, list[dict[str, Any]]]:
        """A client that was welcomed, and what it got at once."""
        connection, channel = self.connect(*patterns, **how)
        connection.start(since)
        return connection, channel, channel.received()


def ask(connection: Connection, message: Any) -> None:
    """The client sends `message` as a text frame."""
    connection.receive(json.dumps(message).encode())


def snapshots_of(gateway: Gateway, event_type: str | None, *, allowed: PatternSet = EVERYTHING) -> list[bytes]:
    """What `gateway` shows of `event_type`, or of all types, to whoever may see `allowed`."""
    return [json for piece in gateway.snapshot_pieces(event_type, allowed=allowed) for json in piece]


def types(received: Sequence[Mapping[str, Any]]) -> list[str]:
    """The types of messages, in order."""
    return [message["type"] for message in received]
