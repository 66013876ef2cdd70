from collections.abc import Sequence

import pytest
from fanout import EPOCH, FakeChannel, Sockets, event, interest, messages, types

from tidegate.core.delivery import hub as hub_module
from tidegate.core.delivery.cohort import Interest, Member, Phase
from tidegate.core.delivery.framing import EVENT_STREAM, WEBSOCKET
from tidegate.core.delivery.hub import Hub
from tidegate.core.delivery.traffic import Traffic
from tidegate.core.events import Event, Position
from tidegate.core.topics import PatternSet


class Recorder(Member):
    """A live member that remembers what it was given."""

    def __init__(self, *, socket: int | None = None) -> None:
        super().__init__(self._write, socket=socket)
        self._transition(Phase.LIVE)
        self.writes: list[bytes] = []
        self.offered: list[list[Event]] = []

    def _write(self, data: bytes) -> None:
        self.writes.append(data)

    def offer(self, events: list[Event]) -> None:
        self.offered.append(events)

    def heard(self) -> list[int]:
        return [m["seq"] for m in messages(b"".join(self.writes))]

    def fall_behind(self) -> None:
        self._transition(Phase.BACKLOGGED)


class CountingFraming:
    """WebSocket frames, counted."""

    def __init__(self) -> None:
        self.framed: list[Event] = []

    def event(self, event: Event, epoch: str) -> bytes:
        self.framed.append(event)
        return WEBSOCKET.event(event, epoch)

    def snapshot(self, event: Event, json: bytes) -> bytes:
        return WEBSOCKET.snapshot(event, json)

    def message(self, name: str, json: bytes) -> bytes:
        return WEBSOCKET.message(name, json)

    def synced(self, position: Position, json: bytes) -> bytes:
        return WEBSOCKET.synced(position, json)

    def retry(self, retry_ms: int) -> bytes:
        return WEBSOCKET.retry(retry_ms)


def members(hub: Hub, *patterns: Sequence[str]) -> list[Recorder]:
    joined = []
    for each in patterns:
        joined.append(Recorder())
        hub.join(joined[-1], interest(*each))
    return joined


def connected(hub: Hub, sockets: Sockets, *patterns: str) -> tuple[Recorder, FakeChannel]:
    """A member with a socket, and the channel over it."""
    channel = FakeChannel(on=sockets)
    member = Recorder(socket=channel.socket)
    hub.join(member, interest(*patterns))
    return member, channel


def reached(hub: Hub, published: Event) -> int:
    """Publish, and return how many members want it."""
    hub.publish(published)
    return sum(len(cohort) for cohort in hub._route(published.type, published.draft.about))


class TestFanOut:
    def test_one_turn_is_one_write_for_each_connection(self) -> None:
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        a, ab, other = members(hub, ["a"], ["a", "b"], ["c"])
        for seq, event_type in enumerate("aab", 1):
            hub.publish(event(event_type, seq))
        assert hub.dirty
        assert not a.writes
        hub.flush()
        assert not hub.dirty
        assert (len(a.writes), len(ab.writes), len(other.writes)) == (1, 1, 0)
        assert (a.heard(), ab.heard()) == ([1, 2], [1, 2, 3])

    def test_flushing_again_writes_nothing(self) -> None:
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        [member] = members(hub, ["a"])
        hub.publish(event("a", 1))
        hub.flush()
        hub.flush()
        assert len(member.writes) == 1

    def test_equal_subscriptions_share_one_cohort_and_one_buffer(self) -> None:
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        first, second = members(hub, ["a", "b"], ["b", "a"])
        assert len(hub) == 1
        hub.publish(event("a", 1))
        hub.flush()
        assert first.writes[0] is second.writes[0]

    def test_what_different_cohorts_get_alike_is_joined_once(self) -> None:
        hub, framing = Hub(EPOCH, Sockets(), traffic=Traffic()), CountingFraming()
        recorders = [Recorder() for _ in range(3)]
        for recorder, wanted in zip(recorders, ["a", "a.*", "*"], strict=True):
            hub.join(recorder, interest("x.y", wanted, framing=framing))
        hub.publish(event("x.y", 1))
        hub.publish(event("x.y", 2))
        hub.flush()
        assert len(framing.framed) == 2
        assert recorders[0].writes[0] is recorders[2].writes[0]

    def test_each_framing_gets_its_own_bytes(self) -> None:
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        socket, stream = Recorder(), Recorder()
        hub.join(socket, interest("a"))
        hub.join(stream, interest("a", framing=EVENT_STREAM))
        published = event("a", 1)
        hub.publish(published)
        hub.flush()
        assert socket.writes == [WEBSOCKET.event(published, EPOCH)]
        assert stream.writes == [EVENT_STREAM.event(published, EPOCH)]

    def test_who_is_not_clear_is_offered_the_events_instead(self) -> None:
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        clear, stalled = members(hub, ["a"], ["a"])
        stalled.fall_behind()
        published = [event("a", 1), event("a", 2)]
        for each in published:
            hub.publish(each)
        hub.flush()
        assert (len(clear.writes), stalled.writes, stalled.offered) == (1, [], [published])

    def test_whom_a_write_puts_behind_is_not_offered_what_it_was_written(self) -> None:
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        filled, other = members(hub, ["a"], ["a"])
        cohort = filled.cohort
        assert cohort is not None

        def fill(data: bytes) -> None:
            filled.writes.append(data)
            filled.fall_behind()

        filled.write = fill
        cohort.file(filled)
        hub.publish(event("a", 1))
        hub.flush()
        assert (filled.heard(), filled.offered, other.heard()) == ([1], [], [1])
        later = event("a", 2)
        hub.publish(later)
        hub.flush()
        assert (filled.heard(), filled.offered, other.heard()) == ([1], [[later]], [1, 2])


