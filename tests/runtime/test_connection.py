import asyncio
import gc
import weakref
from typing import Any

import pytest
import structlog
from fanout import (
    EPOCH,
    KIB,
    FakeChannel,
    House,
    ask,
    draft,
    knowing,
    options,
    types,
)

from tidegate.core.access.grant import Grant, Role
from tidegate.core.delivery.framing import EVENT_STREAM
from tidegate.core.delivery.session import SessionLimits, StreamSession
from tidegate.core.delivery.slowness import SendLimits
from tidegate.core.delivery.subscriber import Subscriber
from tidegate.core.envelope import Pong
from tidegate.core.events import Position
from tidegate.core.topics import PatternSet
from tidegate.errors import CloseCode, LeaveReason

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
                "request_id": "",
                "protocol": 1,
                "server": "tidegate/test",
                "epoch": EPOCH,
                "seq": 3,
                "resumed": False,
                "subscriptions": ["a", "x.*"],
                "heartbeat_interval_s": 10.0,
            },
        }
        assert [(m["type"], m["seq"], m["snapshot"]) for m in received[1:-1]] == [("a", 1, True)]
        assert received[-1] == {
            "type": "synced",
            "timestamp": "2026-11-22T21:40:03.123Z",
            "data": {"epoch": EPOCH, "seq": 3},
        }
        assert [(m["type"], m["seq"]) for m in channel.received()] == [("a", 4)]

    async def test_resumes_with_what_was_missed_and_no_snapshots(self) -> None:
        house = House()
        for n in range(5):
            await house.gateway.publish([draft("ab"[n % 2], n, **RETAINED)])
        _, _, received = house.started("a", since=Position(EPOCH, 1))
        assert received[0]["data"]["resumed"] is True
        assert received[0]["data"]["seq"] == 1
        assert [(m["type"], m["seq"], "snapshot" in m) for m in received[1:-1]] == [("a", 3, False), ("a", 5, False)]
        assert (received[-1]["type"], received[-1]["data"]) == ("synced", {"epoch": EPOCH, "seq": 5})

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
        assert types(received) == ["welcome", "gap", "a", "synced"]
        assert (received[0]["data"]["resumed"], received[0]["data"]["seq"]) == (False, 5)
        assert received[1]["data"] == {"reason": reason, "requested": str(since), "skipped": {}}
        assert (received[2]["seq"], received[2]["snapshot"]) == (5, True)

    async def test_a_client_that_comes_back_is_in_the_same_write_told_that_it_missed_nothing(self) -> None:
        house = House()
        await house.gateway.publish([draft("a")])
        connection, channel = house.connect("a")
        connection.start(Position(EPOCH, 1))
        assert channel.writes == 1
        assert types(channel.received()) == ["welcome", "synced"]

    async def test_who_asks_for_nothing_is_synced_at_once(self) -> None:
        house = House()
        await house.gateway.publish([draft("a", 1, **RETAINED)])
        _, _, received = house.started()
        assert types(received) == ["welcome", "synced"]
        assert received[1]["data"] == {"epoch": EPOCH, "seq": 1}

    async def test_without_types_a_place_from_before_the_defaults_were_changed_is_refused(self) -> None:
        """The client would never get the values of what has become a default since."""
        house = House()
        await house.gateway.publish([draft("a", 1, **RETAINED), draft("a", 2, **RETAINED)])
        house.gateway.apply(options(default_types=("a",)))
        told = {}
        for seq in (1, 2):
            for by_default in (True, False):
                connection, channel = house.connect("a")
                connection.start(Position(EPOCH, seq), by_default=by_default)
                told[seq, by_default] = channel.received()
        assert types(told[1, True]) == ["welcome", "gap", "a", "synced"]
        assert told[1, True][1]["data"]["reason"] == "history_truncated"
        assert types(told[1, False]) == ["welcome", "a", "synced"]
        # Who was there with the patterns from before gets what these lack, and nothing is missed.
        assert types(told[2, True]) == ["welcome", "a", "synced"]
        assert (told[2, True][0]["data"]["resumed"], told[2, True][1]["snapshot"]) == (True, True)
        assert types(told[2, False]) == ["welcome", "synced"]


