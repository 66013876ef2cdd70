"""What every client must have received, whatever order things happen in.

Clients come, ask, stall, read, vanish and resume at random while events are published, through the real session,
subscriber, hub, history and retained values. A reader of each client's bytes knows only the contract: after its
acknowledgement a client gets the snapshots that are due, then each event of its types once and in order, or a gap that
counts exactly what is missing.
"""

from collections import Counter
from typing import Any

from fanout import EPOCH, LIMITS, SESSION_LIMITS, Fabric, FakeChannel, ask, event, messages
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tidegate.adapters.auth import OpenAuthenticator
from tidegate.core import outbox, subscriber
from tidegate.core.events import Event, Position
from tidegate.core.framing import WEBSOCKET
from tidegate.core.grant import UNRESTRICTED
from tidegate.core.session import SessionLimits
from tidegate.core.topics import PatternSet
from tidegate.runtime.connection import Connection, Surroundings
from tidegate.testing import ManualClock

CLIENTS = 4
HISTORY = 12
QUEUE = 3
PIECE_BYTES = st.sampled_from([400, 4000])
SOFT_BYTES = 150
TYPES = ["a", "b.x", "b.y"]
PATTERNS = st.lists(st.sampled_from([*TYPES, "b.*", "*", "heartbeat"]), max_size=3)
PUBLISHED = st.tuples(
    st.sampled_from(TYPES), st.sampled_from([None, "k1", "k2"]), st.sampled_from(["plain", "retain", "retain", "gone"])
)
WHO = st.integers(0, CLIENTS - 1)

Name = tuple[str, str | None]


class RecordingChannel(FakeChannel):
    """Remembers all that was written, also what the kernel has not taken yet."""

    def __init__(self) -> None:
        super().__init__(SOFT_BYTES)
        self.written = bytearray()

    def write(self, data: bytes) -> None:
        self.written += data
        super().write(data)


class World:
    """All that was ever published, and what follows from it."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def matching(self, patterns: PatternSet, *, after: int, upto: int) -> Counter[str]:
        """How many events of each type the positions in (after, upto] hold for `patterns`."""
        return Counter(e.type for e in self.events[after:upto] if patterns.matches(e.type))

    def retained(self, upto: int) -> dict[Name, int]:
        """The seq of every retained value when `upto` was the newest."""
        values: dict[Name, int] = {}
        for each in self.events[:upto]:
            if each.draft.gone:
                values.pop((each.type, each.key), None)
            elif each.draft.retain:
                values[each.type, each.key] = each.seq or 0
        return values

    def replaced(self, name: Name, *, after: int) -> bool:
        """Whether the retained value of `name` changed after the position `after`."""
        return any((e.type, e.key) == name and (e.draft.retain or e.draft.gone) for e in self.events[after:])


class Reader:
    """Reads one connection's messages and holds each against the contract."""

    def __init__(self, world: World, patterns: PatternSet, since: Position | None) -> None:
        self.patterns = patterns
        self.position = 0
        """The client is complete up to here, by the rule of the contract."""
        self.asked: list[tuple[int, str, PatternSet]] = []
        self._world = world
        self._since = since
        self._welcomed = False
        self._seen = 0
        self._owed: Counter[str] = Counter()
        self._snapshots: dict[Name, int] = {}
        self._snapshots_at = 0

    def read(self, message: dict[str, Any]) -> None:
        assert self._welcomed or message["type"] == "welcome"
        if message.get("snapshot"):
            self._snapshot(message)
            return
        if message["type"] != "gap" or message["data"]["reason"] == "slow_consumer":
            self._end_of_snapshots()
        match message["type"]:
            case "welcome":
                self._welcome(message["data"])
            case "gap":
                self._gap(message["data"])
            case "subscribed" | "unsubscribed" | "pong":
                self._reply(message)
            case "heartbeat":
                assert self.patterns.matches("heartbeat")
                self._complete_upto(message["data"]["seq"])
                self.position = max(self.position, message["data"]["seq"])
            case _:
                self._event(message)

    def settled(self, newest: int) -> None:
        """Nothing waits any more: all that was published must be here or counted, and nothing more be counted."""
        assert not self.asked
        self._end_of_snapshots()
        self._complete_upto(newest)
        assert not +self._owed

    def _welcome(self, data: dict[str, Any]) -> None:
        assert not self._welcomed
        self._welcomed = True
        newest = len(self._world.events)
        assert data["subscriptions"] == self.patterns.sorted()
        whole = self._since is not None and self._since.seq >= newest - HISTORY
        assert data["resumed"] is whole
        self.position = self._seen = data["seq"]
        if self._since is not None and whole:
            assert data["seq"] == self._since.seq
            return
        assert data["seq"] == newest
        self._expect_snapshots(newest, PatternSet())

    def _gap(self, data: dict[str, Any]) -> None:
        if data["reason"] == "slow_consumer":
            assert data["requested"] is None
            self._owed += Counter({t: n for t, n in data["skipped"].items() if t != "heartbeat"})
            return
        assert self._since is not None
        assert data == {"reason": "history_truncated", "requested": str(self._since), "skipped": {}}
        self._since = None

    def _reply(self, message: dict[str, Any]) -> None:
        request_id, kind, patterns = self.asked.pop(0)
        newest = len(self._world.events)
        assert (message["type"], message["id"]) == (kind, request_id)
        self._complete_upto(newest)
        assert not +self._owed
        match kind:
            case "subscribed":
                before, self.patterns = self.patterns, self.patterns | patterns
                assert message["data"] == {
                    "types": self.patterns.sorted(),
                    "added": (patterns - before).sorted(),
                    "epoch": EPOCH,
                    "seq": newest,
                }
                self.position = max(self.position, newest)
                self._expect_snapshots(newest, before)
            case "unsubscribed":
                removed = PatternSet(self.patterns.patterns & patterns.patterns)
                self.patterns -= removed
                assert message["data"] == {"types": self.patterns.sorted(), "removed": removed.sorted()}

    def _expect_snapshots(self, at: int, before: PatternSet) -> None:
        self._snapshots_at = at
        self._snapshots = {
            name: seq
            for name, seq in self._world.retained(at).items()
            if self.patterns.matches(name[0]) and not before.matches(name[0])
        }

    def _snapshot(self, message: dict[str, Any]) -> None:
        assert self._snapshots.pop((message["type"], message.get("key"))) == message["seq"]

    def _end_of_snapshots(self) -> None:
        for name in self._snapshots:
            assert self._world.replaced(name, after=self._snapshots_at)
        self._snapshots = {}

    def _event(self, message: dict[str, Any]) -> None:
        seq = message["seq"]
        published = self._world.events[seq - 1]
        assert (message["type"], message.get("key")) == (published.type, published.key)
        assert self.patterns.matches(published.type)
        assert seq > self._seen
        self._complete_upto(seq - 1)
        self.position = self._seen = seq

    def _complete_upto(self, seq: int) -> None:
        """Every event up to `seq` was either here or is one that a gap has counted."""
        missing = self._world.matching(self.patterns, after=self._seen, upto=seq)
        assert missing <= self._owed
        self._owed -= missing
        self._seen = max(self._seen, seq)