class TestSockets:
    def test_are_sent_to_past_their_transports(self) -> None:
        sockets = Sockets()
        hub = Hub(EPOCH, sockets, traffic=Traffic())
        (first, one), (second, other) = connected(hub, sockets, "a"), connected(hub, sockets, "*")
        published = event("a", 1)
        hub.publish(published)
        hub.flush()
        assert one.taken == other.taken == WEBSOCKET.event(published, EPOCH)
        assert (first.writes, second.writes) == ([], [])

    def test_what_different_cohorts_get_alike_is_one_call(self) -> None:
        calls: list[tuple[list[int], bytes]] = []

        def multicast(sockets: Sequence[int], data: bytes) -> Sequence[tuple[int, int]]:
            calls.append((list(sockets), data))
            return []

        hub = Hub(EPOCH, multicast, traffic=Traffic())
        for number, wanted in enumerate(["x.y", "x.*", "*"]):
            hub.join(Recorder(socket=number), interest(wanted))
        hub.publish(event("x.y", 1))
        hub.flush()
        assert [(sorted(sockets), len(messages(data))) for sockets, data in calls] == [([0, 1, 2], 1)]

    def test_what_a_socket_leaves_goes_through_the_transport(self) -> None:
        sockets = Sockets()
        hub = Hub(EPOCH, sockets, traffic=Traffic())
        (whole, reads), (short, stuck) = connected(hub, sockets, "a"), connected(hub, sockets, "a")
        stuck.block()
        stuck.room = 7
        published = event("a", 1)
        hub.publish(published)
        hub.flush()
        frame = WEBSOCKET.event(published, EPOCH)
        assert (bytes(reads.taken), whole.writes) == (frame, [])
        assert (bytes(stuck.taken), short.writes) == (frame[:7], [frame[7:]])

    def test_a_member_without_one_is_written_to_and_comes_back_to_it(self) -> None:
        sockets = Sockets()
        hub = Hub(EPOCH, sockets, traffic=Traffic())
        member, channel = connected(hub, sockets, "a")
        member.set_holding(True)
        hub.publish(event("a", 1))
        hub.flush()
        assert (member.heard(), bytes(channel.taken)) == ([1], b"")
        member.set_holding(False)
        hub.publish(event("a", 2))
        hub.flush()
        assert (member.heard(), [m["seq"] for m in channel.received()]) == ([1], [2])

    def test_one_who_is_not_clear_is_offered_the_events(self) -> None:
        sockets = Sockets()
        hub = Hub(EPOCH, sockets, traffic=Traffic())
        member, channel = connected(hub, sockets, "a")
        member.fall_behind()
        published = event("a", 1)
        hub.publish(published)
        hub.flush()
        assert (member.offered, member.writes, bytes(channel.taken)) == ([[published]], [], b"")

    def test_of_one_who_left_are_left_alone(self) -> None:
        sockets = Sockets()
        hub = Hub(EPOCH, sockets, traffic=Traffic())
        member, channel = connected(hub, sockets, "a")
        assert reached(hub, event("a", 1)) == 1
        hub.leave(member)
        hub.publish(event("a", 2))
        hub.flush()
        assert [m["seq"] for m in channel.received()] == [1]
        member.set_holding(False)
        assert len(hub) == 0