class TestPlacesOnAnEventStream:
    """A browser comes back with the last `id`: before `synced` it must have none, or it would miss snapshots."""

    def blocks(self, channel: FakeChannel) -> list[tuple[str, str | None]]:
        """The type and the id of every block so far."""
        blocks = [block.split("\n") for block in bytes(channel.taken).decode().split("\n\n")[:-1]]
        fields = [dict(line.split(": ", 1) for line in block) for block in blocks]
        return [(block["event"], block.get("id")) for block in fields]

    async def test_synced_has_one_after_the_last_snapshot(self) -> None:
        house = House()
        await house.gateway.publish([draft("a", 1, **RETAINED), draft("b")])
        connection, channel = house.connect("a", framing=EVENT_STREAM)
        connection.start(None)
        await house.gateway.publish([draft("a", 2)])
        await turn()
        assert self.blocks(channel) == [("welcome", None), ("a", None), ("synced", "e1:2"), ("a", "e1:3")]

    async def test_events_among_the_snapshots_have_none(self) -> None:
        house = House()
        await house.gateway.publish([draft("a", KIB, key=str(n), **RETAINED) for n in range(80)])
        connection, channel = house.connect("a", framing=EVENT_STREAM, channel=FakeChannel(soft_bytes=1000))
        channel.block()
        connection.start(None)
        await house.gateway.publish([draft("a", "newer", key="79", **RETAINED)])
        channel.unblock()
        await house.gateway.publish([draft("a", "live", key="79", **RETAINED)])
        await turn()
        blocks = self.blocks(channel)
        assert blocks[:-2] == [("welcome", None), *[("a", None)] * 80]
        assert blocks[-2:] == [("synced", "e1:81"), ("a", "e1:82")]

    async def test_what_is_replayed_has_them_and_they_never_go_back(self) -> None:
        house = House(history_events=100)
        await house.gateway.publish([draft("a", KIB) for n in range(100)])
        connection, channel = house.connect("a", framing=EVENT_STREAM, channel=FakeChannel(soft_bytes=1000))
        channel.block()
        connection.start(Position(EPOCH, 20))
        await house.gateway.publish([draft("a", KIB) for n in range(400)])
        channel.unblock()
        blocks = self.blocks(channel)
        assert [kind for kind, _ in blocks if kind != "a"] == ["welcome", "gap", "synced"]
        assert all((place is None) is (kind in {"welcome", "gap"}) for kind, place in blocks)
        places = [int(place.rpartition(":")[2]) for _, place in blocks if place]
        assert places == sorted(places)
        assert places[0] == 21
        assert places[-1] == 500


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
            ("synced", None, None),
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
        first, synced, second, synced_again = channel.received()
        assert (synced["type"], synced["data"]) == ("synced", {"epoch": EPOCH, "seq": 1})
        assert synced_again == synced
        assert first["data"] == {"types": ["a.*"], "added": [], "epoch": EPOCH, "seq": 1}
        assert second["data"]["added"] == ["a.b"]

    async def test_the_position_in_an_acknowledgement_that_adds_nothing_is_complete(self) -> None:
        house = House()
        connection, channel, _ = house.started("a")
        await house.gateway.publish([draft("a")])
        ask(connection, {"type": "subscribe", "types": []})
        received = channel.received()
        assert types(received) == ["a", "subscribed", "synced"]
        assert received[2]["data"]["seq"] == 1
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
        assert types(received) == ["b", "authenticated", "synced", "a"]
        assert received[2]["data"] == {"epoch": EPOCH, "seq": 1}
        assert (received[1]["id"], received[1]["data"]) == (4, {"types": ["a", "heartbeat"]})
        assert connection.grant.name == "a"

    async def test_a_wider_token_hands_over_what_could_not_be_seen_before(self) -> None:
        house = self.house()
        narrow = Grant(allowed=PatternSet(["a"]))
        await house.gateway.publish(
            [draft("source.freshness", key=name, retain=True, about=frozenset({name})) for name in ("a", "b")]
        )
        connection, channel, received = house.started("source.freshness", grant=narrow)
        assert [message.get("key") for message in received] == [None, "a", None]
        ask(connection, {"type": "auth", "data": {"token": "all"}})
        received = channel.received()
        assert [message.get("key") for message in received] == [None, "b", None]
        assert types(received)[-1] == "synced"

    async def test_a_token_that_is_not_known_changes_nothing(self) -> None:
        house = self.house()
        connection, channel, _ = house.started("a", "b")
        ask(connection, {"type": "auth", "id": 5, "data": {"token": "who"}})
        await house.gateway.publish([draft("b")])
        await turn()
        error, event = channel.received()
        assert (error["type"], error["id"], error["data"]["code"]) == ("error", 5, "UNAUTHENTICATED")
        assert event["type"] == "b"
        assert connection.grant.name == "anonymous"

    async def test_a_token_that_may_not_subscribe_any_more_ends_the_connection(self) -> None:
        house = self.house()
        connection, channel, _ = house.started("a")
        ask(connection, {"type": "auth", "id": 5, "data": {"token": "publisher"}})
        assert channel.ended == ("close", CloseCode.FORBIDDEN)
        assert [message["data"] for message in channel.received()] == [
            {"code": 4403, "message": "expected a token with the role 'subscriber'", "retryable": False}
        ]


