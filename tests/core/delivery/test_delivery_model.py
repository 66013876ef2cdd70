"""What every client must have received, whatever order things happen in.

Clients of both transports come, ask, renew their tokens, stall, read, are found too slow, vanish and resume at random,
from where they are or from where nobody could be, while events are published; all through the real session,
subscriber, hub, history and retained values. Readers that know only the contract (`delivery`) judge every byte.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec
import pytest
from delivery import Interest, Known, Reader, World, decoded
from fanout import EPOCH, Fabric, FakeChannel, Sockets, ask, event, follow_socket, knowing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from resuming import FirstRule, Resuming, Rule

from tidegate.core.access.grant import EVERYTHING, Grant
from tidegate.core.delivery import outbox, subscriber
from tidegate.core.delivery.framing import EVENT_STREAM, WEBSOCKET, Framing
from tidegate.core.delivery.session import SessionLimits
from tidegate.core.delivery.slowness import SendLimits
from tidegate.core.delivery.traffic import Traffic
from tidegate.core.events import Position
from tidegate.core.topics import PatternSet
from tidegate.errors import CloseCode
from tidegate.runtime.clients import NO_TOKEN
from tidegate.runtime.connection import Connection, ConnectionContext
from tidegate.runtime.default_patterns import DefaultPatterns
from tidegate.testing import ManualClock

FRAMINGS: list[Framing] = [WEBSOCKET, WEBSOCKET, WEBSOCKET, EVENT_STREAM, EVENT_STREAM]
CLIENTS = len(FRAMINGS)
WITH_SOCKET = {0, 1}
"""Clients that are no more than a socket; the third's WebSocket is, say, under TLS."""

QUEUE = 3
WRITE_BYTES = 300
SOFT_BYTES = 150
ROOM = 50
"""What a socket takes of one event, although nobody reads: a part of a frame."""

GRACE_S = 10.0
TOKENS = {name: PatternSet(name.split()) for name in ("*", "a", "b.*", "a b.x")}
ABOUT = ("source.freshness", "rpc_error", "circuit_breaker.state")
"""Types of which a client sees what speaks of types that it may see."""

TYPES = ["a", "b.x", "b.y"]
PATTERNS = st.sampled_from(
    [["*"], ["a", "b.*"], ["a", "b.*", "heartbeat"], ["b.x", *ABOUT], ["*", "b.y", "heartbeat"], ["heartbeat"], []]
)
"""Few, so that clients share cohorts."""

ALL_PATTERNS = {"*", "a", "b.*", "b.x", "b.y", "heartbeat", *ABOUT}
"""A client may have all of them at once."""

ABOUT_TYPES = st.sampled_from([frozenset({"a"}), frozenset({"b.x"}), frozenset({"a", "b.x"}), frozenset({"b.y"})])
Request = Literal["subscribe", "unsubscribe", "ping"]
Published = tuple[str, str | None, str, int]
PUBLISHED: st.SearchStrategy[Published] = st.tuples(
    st.sampled_from([*TYPES, *ABOUT]),
    st.sampled_from([None, "k1", "k2"]),
    st.sampled_from(["plain", "retain", "retain", "gone"]),
    st.sampled_from([4, 40, 40, 300]),
)
BURST = st.lists(PUBLISHED, min_size=6, max_size=12)
WHO = st.integers(0, CLIENTS - 1)
SOME = st.sets(WHO, min_size=1)
ASKING = st.integers(0, FRAMINGS.index(EVENT_STREAM) - 1)
"""Clients that can send messages."""


class RecordingChannel(FakeChannel):
    """Remembers all that was written, also what the kernel has not taken yet.

    `reviews` counts those since the kernel last took something.
    """

    def __init__(self, on: Sockets | None) -> None:
        super().__init__(SOFT_BYTES, on=on)
        self.room = ROOM
        self.written = bytearray()
        self.reviews = 0

    def write(self, data: bytes) -> None:
        self.written += data
        super().write(data)

    def sent(self, data: bytes) -> int:
        taken = super().sent(data)
        self.written += data[:taken]
        return taken

    def take(self, size: int | None = None) -> None:
        self.reviews = 0
        super().take(size)


