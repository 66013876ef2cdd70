"""Which phase a subscriber is in and where the hub has it filed, whatever comes in whatever order.

Three subscribers of one interest, over a socket, a TLS transport and an HTTP stream, get every input that a subscriber
knows, sensible or not. What they send is judged in `test_delivery_model`; here it is when they may send at all.
"""

import os
from collections.abc import Callable

import pytest
from fanout import EPOCH, NOW, Fabric, FakeChannel, Sockets, event, follow_socket, interest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tidegate.core.delivery import subscriber as subscriber_module
from tidegate.core.delivery.cohort import Phase, PhaseError
from tidegate.core.delivery.slowness import SendLimits
from tidegate.core.delivery.subscriber import Subscriber
from tidegate.core.events import Position
from tidegate.core.instant import Instant
from tidegate.errors import CloseCode

HEAD = b'\x81\x10{"type":"hello"}'
SOFT_BYTES = 400
HARD_BYTES = 3000
GRACE_S = 10.0
WHO = st.integers(0, 2)


class Broken(Exception):
    """What a broken channel raises."""


class TalkativeChannel(FakeChannel):
    """Says both of its facts again after each write; may break."""

    def __init__(self, on: Sockets | None) -> None:
        super().__init__(SOFT_BYTES, on=on)
        self.room = 20
        self.is_broken = False

    def write(self, data: bytes) -> None:
        if self.is_broken:
            raise Broken
        super().write(data)
        self.repeat_facts()

    def repeat_facts(self) -> None:
        self.on_holding(self.unsent() > 0)
        if self.paused:
            self.on_pause()


class Client:
    """A subscriber, its channel, and what a model needs to know to say its phase."""

    def __init__(self, fabric: Fabric, on: Sockets | None) -> None:
        self.channel = TalkativeChannel(on)
        self.reasons: list[str] = []
        self.errors: list[Exception] = []
        self.is_closed = False
        self.subscriber = Subscriber(
            self.channel,
            stream=fabric.stream,
            interest=interest("a", "b"),
            limits=SendLimits(hard_bytes=HARD_BYTES, grace_s=GRACE_S),
            too_slow=self.reasons.append,
            broken=self.errors.append,
        )
        self.channel.on_pause = self.subscriber.pause
        self.channel.on_resume = lambda: self.subscriber.resume(NOW)
        follow_socket(self.subscriber, self.channel)

    def expected(self, fabric: Fabric, was_fed: bool) -> Phase:
        if self.is_closed:
            return Phase.CLOSED
        if not was_fed or self.subscriber in fabric.stream.catching_up:
            return Phase.CATCHING_UP
        return Phase.BACKLOGGED if self.channel.paused else Phase.LIVE