class TestWanted:
    def test_is_what_any_member_is_interested_in(self) -> None:
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        assert not hub.is_wanted("a.b")
        [one] = members(hub, ["a.*"])
        assert hub.is_wanted("a.b")
        assert not hub.is_wanted("b")
        assert one.cohort is not None
        hub.leave(one)
        assert not hub.is_wanted("a.b")


class TestJoiningAndLeaving:
    def test_a_newcomer_hears_nothing_that_is_pending_and_nobody_loses_it(self) -> None:
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        [old] = members(hub, ["a"])
        hub.publish(event("a", 1))
        [new] = members(hub, ["a"])
        hub.publish(event("a", 2))
        hub.flush()
        assert (old.heard(), new.heard()) == ([1, 2], [2])

    def test_who_leaves_gets_what_is_pending_and_nothing_more(self) -> None:
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        leaver, stayer = Recorder(), Recorder()
        cohort = hub.join(leaver, interest("a"))
        hub.join(stayer, interest("a"))
        hub.publish(event("a", 1))
        hub.leave(leaver)
        hub.publish(event("a", 2))
        hub.flush()
        assert (leaver.heard(), stayer.heard()) == ([1], [1, 2])
        assert cohort.flushed == 2

    def test_a_cohort_ends_with_its_last_member_and_begins_anew(self) -> None:
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        member = Recorder()
        hub.join(member, interest("a"))
        hub.publish(event("a", 1))
        hub.leave(member)
        assert len(hub) == 0
        assert reached(hub, event("a", 2)) == 0
        hub.flush()
        hub.join(member, interest("a"))
        assert reached(hub, event("a", 3)) == 1
        hub.flush()
        assert member.heard() == [1, 3]

    def test_a_cohort_may_be_flushed_alone_and_the_turn_goes_on(self) -> None:
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        member, other = Recorder(), Recorder()
        cohort = hub.join(member, interest("a"))
        hub.join(other, interest("*"))
        hub.publish(event("a", 1))
        hub.flush_cohort(cohort)
        hub.flush_cohort(cohort)
        hub.publish(event("a", 2))
        hub.flush()
        assert [len(messages(data)) for data in member.writes] == [1, 1]
        assert [len(messages(data)) for data in other.writes] == [2]


class TestRoutes:
    def test_a_cohort_that_comes_later_is_found_by_types_that_are_known(self) -> None:
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        assert reached(hub, event("a.b", 1)) == 0
        members(hub, ["a.*"], ["b"])
        assert reached(hub, event("a.b", 2)) == 1

    def test_are_bounded_whatever_types_are_invented(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hub_module, "ROUTES", 10)
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        [member] = members(hub, ["*"])
        for seq in range(1, 101):
            assert reached(hub, event(f"t{seq}", seq)) == 1
            assert len(hub._routes) <= 10
        hub.flush()
        assert member.heard() == list(range(1, 101))


def speaking_of(names: str | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names.split())