class Client:
    """A connection, the channel under it, and who reads what it writes."""

    def __init__(self, machine: "Delivery", patterns: PatternSet, since: Position | None = None) -> None:
        self.channel = RecordingChannel()
        self.reader = Reader(machine.world, patterns, since)
        self.connection = Connection(
            self.channel,
            client_id="c",
            transport="websocket",
            address="192.0.2.1",
            framing=WEBSOCKET,
            grant=UNRESTRICTED,
            patterns=patterns,
            around=machine.around,
            too_slow=machine.refuse_to_be_slow,
            interested=lambda: None,
        )
        self.channel.on_pause = self.connection.pause
        self.channel.on_resume = self.connection.resume
        self.patterns = patterns
        self.since = since

    def start(self) -> None:
        self.connection.start(self.since)

    def read(self) -> None:
        """Judge what was written since the last call."""
        for message in messages(bytes(self.channel.written)):
            self.reader.read(message)
        self.channel.written.clear()

    def known_position(self, world: World) -> tuple[int, PatternSet] | None:
        """Where a client is that knows only what has arrived, and its patterns; None if nothing has."""
        whole = _whole_frames(bytes(self.channel.taken))
        if not whole:
            return None
        reader = LenientReader(world, self.patterns, self.since)
        for message in messages(whole):
            reader.read(message)
        return reader.position, reader.patterns