class TestStalledTransport:
    async def stalled(self, house: House) -> tuple[Any, FakeChannel]:
        connection, channel, _ = house.started("big", channel=FakeChannel(soft_bytes=1000))
        channel.block()
        await house.gateway.publish([draft("big", KIB * 2)])
        await turn()
        assert not connection.subscriber.is_live
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
        assert types(received) == ["big", "big", "pong", "subscribed", "synced", "pong"]
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
        assert types(channel.received()) == ["subscribed", "synced", "subscribed", "a", "a", "a", "synced"]
        channel.take()
        assert types(channel.received()) == ["subscribed", "synced"]

    async def test_what_comes_among_the_first_snapshots_is_answered_after_synced(self) -> None:
        house = House()
        await house.gateway.publish([draft("a", KIB, key=str(n), **RETAINED) for n in range(200)])
        connection, channel = house.connect("a", channel=FakeChannel(soft_bytes=1000))
        channel.block()
        connection.start(None)
        connection.receive(b"no json")
        ask(connection, {"type": "subscribe", "types": ["b"]})
        ask(connection, {"type": "ping"})
        ask(connection, {"type": "unsubscribe", "types": ["a"]})
        channel.unblock()
        assert types(channel.received()) == [
            "welcome",
            *["a"] * 200,
            "synced",
            "error",
            "subscribed",
            "synced",
            "pong",
            "unsubscribed",
        ]

    async def test_the_next_of_several_messages_waits_for_the_snapshots_of_the_one_before(self) -> None:
        house = House()
        await house.gateway.publish([draft(name, KIB, key=str(n), **RETAINED) for n in range(100) for name in "ab"])
        connection, channel, _ = house.started(channel=FakeChannel(soft_bytes=1000))
        channel.block()
        for request in ("subscribe", "ping"):
            for name in "ab":
                ask(connection, {"type": request, "types": [name]})
        for _ in range(1000):
            channel.take(1000)
        told = types(channel.received())
        first = ["subscribed", *["a"] * 100, "synced"]
        assert told == [*first, "subscribed", *["b"] * 100, "synced", "pong", "pong"]


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
            (CloseCode.INTERNAL_ERROR, True),
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
            channel.may_fail = True
            getattr(connection, end)(code, "the reason")
            received = channel.received()
            assert channel.ended == (end, code)
            assert [m["data"] for m in received] == [
                {
                    "code": code,
                    "message": "the reason",
                    "retryable": code in {CloseCode.TOO_SLOW, CloseCode.INTERNAL_ERROR},
                }
            ] * told

    @pytest.mark.parametrize("step", ["a request", "snapshots", "a welcome", "a drained transport", "a review"])
    async def test_a_failure_of_ours_ends_its_own_connection_and_is_logged_once(
        self, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: object, **__: object) -> None:
            raise RuntimeError("unforeseen")

        house = House()
        _, other, _ = house.started("a")
        connection, channel = house.connect("a")
        channel.may_fail = True
        with structlog.testing.capture_logs() as logs, monkeypatch.context() as patch:
            if step == "a welcome":
                patch.setattr(house.gateway._stream.history, "gap_reason", fails)
                connection.start(house.gateway.position)
            else:
                connection.start(None)
            if step == "a request":
                patch.setattr(StreamSession, "receive", fails)
                ask(connection, {"type": "ping"})
            elif step == "snapshots":
                await house.gateway.publish([draft("b", retain=True)])
                patch.setattr(house.gateway.retained, "snapshot", fails)
                ask(connection, {"type": "subscribe", "types": ["b"]})
            elif step != "a welcome":
                patch.setattr(connection.subscriber.__class__, "resume", fails)
                patch.setattr(connection.subscriber.__class__, "review", fails)
                connection.resume() if step == "a drained transport" else connection.review(house.clock.now())
            ask(connection, {"type": "ping"})
        assert channel.ended == ("close", CloseCode.INTERNAL_ERROR)
        [entry] = [entry for entry in logs if entry["log_level"] == "error"]
        assert (entry["client_id"], str(entry["exc_info"])) == (connection.id, "unforeseen")
        assert entry["exc_info"].__traceback__ is not None
        last = channel.received()[-1]
        assert (last["type"], last["data"]["code"], last["data"]["retryable"]) == ("connection_error", 1011, True)
        await house.gateway.publish([draft("a")])
        await turn()
        assert types(other.received()) == ["a"]

    async def test_what_cannot_be_handed_over_to_one_client_reaches_the_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        house = House()
        channels = [house.started("a")[1] for _ in range(3)]
        broken = channels[1]
        broken.may_fail = True

        def fails(data: bytes) -> None:
            raise RuntimeError("unforeseen")

        writing = house.gateway.clients.connections[1].subscriber
        writing.write = fails
        assert writing.cohort is not None
        writing.cohort.file(writing)
        with structlog.testing.capture_logs() as logs:
            await house.gateway.publish([draft("a")])
            await turn()
        assert broken.ended == ("abort", CloseCode.INTERNAL_ERROR), "not even the goodbye can be written"
        assert [types(channel.received()) for channel in channels] == [["a"], [], ["a"]]
        assert [str(entry["exc_info"]) for entry in logs if entry["log_level"] == "error"] == ["unforeseen"]
        await house.gateway.publish([draft("a")])
        await turn()
        assert types(channels[2].received()) == ["a"]

    async def test_nothing_of_a_client_that_left_is_kept_for_the_collector(self) -> None:
        house = House()
        gc.disable()
        try:
            connection, channel, _ = house.started("*")
            house_stream = connection.subscriber._stream
            ask(connection, {"type": "subscribe", "types": ["a"]})
            house.gateway.clients.disconnect(connection, LeaveReason.CLIENT_CLOSED)
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