class TestInterest:
    @pytest.mark.parametrize(
        ("wanted", "allowed", "event_type", "about", "expected"),
        [
            (["*"], ["*"], "rpc_error", "a.b", True),
            (["rpc_error"], ["a.*"], "rpc_error", "a.b", True),
            (["rpc_error"], ["a.*"], "rpc_error", "b", False),
            (["rpc_error"], ["a.*"], "rpc_error", None, False),
            (["a.b"], ["a.*"], "rpc_error", "a.b", False),
            (["source.freshness"], ["a"], "source.freshness", "a", True),
            (["a.*"], ["a.b"], "a.b", None, True),
            (["a.*"], ["a.b"], "a.c", None, False),
            (["heartbeat", "notification"], [], "heartbeat", None, True),
            (["heartbeat", "notification"], [], "notification", None, True),
            (["a"], ["*"], "heartbeat", None, False),
            (["circuit_breaker.*"], ["a"], "circuit_breaker.state", "a b", True),
            (["circuit_breaker.*"], ["b.*"], "circuit_breaker.state", "a b.x", True),
            (["circuit_breaker.*"], ["c", "d.*"], "circuit_breaker.state", "a b", False),
            (["circuit_breaker.*"], ["*"], "circuit_breaker.state", "a b", True),
            (["circuit_breaker.*"], ["circuit_breaker.*"], "circuit_breaker.state", "a b", False),
        ],
    )
    def test_is_what_is_wanted_and_may_be_seen(
        self, wanted: list[str], allowed: list[str], event_type: str, about: str | None, expected: bool
    ) -> None:
        assert interest(*wanted, allowed=PatternSet(allowed)).matches(event_type, speaking_of(about)) is expected

    def test_an_event_about_something_goes_only_to_those_who_may_see_that(self) -> None:
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        everything, little = Recorder(), Recorder()
        hub.join(everything, interest("rpc_error"))
        hub.join(little, interest("rpc_error", allowed=PatternSet(["a"])))
        assert [
            reached(hub, event("rpc_error", seq, about=speaking_of(about))) for seq, about in enumerate("abab", 1)
        ] == [
            2,
            1,
            2,
            1,
        ]
        hub.flush()
        assert (everything.heard(), little.heard()) == ([1, 2, 3, 4], [1, 3])

    def test_an_event_about_several_things_is_routed_once_for_all_who_may_see_one_of_them(self) -> None:
        hub = Hub(EPOCH, Sockets(), traffic=Traffic())
        one, other, neither = Recorder(), Recorder(), Recorder()
        for member, allowed in ((one, "a"), (other, "b"), (neither, "c")):
            hub.join(member, interest("circuit_breaker.*", allowed=PatternSet([allowed])))
        about = frozenset({"a", "b"})
        assert [reached(hub, event("circuit_breaker.state", seq, about=about)) for seq in (1, 2)] == [2, 2]
        hub.flush()
        assert (one.heard(), other.heard(), neither.heard()) == ([1, 2], [1, 2], [])
        late = Recorder()
        hub.join(late, interest("circuit_breaker.*", allowed=PatternSet(["b"])))
        assert reached(hub, event("circuit_breaker.state", 3, about=about)) == 3

    def test_is_a_value(self) -> None:
        assert interest("a", "b") == interest("b", "a")
        assert hash(interest("a", "b")) == hash(interest("b", "a"))
        different: list[Interest] = [
            interest("a"),
            interest("a", "b", framing=EVENT_STREAM),
            interest("a", "b", allowed=PatternSet(["a", "b"])),
        ]
        assert all(interest("a", "b") != other for other in different)
        assert interest("a") != "a"


def test_a_member_says_itself_what_it_does_with_an_offer_and_a_failure() -> None:
    with pytest.raises(NotImplementedError):
        Member(lambda _: None).offer([])
    with pytest.raises(NotImplementedError):
        Member(lambda _: None).failed(ValueError())


class Broken(Recorder):
    def __init__(self, *, socket: int | None = None) -> None:
        super().__init__(socket=socket)
        self.errors: list[Exception] = []

    def _write(self, data: bytes) -> None:
        raise RuntimeError("broken")

    def offer(self, events: list[Event]) -> None:
        raise RuntimeError("broken")

    def failed(self, error: Exception) -> None:
        self.errors.append(error)


@pytest.mark.parametrize("how", ["written to", "offered to", "sent the rest"])
def test_a_member_that_fails_is_told_and_nobody_else_notices(how: str) -> None:
    sockets = Sockets()
    hub = Hub(EPOCH, sockets, traffic=Traffic())
    channel = FakeChannel(on=sockets)
    channel.block()
    before, broken, after = Recorder(), Broken(socket=channel.socket if how == "sent the rest" else None), Recorder()
    for member in (before, broken, after):
        hub.join(member, interest("a"))
    if how == "offered to":
        broken.fall_behind()
    for seq in (1, 2):
        hub.publish(event("a", seq))
        hub.flush()
    assert (before.heard(), after.heard()) == ([1, 2], [1, 2])
    assert list(map(str, broken.errors)) == ["broken", "broken"]


def test_messages_of_a_write_are_in_the_order_of_publication() -> None:
    hub = Hub(EPOCH, Sockets(), traffic=Traffic())
    [member] = members(hub, ["*"])
    for seq, event_type in enumerate(["a", "b", "a"], 1):
        hub.publish(event(event_type, seq))
    hub.flush()
    assert types(messages(member.writes[0])) == ["a", "b", "a"]