class Phases(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.before = subscriber_module.PIECE_BYTES
        subscriber_module.PIECE_BYTES = 300
        self.now = NOW

    @initialize(fed=st.sampled_from([True, True, True, False]), history=st.sampled_from([4, 1000]))
    def all_connect(self, fed: bool, history: int) -> None:
        self.fabric = Fabric(max_events=history)
        self.clients = [Client(self.fabric, self.fabric.sockets if who == 0 else None) for who in range(3)]
        self.fed = [False] * 3
        if fed:
            for who in range(3):
                self.feed(who, back=0)

    @rule(who=WHO, back=st.sampled_from([0, 0, 3, 20]))
    def feed(self, who: int, back: int) -> None:
        """A request of the client, or its welcome: from where it is, or from before."""
        client = self.clients[who]
        subscriber = client.subscriber
        is_new = subscriber.phase is Phase.CATCHING_UP and not self.fed[who]
        may = is_new or subscriber.flush()
        before = self.fingerprint(client)

        def act() -> None:
            subscriber.feed(
                HEAD,
                interest=interest("a", "b"),
                names=[(each.type, each.key or "") for each in self.fabric.retained.events()] if not back else (),
                position=Position(EPOCH, max(0, self.fabric.seq - back)),
                synced_from=self.fabric.seq,
                now=self.now,
            )

        if may:
            self.fed[who] = True
            self.ending_at_a_failure(client, act)
        else:
            with pytest.raises(PhaseError, match=f"one feed at a time.*{subscriber.phase.value}"):
                act()
            assert self.fingerprint(client) == before

    @rule(sizes=st.lists(st.sampled_from([4, 40, 200]), min_size=1, max_size=6), flush=st.booleans())
    def publish(self, sizes: list[int], flush: bool) -> None:
        for size in sizes:
            kind = "a" if size % 3 else "b"
            self.fabric.publish(kind, "x" * size, retain=kind == "a", flush=False)
        if flush:
            self.flush()

    @rule(some=st.sets(WHO, min_size=1), sizes=st.lists(st.sampled_from([4, 4, 40, 200]), min_size=1, max_size=4))
    def stall(self, some: set[int], sizes: list[int]) -> None:
        """Some kernels take no more while events are published."""
        for who in some:
            self.hold(who)
        self.publish(sizes, flush=True)

    @rule(who=WHO, sizes=st.lists(st.sampled_from([40, 200]), min_size=3, max_size=8))
    def stall_within_a_replay(self, who: int, sizes: list[int]) -> None:
        """A client comes back, and its kernel takes no more while the history moves on."""
        self.come_back(who)
        self.hold(who)
        self.feed(who, back=20)
        self.publish(sizes, flush=True)

    @rule()
    def flush(self) -> None:
        self.fabric.hub.flush()
        for client in self.clients:
            # The connection of one that the hub could not write to ends at the end of the turn.
            if client.errors and not client.is_closed:
                self.detach_one(client)

    @rule(who=WHO)
    def hold(self, who: int) -> None:
        """The kernel takes no more: the channel holds the next byte, and is over its soft limit soon."""
        self.clients[who].channel.block()

    @rule(who=WHO, size=st.integers(1, 400))
    def drain_a_little(self, who: int, size: int) -> None:
        client = self.clients[who]
        self.ending_at_a_failure(client, lambda: client.channel.take(size))

    @rule(who=WHO)
    def drain(self, who: int) -> None:
        client = self.clients[who]
        self.ending_at_a_failure(client, client.channel.unblock)

    @rule(who=WHO)
    def say_the_facts_again(self, who: int) -> None:
        client = self.clients[who]
        before = self.fingerprint(client)
        client.channel.repeat_facts()
        if not client.channel.paused:
            client.subscriber.resume(self.now)
        assert self.fingerprint(client) == before

    @rule(who=WHO)
    def an_old_event_is_evicted(self, who: int) -> None:
        """One that the subscriber has read, or never reads because it has no feed."""
        client = self.clients[who]
        before = self.fingerprint(client)
        client.subscriber.keep_if_unread(event("a", 0))
        assert self.fingerprint(client) == before

    @rule(seconds=st.sampled_from([1.0, GRACE_S]))
    def review(self, seconds: float) -> None:
        self.now = Instant(self.now.mono + seconds, self.now.wall + seconds)
        for client in self.clients:
            client.subscriber.review(self.now)

    @rule(who=WHO)
    def send(self, who: int) -> None:
        """A message to this client alone, in any phase but the last."""
        client = self.clients[who]
        if client.is_closed:
            with pytest.raises(PhaseError, match="closed"):
                client.subscriber.send(HEAD)
        else:
            self.ending_at_a_failure(client, lambda: client.subscriber.send(HEAD))

    @rule(who=WHO, sizes=st.lists(st.sampled_from([4, 40]), max_size=2))
    def end(self, who: int, sizes: list[int]) -> None:
        """A client leaves in a turn in which something was published; its inputs may go on."""
        self.publish(sizes, flush=False)
        self.detach_one(self.clients[who])

    @rule(who=WHO, sizes=st.lists(st.sampled_from([4, 40]), min_size=1, max_size=2))
    def fail(self, who: int, sizes: list[int]) -> None:
        """The channel breaks: the next write raises."""
        self.clients[who].channel.is_broken = True
        self.publish(sizes, flush=True)

    @rule(who=WHO)
    def come_back(self, who: int) -> None:
        self.detach_one(self.clients[who])
        self.clients[who] = Client(self.fabric, self.fabric.sockets if who == 0 else None)
        self.fed[who] = False

    @invariant()
    def each_is_in_its_phase_and_filed_once(self) -> None:
        for client, was_fed in zip(self.clients, self.fed, strict=True):
            subscriber, channel = client.subscriber, client.channel
            assert subscriber.phase is client.expected(self.fabric, was_fed)
            assert subscriber.is_live is (subscriber.phase is Phase.LIVE)
            assert (
                filed(subscriber)
                == {
                    Phase.CATCHING_UP: [],
                    Phase.LIVE: ["sockets" if channel.socket is not None and not channel.unsent() else "writes"],
                    Phase.BACKLOGGED: ["behind"],
                    Phase.CLOSED: [],
                }[subscriber.phase]
            )
            is_reading = subscriber in self.fabric.stream.catching_up
            match subscriber.phase:
                case Phase.CATCHING_UP:
                    assert is_reading is was_fed
                    assert not is_reading or channel.paused, "it reads on while its channel takes more"
                case Phase.LIVE:
                    assert subscriber.waiting_bytes == channel.unsent(), "the outbox is empty"
                case Phase.CLOSED:
                    assert not is_reading
                    assert subscriber.waiting_bytes == channel.unsent(), "what waited is dropped"
                case Phase.BACKLOGGED:
                    assert subscriber.paused
            assert len(client.reasons) <= 1
            assert client.reasons or client.is_closed or subscriber.waiting_bytes <= HARD_BYTES

    def detach_one(self, client: Client) -> None:
        """The connection ends. `FakeChannel` lets nothing be written after that."""
        client.is_closed = True
        client.channel.ended = client.channel.ended or ("close", CloseCode.GOING_AWAY)
        client.subscriber.detach()

    def ending_at_a_failure(self, client: Client, act: Callable[[], None]) -> None:
        """Do as a connection does: what raises ends it, and it alone."""
        try:
            act()
        except Broken:
            self.detach_one(client)

    def fingerprint(self, client: Client) -> object:
        subscriber = client.subscriber
        return (
            subscriber.phase,
            filed(subscriber),
            subscriber.waiting_bytes,
            subscriber.delivered,
            client.channel.writes,
            subscriber in self.fabric.stream.catching_up,
        )

    def teardown(self) -> None:
        subscriber_module.PIECE_BYTES = self.before


def filed(subscriber: Subscriber) -> list[str]:
    """The places in which its cohort has `subscriber`."""
    cohort = subscriber.cohort
    if cohort is None:
        return []
    return [name for name in ("sockets", "writes", "behind") if subscriber in getattr(cohort, name)]


TestPhases = Phases.TestCase
TestPhases.settings = settings(
    max_examples=int(os.environ.get("DELIVERY_RUNS", "150")),
    stateful_step_count=40,
    deadline=None,
    derandomize="DELIVERY_RUNS" not in os.environ,
    database=None,
)


LEGAL = {
    (Phase.CATCHING_UP, Phase.LIVE),
    (Phase.LIVE, Phase.CATCHING_UP),
    (Phase.LIVE, Phase.BACKLOGGED),
    (Phase.BACKLOGGED, Phase.LIVE),
    *((phase, Phase.CLOSED) for phase in Phase if phase is not Phase.CLOSED),
}


@pytest.mark.parametrize("to", Phase, ids=lambda it: it.value)
@pytest.mark.parametrize("phase", Phase, ids=lambda it: it.value)
def test_a_phase_changes_only_as_its_diagram_says(phase: Phase, to: Phase) -> None:
    subscriber = Fabric().subscriber()[0]
    subscriber.phase = phase
    if (phase, to) in LEGAL:
        subscriber._transition(to)
        assert subscriber.phase is to
    else:
        with pytest.raises(PhaseError, match=f"is {phase.value} cannot become {to.value}"):
            subscriber._transition(to)
        assert subscriber.phase is phase