class LenientReader(Reader):
    """Knows what a client knows, without judging: the judge has read it all before."""

    def read(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "welcome" | "subscribed":
                self.position = max(self.position, message["data"]["seq"])
                self.patterns = PatternSet(message["data"].get("types", self.patterns.patterns))
            case "heartbeat":
                self.position = max(self.position, message["data"]["seq"])
            case "unsubscribed":
                self.patterns = PatternSet(message["data"]["types"])
            case "gap" | "pong":
                pass
            case _ if not message.get("snapshot"):
                self.position = max(self.position, message["seq"])


def _whole_frames(data: bytes) -> bytes:
    at = 0
    while at + 4 <= len(data):
        size = data[at + 1]
        end = at + 2 + size if size < 126 else at + 4 + int.from_bytes(data[at + 2 : at + 4])
        if end > len(data):
            break
        at = end
    return data[:at]


class Delivery(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.before = outbox.QUEUE, subscriber.PIECE_BYTES
        outbox.QUEUE = QUEUE
        self.world = World()
        self.fabric = Fabric(max_events=HISTORY)
        self.requests = 0
        self.around = Surroundings(
            stream=self.fabric.stream,
            clock=ManualClock(),
            position=lambda: self.fabric.position,
            authenticate=OpenAuthenticator().verify,
            server="tidegate/test",
            heartbeat_interval_s=10.0,
            session_limits=SessionLimits(
                patterns=SESSION_LIMITS.patterns, messages_per_s=1.0, messages_burst=1_000_000
            ),
            send_limits=LIMITS,
        )
        self.clients: list[Client] = []

    def refuse_to_be_slow(self, connection: Connection, reason: str) -> None:
        raise AssertionError(f"nobody is too slow here: {reason}")

    @initialize(patterns=st.lists(PATTERNS, min_size=CLIENTS, max_size=CLIENTS), piece_bytes=PIECE_BYTES)
    def everyone_connects(self, patterns: list[list[str]], piece_bytes: int) -> None:
        subscriber.PIECE_BYTES = piece_bytes
        for each in patterns:
            self.clients.append(Client(self, PatternSet(each)))
            self.clients[-1].start()
        self.read_everything()

    @rule(batch=st.lists(PUBLISHED, min_size=1, max_size=6))
    def publish(self, batch: list[tuple[str, str | None, str]]) -> None:
        for event_type, key, how in batch:
            retain = how != "plain"
            self.world.events.append(
                self.fabric.publish(event_type, "x" * 40, key=key, retain=retain, gone=how == "gone", flush=False)
            )
        self.read_everything()

    @precondition(lambda self: self.fabric.hub.dirty)
    @rule()
    def end_turn(self) -> None:
        self.fabric.hub.flush()
        self.read_everything()

    @rule()
    def heartbeat(self) -> None:
        self.fabric.hub.publish(event("heartbeat", None, {"epoch": EPOCH, "seq": self.fabric.seq}))

    @rule(who=WHO, types=PATTERNS, kind=st.sampled_from(["subscribe", "unsubscribe", "ping"]))
    def request(self, who: int, types: list[str], kind: str) -> None:
        client = self.clients[who]
        self.requests += 1
        reply = {"subscribe": "subscribed", "unsubscribe": "unsubscribed", "ping": "pong"}[kind]
        client.reader.asked.append((self.requests, reply, PatternSet(types)))
        ask(client.connection, {"type": kind, "id": self.requests, "data": {"types": types}})
        self.read_everything()

    @rule(who=WHO)
    def stop_reading(self, who: int) -> None:
        self.clients[who].channel.block()

    @rule(who=WHO, size=st.integers(1, 2000))
    def read_a_little(self, who: int, size: int) -> None:
        self.clients[who].channel.take(size)
        self.read_everything()

    @rule(who=WHO)
    def read_on(self, who: int) -> None:
        self.clients[who].channel.unblock()
        self.read_everything()

    @rule(who=WHO, ending=st.booleans())
    def come_back(self, who: int, ending: bool) -> None:
        """A connection breaks, what was under way is lost, and the client resumes from what it knows."""
        client = self.clients[who]
        if ending:
            client.channel.unblock()
        known = client.known_position(self.world)
        client.connection.detach()
        self.read_everything()
        if known is None:
            self.clients[who] = Client(self, client.patterns, client.since)
        else:
            self.clients[who] = Client(self, known[1], Position(EPOCH, known[0]))
        self.clients[who].start()
        self.read_everything()

    def read_everything(self) -> None:
        for client in self.clients:
            client.read()

    def teardown(self) -> None:
        try:
            for client in self.clients:
                client.channel.unblock()
            self.fabric.hub.flush()
            self.read_everything()
            for client in self.clients:
                client.reader.settled(self.fabric.seq)
                assert client.connection.subscriber.clear
                assert client.channel.unsent() == 0
            assert not self.fabric.stream.catching_up
            assert len(self.fabric.hub) == len({client.reader.patterns for client in self.clients})
        finally:
            outbox.QUEUE, subscriber.PIECE_BYTES = self.before


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=100, stateful_step_count=40, deadline=None, derandomize=True)