class Heard:
    """What all clients together were given, counted as clients would: compared with what the gateway counts."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.sent_bytes: Counter[Framing] = Counter()
        self.resumes: Counter[str] = Counter()

    def note(self, message: dict[str, Any], came_at: int) -> None:
        if message["type"] == "gap":
            for event_type, count in message["data"]["skipped"].items():
                self.counts[event_type, "skipped"] += count
            if message["data"]["requested"] is not None:
                self.resumes[message["data"]["reason"]] += 1
        elif message["type"] == "welcome":
            self.resumes["whole"] += message["data"]["resumed"]
        elif "seq" in message or message["type"] == "heartbeat":
            is_replay = message.get("seq", came_at + 1) <= came_at
            kind = "snapshots" if message.get("snapshot") else "replayed" if is_replay else "live"
            self.counts[message["type"], kind] += 1

    def check(self, traffic: Traffic) -> None:
        kinds = ("live", "snapshots", "replayed", "skipped")
        counted = {(name, kind): getattr(counts, kind) for name, counts in traffic.by_type.items() for kind in kinds}
        told = {at: count for at, count in counted.items() if count}
        # Who is closed as too slow is not told of what it has lost, but that counts too.
        untold = {at: told[at] for at in told if at[1] == "skipped" and told[at] > self.counts[at]}
        assert told == {**+self.counts, **untold}
        assert +Counter(traffic.sent_bytes) == +self.sent_bytes
        assert +Counter(traffic.resumes) == +self.resumes
        assert all(counts.conflated <= counts.skipped for counts in traffic.by_type.values())


class Client:
    """A connection, the channel under it, and who reads what it writes."""

    def __init__(
        self,
        machine: "Delivery",
        known: Known,
        interest: Interest,
        since: Position | None,
        framing: Framing,
        *,
        on: Sockets | None,
        reads: bool = True,
    ) -> None:
        self.known = known
        self.framing = framing
        self.on = on
        self.channel = RecordingChannel(on)
        if not reads:
            self.channel.block()
        self.heard = machine.heard
        self.came_at = machine.fabric.seq
        self.reader = Reader(machine.world, interest, since, framing)
        self.renewals: list[PatternSet] = []
        self.regrants: list[tuple[int, PatternSet]] = []
        self.connection = Connection(
            self.channel,
            client_id="c",
            transport="websocket",
            address="192.0.2.1",
            request_id="r1",
            framing=framing,
            grant=Grant(allowed=interest.allowed),
            token=NO_TOKEN,
            patterns=interest.wanted,
            now=machine.context.clock.now(),
            context=machine.context,
            too_slow=machine.note_too_slow,
            interested=lambda: None,
        )
        self.channel.on_pause = self.connection.pause
        self.channel.on_resume = self.connection.resume
        follow_socket(self.connection.subscriber, self.channel)
        self.connection.start(since)

    def read(self) -> None:
        """Judge what was written since the last call."""
        self.heard.sent_bytes[self.framing] += len(self.channel.written)
        for message, place in decoded(bytes(self.channel.written), self.framing):
            self.reader.read(message, place)
            self.heard.note(message, self.came_at)
        self.channel.written.clear()

    def hear(self) -> None:
        """The connection is over: what the kernel took has arrived, and no more."""
        self.known.hear(bytes(self.channel.taken), self.renewals, self.regrants)


class Delivery(RuleBasedStateMachine):
    comes_back_by: Callable[[Iterable[str]], Rule] = Resuming
    """How clients of the WebSocket come back."""

    def __init__(self) -> None:
        super().__init__()
        self.before = outbox.QUEUE, subscriber.PIECE_BYTES
        outbox.QUEUE = QUEUE
        self.requests = 0
        self.clients: list[Client] = []
        self.slow: dict[Connection, str] = {}
        self.heard = Heard()
        self.clock = ManualClock()

    @initialize(
        patterns=st.lists(PATTERNS, min_size=CLIENTS, max_size=CLIENTS),
        piece_bytes=st.sampled_from([400, 400, 1500]),
        history=st.sampled_from([(12, 1 << 20), (1000, 2500)]),
        hard_bytes=st.sampled_from([2000, 1 << 22]),
    )
    def everyone_connects(
        self, patterns: list[list[str]], piece_bytes: int, history: tuple[int, int], hard_bytes: int
    ) -> None:
        subscriber.PIECE_BYTES = piece_bytes
        max_events, max_bytes = history
        self.world = World(EPOCH, max_events=max_events, max_bytes=max_bytes)
        self.fabric = Fabric(max_events=max_events, max_bytes=max_bytes, write_bytes=WRITE_BYTES)
        self.hard_bytes = hard_bytes
        self.context = ConnectionContext(
            stream=self.fabric.stream,
            clock=self.clock,
            position=lambda: self.fabric.position,
            authenticate=knowing({name: Grant(allowed=allowed) for name, allowed in TOKENS.items()}).verify,
            server="tidegate/test",
            heartbeat_interval_s=10.0,
            session_limits=SessionLimits(patterns=len(ALL_PATTERNS), messages_per_s=1.0, messages_burst=1_000_000),
            send_limits=SendLimits(hard_bytes=hard_bytes, grace_s=GRACE_S),
            defaults=DefaultPatterns([]),
        )
        for number, (each, framing) in enumerate(zip(patterns, FRAMINGS, strict=True)):
            on = self.fabric.sockets if number in WITH_SOCKET else None
            interest = Interest(PatternSet(each), EVERYTHING)
            known = Known(self.world, interest, framing, self.comes_back_by(interest.wanted.patterns))
            self.clients.append(Client(self, known, interest, None, framing, on=on))
        self.read_everything()

    @rule(batch=st.lists(PUBLISHED, min_size=1, max_size=6), about=ABOUT_TYPES, ends_turn=st.booleans())
    def publish(self, batch: list[Published], about: frozenset[str], ends_turn: bool) -> None:
        for event_type, chosen, how, size in batch:
            retain = how != "plain"
            speaks_of = about if event_type in ABOUT else None
            self.world.events.append(
                self.fabric.publish(
                    event_type,
                    "x" * size,
                    key=chosen if speaks_of is None else " ".join(sorted(speaks_of)),
                    retain=retain,
                    gone=how == "gone",
                    about=speaks_of,
                    flush=False,
                )
            )
        if ends_turn:
            self.fabric.hub.flush()
        self.read_everything()

    @rule(some=SOME, batch=BURST, about=ABOUT_TYPES)
    def stall(self, some: set[int], batch: list[Published], about: frozenset[str]) -> None:
        """Some stop reading, and more is published than is kept for them."""
        self.stop_reading(some)
        self.publish(batch, about, ends_turn=True)

    @rule()
    def heartbeat(self) -> None:
        self.fabric.hub.publish(event("heartbeat", None, {"epoch": EPOCH, "seq": self.fabric.seq}))

    @rule(
        who=ASKING,
        types=PATTERNS,
        kind=st.sampled_from(["subscribe", "unsubscribe", "ping"]),
        batch=BURST | st.just([]),
        about=ABOUT_TYPES,
    )
    def request(self, who: int, types: list[str], kind: Request, batch: list[Published], about: frozenset[str]) -> None:
        self.publish(batch, about, ends_turn=False)
        client = self.clients[who]
        if kind == "subscribe":
            types = [p for p in types if p in (*ABOUT, "heartbeat") or self.allowed(client).covers(p)]
        reply = {"subscribe": "subscribed", "unsubscribe": "unsubscribed", "ping": "pong"}[kind]
        self.ask(client, kind, reply, PatternSet(types), {"types": types})

    @rule(who=ASKING, other=ASKING, batch=BURST, about=ABOUT_TYPES)
    def follow_suit(self, who: int, other: int, batch: list[Published], about: frozenset[str]) -> None:
        """A client comes to another's cohort in a turn in which something is published to it."""
        self.publish(batch, about, ends_turn=False)
        wanted = self.clients[other].reader.interest.wanted.sorted()
        self.request(who, self.clients[who].reader.interest.wanted.sorted(), "unsubscribe", [], about)
        self.request(who, wanted, "subscribe", [], about)

    @rule(who=ASKING, token=st.sampled_from(sorted(TOKENS)))
    def renew(self, who: int, token: str) -> None:
        client = self.clients[who]
        client.renewals.append(TOKENS[token])
        self.ask(client, "auth", "authenticated", TOKENS[token], {"token": token})

    @rule(who=WHO, token=st.sampled_from(sorted(TOKENS)), batch=BURST | st.just([]), about=ABOUT_TYPES)
    def regrant(self, who: int, token: str, batch: list[Published], about: frozenset[str]) -> None:
        """What the token of a client covers is changed, whatever its stream is doing."""
        allowed = TOKENS[token]
        # Unless a pattern ends, nothing marks the place in the stream from which on less is shown.
        self.publish(batch, about, ends_turn=not self.clients[who].reader.ends_by(allowed))
        client = self.clients[who]
        reader = client.reader
        if client.framing is EVENT_STREAM and not all(map(reader.granted.covers, allowed.patterns)):
            return  # a browser would come back with its position, and never see the values that it may see then
        client.regrants.append((len(client.renewals) - sum(k == "authenticated" for _, k, _ in reader.asked), allowed))
        if reader.ends_by(allowed):
            reader.regranted.append(allowed)
        else:
            reader.regrant(allowed)
        assert client.connection.regrant(msgspec.structs.replace(client.connection.grant, allowed=allowed)) or (
            allowed == client.connection.grant.allowed
        )
        self.read_everything()

    @rule(history=st.sampled_from([(0, 1 << 20), (3, 1 << 20), (12, 1 << 20), (1000, 800), (1000, 2500)]))
    def resize_history(self, history: tuple[int, int]) -> None:
        max_events, max_bytes = history
        self.world.resize(max_events, max_bytes)
        self.fabric.stream.resize_history(max_events=max_events, max_bytes=max_bytes)
        self.read_everything()

    @rule(some=SOME)
    def stop_reading(self, some: set[int]) -> None:
        for who in some:
            self.clients[who].channel.block()

    @rule(who=WHO, size=st.integers(1, 2000))
    def read_a_little(self, who: int, size: int) -> None:
        self.clients[who].channel.take(size)
        self.read_everything()

    @rule(some=SOME)
    def read_on(self, some: set[int]) -> None:
        for who in some:
            self.clients[who].channel.unblock()
        self.read_everything()

    @rule(seconds=st.sampled_from([4, 8, 11]))
    def wait(self, seconds: int) -> None:
        """Time passes in which nobody reads: whoever was waited for long enough is too slow, and nobody else."""
        for _ in range(seconds):
            self.clock.advance(1.0)
            for client in self.clients:
                client.channel.reviews += client.channel.paused
                client.connection.subscriber.review(self.clock.now())
        assert self.slow.keys() == {c.connection for c in self.clients if c.channel.reviews > GRACE_S}
        self.read_everything()

    @rule(
        who=WHO,
        ending=st.booleans(),
        reads=st.booleans(),
        lie=st.sampled_from(["", "", "", "other", "ahead", "old", "older"]),
    )
    def come_back(self, who: int, ending: bool, reads: bool, lie: str) -> None:
        """A connection breaks, what was under way is lost, and the client resumes from what it knows, or claims.

        It may stop reading at once, and so stall within the replay.
        """
        client = self.clients[who]
        if ending:
            client.channel.unblock()
        client.hear()
        client.connection.detach()
        self.read_everything()
        newest = self.fabric.seq
        lies = {
            "other": Position("e0", 1),
            "ahead": Position(EPOCH, newest + 1),
            "old": Position(EPOCH, max(0, newest - 12)),
            "older": Position(EPOCH, 0),
        }
        self.reconnect(who, lies.get(lie), reads=reads)

    @rule(who=WHO, batch=BURST, about=ABOUT_TYPES, sizes=st.lists(st.integers(1, 600), max_size=3), reads=st.booleans())
    def stall_within_a_replay(
        self, who: int, batch: list[Published], about: frozenset[str], sizes: list[int], reads: bool
    ) -> None:
        """A client that comes back reads too little of its replay while the history moves on."""
        self.come_back(who, ending=True, reads=False, lie="old")
        self.publish(batch, about, ends_turn=True)
        for size in sizes:
            self.read_a_little(who, size)
        if reads:
            self.read_on({who})

    @rule(
        who=WHO,
        sizes=st.lists(st.integers(1, 900), min_size=1, max_size=3),
        batch=BURST,
        about=ABOUT_TYPES,
        types=PATTERNS | st.none(),
    )
    def cut_off_among_snapshots(
        self, who: int, sizes: list[int], batch: list[Published], about: frozenset[str], types: list[str] | None
    ) -> None:
        """A client begins anew, or subscribes to more, and is cut off while values change under the snapshots."""
        if types is None or self.clients[who].framing is EVENT_STREAM:
            self.come_back(who, ending=True, reads=False, lie="other")
        else:
            self.read_on({who})
            self.stop_reading({who})
            self.request(who, types, "subscribe", [], about)
        for size in sizes:
            self.publish(batch, about, ends_turn=True)
            self.read_a_little(who, size)
        self.come_back(who, ending=False, reads=True, lie="")

    def ask(self, client: Client, kind: str, reply: str, about: PatternSet, data: dict[str, object]) -> None:
        self.requests += 1
        client.reader.asked.append((self.requests, reply, about))
        ask(client.connection, {"type": kind, "id": self.requests, "data": data})
        self.read_everything()

    def allowed(self, client: Client) -> PatternSet:
        """What the token covers that `client` sent last."""
        waiting = [about for _, kind, about in client.reader.asked if kind == "authenticated"]
        return waiting[-1] if waiting else client.reader.granted

    def note_too_slow(self, connection: Connection, reason: str) -> None:
        assert connection not in self.slow
        self.slow[connection] = reason
        if "bytes were waiting" in reason:
            assert connection.subscriber.waiting_bytes > self.hard_bytes

    def read_everything(self) -> None:
        """Judge what was written, and do as the gateway does with those who were found too slow."""
        for client in self.clients:
            client.read()
        while self.slow:
            connection, reason = self.slow.popitem()
            self.end(next(n for n, client in enumerate(self.clients) if client.connection is connection), reason)
        for client in self.clients:
            assert client.connection.subscriber.waiting_bytes <= self.hard_bytes

    def end(self, who: int, reason: str) -> None:
        """A client that is too slow is told so and aborted. It comes back."""
        client = self.clients[who]
        client.connection.abort(CloseCode.TOO_SLOW, reason)
        client.read()
        assert client.reader.told == reason
        assert client.channel.ended == ("abort", CloseCode.TOO_SLOW)
        client.hear()
        self.reconnect(who)

    def reconnect(self, who: int, lie: Position | None = None, *, reads: bool = True) -> None:
        """A client comes back to where it was, or to where it claims to have been if it was anywhere.

        A claim to have more than it has is believed only where nobody can have that.
        """
        before = self.clients[who]
        interest, since, later = before.known.opening()
        if lie is not None and since is not None and not since <= lie <= self.fabric.position:
            since = lie
            before.known.last_id = None
        client = Client(self, before.known, interest, since, before.framing, on=before.on, reads=reads)
        self.clients[who] = client
        self.read_everything()
        if later:
            self.ask(client, "subscribe", "subscribed", later, {"types": later.sorted()})

    def teardown(self) -> None:
        try:
            if self.clients:
                self.all_is_well_in_the_end()
        finally:
            outbox.QUEUE, subscriber.PIECE_BYTES = self.before

    def all_is_well_in_the_end(self) -> None:
        for client in self.clients:
            client.channel.unblock()
        self.fabric.hub.flush()
        self.read_everything()
        for client in self.clients:
            client.reader.check_complete()
            stream = client.connection.subscriber
            assert stream.is_live
            assert client.channel.unsent() == 0
            assert stream.delivered == client.reader.events
            assert Counter(stream.skipped) == client.reader.skipped
            client.hear()
            lacking = [(event.seq, event.type, event.key) for event in client.known.lacks()]
            assert not lacking, f"a client that came back by the rule lacks {lacking}"
        self.heard.check(self.fabric.traffic)
        assert not self.fabric.stream.catching_up
        assert len(self.fabric.hub) == len({(c.reader.interest, id(c.framing)) for c in self.clients})


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(
    max_examples=int(os.environ.get("DELIVERY_RUNS", "150")),
    stateful_step_count=40,
    deadline=None,
    derandomize="DELIVERY_RUNS" not in os.environ,
    database=None,
)


class FirstDelivery(Delivery):
    """The same, with clients that come back as the page told them at first."""

    comes_back_by = FirstRule


@pytest.mark.parametrize("types", [None, ["b.x", "rpc_error"]], ids=["the first", "those of a subscribe"])
@pytest.mark.parametrize("machine", [Delivery, FirstDelivery])
def test_who_is_cut_off_among_snapshots_gets_the_rest_only_by_the_new_rule(
    machine: type[Delivery], types: list[str] | None
) -> None:
    values: list[Published] = [(name, key, "retain", 300) for name in ("a", "b.x") for key in ("k1", "k2")]
    delivery = machine()
    try:
        delivery.everyone_connects([["a"]] * CLIENTS, piece_bytes=400, history=(1000, 1 << 20), hard_bytes=1 << 22)
        delivery.publish(values, "a", ends_turn=True)
        delivery.cut_off_among_snapshots(2, [600], [("a", None, "plain", 4)], "a", types)
        if machine is Delivery:
            delivery.all_is_well_in_the_end()
        else:
            with pytest.raises(AssertionError, match="lacks"):
                delivery.all_is_well_in_the_end()
    finally:
        delivery.clients.clear()
        delivery.teardown()
