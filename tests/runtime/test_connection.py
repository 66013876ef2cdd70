import asyncio
import gc
import weakref
from typing import Any

import pytest
from fanout import (
    EPOCH,
    KIB,
    FakeChannel,
    House,
    ask,
    draft,
    knowing,
    types,
)

from tidegate.core.envelope import Pong
from tidegate.core.events import Position
from tidegate.core.framing import EVENT_STREAM
from tidegate.core.grant import Grant, Role
from tidegate.core.session import SessionLimits
from tidegate.core.subscriber import SendLimits, Subscriber
from tidegate.core.topics import PatternSet
from tidegate.errors import CloseCode

RETAINED: dict[str, Any] = {"retain": True}


async def turn() -> None:
    """Let the loop run what is due, the flush among it."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


class TestStart:
    async def test_welcomes_then_hands_over_the_current_values_then_goes_live(self) -> None:
        house = House()
        await house.gateway.publish([draft("a", 1, **RETAINED), draft("b", 2, **RETAINED), draft("a", 3)])
        connection, channel, received = house.started("a", "x.*")
        await house.gateway.publish([draft("a", 4)])
        await turn()
        assert received[0] == {
            "type": "welcome",
            "timestamp": "2026-11-22T21:40:03.123Z",
            "data": {
                "client_id": connection.id,
                "protocol": 1,
                "server": "tidegate/test",
                "epoch": EPOCH,
                "seq": 3,
                "resumed": False,
                "subscriptions": ["a", "x.*"],
                "heartbeat_interval_s": 10.0,
            },
        }
        assert [(m["type"], m["seq"], m["snapshot"]) for m in received[1:]] == [("a", 1, True)]
        assert [(m["type"], m["seq"]) for m in channel.received()] == [("a", 4)]

    async def test_resumes_with_what_was_missed_and_no_snapshots(self) -> None:
        house = House()
        for n in range(5):
            await house.gateway.publish([draft("ab"[n % 2], n, **RETAINED)])
        _, _, received = house.started("a", since=Position(EPOCH, 1))
        assert received[0]["data"]["resumed"] is True
        assert received[0]["data"]["seq"] == 1
        assert [(m["type"], m["seq"], "snapshot" in m) for m in received[1:]] == [("a", 3, False), ("a", 5, False)]

    @pytest.mark.parametrize(
        ("since", "reason"),
        [
            (Position(EPOCH, 6), "epoch_changed"),
            (Position("other", 5), "epoch_changed"),
            (Position(EPOCH, 2), "history_truncated"),
        ],
    )
    async def test_a_resume_that_cannot_be_whole_is_a_gap_and_the_snapshots(self, since: Position, reason: str) -> None:
        house = House(history_events=2)
        for n in range(5):
            await house.gateway.publish([draft("a", n, **RETAINED)])
        _, _, received = house.started("a", since=since)
        assert types(received) == ["welcome", "gap", "a"]
        assert (received[0]["data"]["resumed"], received[0]["data"]["seq"]) == (False, 5)
        assert received[1]["data"] == {"reason": reason, "requested": str(since), "skipped": {}}
        assert (received[2]["seq"], received[2]["snapshot"]) == (5, True)

    async def test_an_event_stream_is_told_its_position_after_the_last_snapshot(self) -> None:
        house = House()
        await house.gateway.publish([draft("a", 1, **RETAINED), draft("b")])
        connection, channel = house.connect("a", framing=EVENT_STREAM)
        connection.start(None)
        blocks = bytes(channel.taken).decode().split("\n\n")
        assert [block.partition("\n")[0] for block in blocks] == ["event: welcome", "event: a", "id: e1:2", ""]


class TestRequests:
    async def test_subscribing_is_acknowledged_then_hands_over_then_goes_live(self) -> None:
        house = House()
        await house.gateway.publish([draft("a", 1, **RETAINED), draft("b.c", 2, **RETAINED), draft("d", 3, **RETAINED)])
        connection, channel, _ = house.started("a")
        await house.gateway.publish([draft("a", 4, **RETAINED), draft("b.c", 5, **RETAINED)])
        ask(connection, {"type": "subscribe", "id": "s", "data": {"types": ["b.*", "a"]}})
        await house.gateway.publish([draft("b.c", 6), draft("a", 7)])
        await turn()
        received = channel.received()
        assert [(m["type"], m.get("seq"), m.get("snapshot")) for m in received] == [
            ("a", 4, None),
            ("subscribed", None, None),
            ("b.c", 5, True),
            ("b.c", 6, None),
            ("a", 7, None),
        ]
        assert received[1]["id"] == "s"
        assert received[1]["data"] == {"types": ["a", "b.*"], "added": ["b.*"], "epoch": EPOCH, "seq": 5}

    async def test_subscribing_again_brings_no_second_snapshot(self) -> None:
        house = House()
        await house.gateway.publish([draft("a.b", 1, **RETAINED)])
        connection, channel, _ = house.started("a.*")
        ask(connection, {"type": "subscribe", "types": ["a.*"]})
        ask(connection, {"type": "subscribe", "types": ["a.b"]})
        first, second = channel.received()
        assert first["data"] == {"types": ["a.*"], "added": [], "epoch": EPOCH, "seq": 1}
        assert second["data"]["added"] == ["a.b"]

    async def test_the_position_in_an_acknowledgement_that_adds_nothing_is_complete(self) -> None:
        house = House()
        connection, channel, _ = house.started("a")
        await house.gateway.publish([draft("a")])
        ask(connection, {"type": "subscribe", "types": []})
        received = channel.received()
        assert types(received) == ["a", "subscribed"]
        assert received[1]["data"]["seq"] == received[0]["seq"]

    async def test_after_unsubscribed_nothing_comes_that_no_pattern_matches(self) -> None:
        house = House()
        connection, channel, _ = house.started("a", "a.*", "b")
        await house.gateway.publish([draft("a"), draft("b")])
        ask(connection, {"type": "unsubscribe", "id": 2, "types": ["a", "nope"]})
        await house.gateway.publish([draft("a"), draft("b"), draft("a.x")])
        await turn()
        received = channel.received()
        assert types(received) == ["a", "b", "unsubscribed", "b", "a.x"]
        assert received[2]["data"] == {"types": ["a.*", "b"], "removed": ["a"]}
        assert received[2]["id"] == 2

    async def test_answers_come_after_the_events_before_them(self) -> None:
        house = House()
        connection, channel, _ = house.started("a")
        await house.gateway.publish([draft("a")])
        ask(connection, {"type": "ping", "id": 3})
        await house.gateway.publish([draft("a")])
        connection.receive(b"no json")
        await turn()
        received = channel.received()
        assert types(received) == ["a", "pong", "a", "error"]
        assert (received[1]["id"], received[1]["data"]) == (3, {})
        assert received[3]["data"]["code"] == "INVALID_JSON"
        assert received[3]["data"]["retryable"] is False

    async def test_a_binary_message_is_an_error_and_the_connection_lives_on(self) -> None:
        connection, channel, _ = House().started()
        connection.receive_binary(b"\x00")
        ask(connection, {"type": "ping"})
        received = channel.received()
        assert types(received) == ["error", "pong"]
        assert received[0]["data"]["code"] == "INVALID_MESSAGE"

    async def test_a_client_that_ignores_the_rate_limit_is_told_and_closed(self) -> None:
        house = House(session_limits=SessionLimits(patterns=8, messages_per_s=1.0, messages_burst=1))
        connection, channel, _ = house.started()
        while channel.ended is None:
            ask(connection, {"type": "ping"})
            house.clock.advance(0.25)
        received = channel.received()
        assert channel.ended == ("close", CloseCode.TOO_MANY_MESSAGES)
        assert {m["data"]["code"] for m in received if m["type"] == "error"} == {"RATE_LIMITED"}
        assert types(received)[-1] == "connection_error"
        assert received[-1]["data"]["code"] == 4429
        assert 5.0 <= house.clock.elapsed < 6.0


class TestAuthentication:
    def house(self) -> House:
        everyone = frozenset({Role.SUBSCRIBER})
        return House(
            authenticator=knowing(
                {
                    "all": Grant(name="all", roles=everyone),
                    "a": Grant(name="a", roles=everyone, allowed=PatternSet(["a"])),
                    "publisher": Grant(name="publisher", roles=frozenset({Role.PUBLISHER})),
                }
            )
        )

    async def test_a_narrower_token_ends_what_it_does_not_cover(self) -> None:
        house = self.house()
        connection, channel, _ = house.started("a", "*", "heartbeat")
        await house.gateway.publish([draft("b")])
        ask(connection, {"type": "auth", "id": 4, "data": {"token": "a"}})
        await house.gateway.publish([draft("b"), draft("a")])
        await turn()
        received = channel.received()
        assert types(received) == ["b", "authenticated", "a"]
        assert (received[1]["id"], received[1]["data"]) == (4, {"types": ["a", "heartbeat"]})
        assert connection.grant.name == "a"

    async def test_a_wider_token_hands_over_what_could_not_be_seen_before(self) -> None:
        house = self.house()
        narrow = Grant(allowed=PatternSet(["a"]))
        await house.gateway.publish(
            [draft("source.freshness", key=name, retain=True, about=frozenset({name})) for name in ("a", "b")]
        )
        connection, channel, received = house.started("source.freshness", grant=narrow)
        assert [message.get("key") for message in received] == [None, "a"]
        ask(connection, {"type": "auth", "data": {"token": "all"}})
        assert [message.get("key") for message in channel.received()] == [None, "b"]

    @pytest.mark.parametrize(("token", "code"), [("who", "UNAUTHENTICATED"), ("publisher", "FORBIDDEN")])
    async def test_a_token_that_may_not_subscribe_changes_nothing(self, token: str, code: str) -> None:
        house = self.house()
        connection, channel, _ = house.started("a", "b")
        ask(connection, {"type": "auth", "id": 5, "data": {"token": token}})
        await house.gateway.publish([draft("b")])
        await turn()
        error, event = channel.received()
        assert (error["type"], error["id"], error["data"]["code"]) == ("error", 5, code)
        assert event["type"] == "b"
        assert connection.grant.name == "anonymous"


class TestStalledTransport:
    async def stalled(self, house: House) -> tuple[Any, FakeChannel]:
        connection, channel, _ = house.started("big", channel=FakeChannel(soft_bytes=1000))
        channel.block()
        await house.gateway.publish([draft("big", KIB * 2)])
        await turn()
        assert not connection.subscriber.clear
        return connection, channel

    async def test_requests_wait_and_are_answered_in_order_when_it_drained(self) -> None:
        house = House()
        connection, channel = await self.stalled(house)
        ask(connection, {"type": "ping", "id": 1})
        ask(connection, {"type": "subscribe", "id": 2, "types": ["a"]})
        await house.gateway.publish([draft("a"), draft("big")])
        await turn()
        channel.unblock()
        ask(connection, {"type": "ping", "id": 3})
        received = channel.received()
        assert types(received) == ["big", "big", "pong", "subscribed", "pong"]
        assert [m["id"] for m in received if "id" in m] == [1, 2, 3]

    async def test_their_rate_is_judged_by_when_they_came(self) -> None:
        house = House(session_limits=SessionLimits(patterns=8, messages_per_s=1.0, messages_burst=2))
        connection, channel = await self.stalled(house)
        for _ in range(8):
            ask(connection, {"type": "ping"})
            house.clock.advance(1.0)
        channel.unblock()
        assert types(channel.received()) == ["big"] + ["pong"] * 8

    async def test_too_many_of_them_end_it(self) -> None:
        house = House(send_limits=SendLimits(hard_bytes=10_000, grace_s=10.0))
        connection, channel = await self.stalled(house)
        sent = 0
        while channel.ended is None:
            ask(connection, {"type": "ping", "id": "x" * 100})
            await turn()
            sent += 1
        assert channel.ended == ("abort", CloseCode.TOO_SLOW)
        assert 40 < sent < 100
        assert types(channel.received()) == []
        channel.take()
        assert [m["data"]["code"] for m in channel.received() if m["type"] == "connection_error"] == [4408]

    async def test_a_request_that_stalls_it_again_leaves_the_rest_waiting(self) -> None:
        house = House()
        await house.gateway.publish([draft("a", KIB * 2, key=str(n), **RETAINED) for n in range(3)])
        connection, channel = await self.stalled(house)
        for n in range(3):
            ask(connection, {"type": "subscribe", "id": n, "types": ["a"] if n == 1 else []})
        channel.take()
        assert types(channel.received()) == ["big"]
        channel.take()
        assert types(channel.received()) == ["subscribed", "subscribed", "a", "a", "a"]
        channel.take()
        assert types(channel.received()) == ["subscribed"]


class TestEnd:
    async def test_text_after_the_close_is_ignored(self) -> None:
        house = House()
        connection, channel, _ = house.started("a")
        connection.close(CloseCode.DRAINING, "r")
        ask(connection, {"type": "ping"})
        connection.send("pong", Pong(timestamp=""))
        connection.pause()
        connection.resume()
        connection.close(CloseCode.NORMAL, "r")
        connection.abort(CloseCode.TOO_SLOW, "r")
        await house.gateway.publish([draft("a")])
        await turn()
        assert channel.received() == []
        assert channel.ended == ("close", CloseCode.DRAINING)

    @pytest.mark.parametrize(
        ("code", "told"),
        [
            (CloseCode.NORMAL, False),
            (CloseCode.GOING_AWAY, False),
            (CloseCode.DRAINING, False),
            (CloseCode.OVERLOADED, True),
            (CloseCode.UNAUTHENTICATED, True),
            (CloseCode.FORBIDDEN, True),
            (CloseCode.TOO_SLOW, True),
            (CloseCode.TOO_MANY_MESSAGES, True),
        ],
    )
    async def test_an_error_is_told_before_the_close(self, code: CloseCode, told: bool) -> None:
        for end in ("close", "abort"):
            house = House()
            connection, channel, _ = house.started("a")
            getattr(connection, end)(code, "the reason")
            received = channel.received()
            assert channel.ended == (end, code)
            assert [m["data"] for m in received] == [
                {
                    "code": code,
                    "message": "the reason",
                    "retryable": code in {CloseCode.TOO_SLOW, CloseCode.OVERLOADED},
                }
            ] * told

    async def test_nothing_of_a_client_that_left_is_kept_for_the_collector(self) -> None:
        house = House()
        gc.disable()
        try:
            connection, channel, _ = house.started("*")
            house_stream = connection.subscriber._stream
            ask(connection, {"type": "subscribe", "types": ["a"]})
            house.gateway.disconnect(connection, "gone")
            seen = weakref.ref(connection)
            channel.on_pause = channel.on_resume = lambda: None
            del connection
            await turn()
            assert seen() is None
            # `isinstance` would ask proxies of other tests, whose objects are gone.
            assert not [it for it in gc.get_objects() if type(it) is Subscriber and it._stream is house_stream]
        finally:
            gc.enable()


async def test_an_answer_comes_after_the_events_that_its_position_counts() -> None:
    """A burst of this turn fills the transport while a request is on its way: the answer waits behind it."""
    house = House()
    connection, channel, _ = house.started("a", channel=FakeChannel(soft_bytes=1 << 16))
    channel.block()
    await house.gateway.publish([draft("a", "x" * 100_000) for _ in range(8)])
    ask(connection, {"type": "subscribe", "id": 1, "data": {"types": ["b"]}})
    await turn()
    channel.unblock()
    received = channel.received()
    answer = next(n for n, message in enumerate(received) if message["type"] == "subscribed")
    assert received[answer]["data"]["seq"] == 8
    assert [message["seq"] for message in received[:answer]] == list(range(1, 9))
