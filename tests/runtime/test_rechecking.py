"""What becomes of open connections when other tokens are accepted."""

import asyncio
import json
from typing import Any

import pytest
from fanout import EPOCH, House, ask, draft, knowing, types

from tidegate.core.access.grant import Grant, Role
from tidegate.core.events import Position
from tidegate.core.topics import PatternSet
from tidegate.errors import CloseCode, MessageError, MessageErrorCode
from tidegate.outbound.auth import OpenAuthenticator, TokenAuthenticator
from tidegate.runtime.connection import Connection
from tidegate.runtime.rechecking import CHANGED_AT_ONCE, UNDECIDED_S
from tidegate.secret import Secret

ALL = Grant(name="all")
NARROW = Grant(name="narrow", allowed=PatternSet(["a"]))


def connect(house: House, token: str, *patterns: str, **how: Any) -> tuple[Connection, Any]:
    """A client that was admitted with `token`, and is live."""
    connection, channel = house.connect(*patterns, grant=house.gateway.authentication.verify(token), **how)
    connection.token = Secret(token)
    connection.start(None)
    channel.received()
    return connection, channel


async def told(channel: Any) -> list[dict[str, Any]]:
    await asyncio.sleep(0)
    found: list[dict[str, Any]] = channel.received()
    return found


class Counting:
    """Accepts tokens that begin with a letter of `accepted`, and counts what it is asked."""

    def __init__(self, accepted: str, *, allowed: str = "*") -> None:
        self.accepted = accepted
        self.allowed = PatternSet([allowed])
        self.asked: list[str] = []
        self.revision = 0
        self.has_keys = True

    def verify(self, token: str) -> Grant:
        self.asked.append(token)
        if not self.has_keys:
            raise MessageError(MessageErrorCode.UNAUTHENTICATED, "not yet", retryable=True)
        if token[:1] not in self.accepted:
            raise MessageError(MessageErrorCode.UNAUTHENTICATED, "expected another token")
        return Grant(name=token, allowed=self.allowed)


async def test_who_has_a_token_that_is_gone_is_closed_and_told_why() -> None:
    house = House(authenticator=knowing({"old": ALL, "kept": ALL}))
    _, gone = connect(house, "old", "*")
    _, kept = connect(house, "kept", "*")
    house.gateway.authenticate_with(knowing({"kept": ALL}))
    [error] = gone.received()
    assert (error["type"], error["data"]["code"], error["data"]["retryable"]) == ("connection_error", 4401, False)
    assert gone.ended == ("close", CloseCode.UNAUTHENTICATED)
    await house.gateway.publish([draft("a", 1)])
    assert types(await told(kept)) == ["a"]
    assert (kept.ended, await told(gone)) == (None, [])


async def test_who_lost_the_role_is_closed_for_good() -> None:
    house = House(authenticator=knowing({"t": ALL}))
    _, channel = connect(house, "t", "*")
    house.gateway.authenticate_with(knowing({"t": Grant(roles=frozenset({Role.PUBLISHER}))}))
    assert [each["data"]["code"] for each in channel.received()] == [4403]
    assert channel.ended == ("close", CloseCode.FORBIDDEN)


async def test_patterns_that_are_not_covered_end_and_are_named() -> None:
    house = House(authenticator=knowing({"t": ALL}))
    await house.gateway.publish([draft("a", 1, retain=True), draft("b", 2, retain=True)])
    connection, channel = connect(house, "t", "*", "a", "b")
    await house.gateway.publish([draft("b", 3)])
    house.gateway.authenticate_with(knowing({"t": NARROW}))
    await house.gateway.publish([draft("a", 4), draft("b", 5)])
    before, ended, after = await told(channel)
    assert (before["type"], before["seq"]) == ("b", 3), "it was published while the token covered it"
    assert ended == {
        "type": "unsubscribed",
        "timestamp": ended["timestamp"],
        "data": {"types": ["a"], "removed": ["*", "b"]},
    }
    assert (after["type"], after["seq"]) == ("a", 4)
    ask(connection, {"type": "subscribe", "types": ["b"]})
    assert [each["data"]["code"] for each in await told(channel)] == ["FORBIDDEN"]
    assert connection.grant == NARROW


async def test_a_wider_token_says_nothing_and_can_subscribe_to_more() -> None:
    house = House(authenticator=knowing({"t": NARROW}))
    await house.gateway.publish([draft("b", 1, retain=True)])
    about = frozenset({"b"})
    await house.gateway.publish([draft("source.freshness", {}, key="b", retain=True, about=about)])
    connection, channel = connect(house, "t", "a", "source.freshness")
    house.gateway.authenticate_with(knowing({"t": ALL}))
    await house.gateway.publish([draft("source.freshness", {}, key="b", retain=True, about=about)])
    assert await told(channel) == []
    ask(connection, {"type": "unsubscribe", "types": ["c"]})
    await house.gateway.publish([draft("source.freshness", {}, key="b", retain=True, about=about)])
    assert types(await told(channel)) == ["unsubscribed"], "no change without the value before it"
    ask(connection, {"type": "subscribe", "types": ["b"]})
    received = await told(channel)
    assert types(received) == ["subscribed", "b", "source.freshness", "synced"] or types(received) == [
        "subscribed",
        "source.freshness",
        "b",
        "synced",
    ]
    await house.gateway.publish([draft("source.freshness", {}, key="b", retain=True, about=about)])
    assert types(await told(channel)) == ["source.freshness"]


async def test_what_waits_for_a_client_that_does_not_read_goes_by_the_new_token() -> None:
    house = House(authenticator=knowing({"t": ALL}))
    _, channel = connect(house, "t", "*", "a")
    channel.soft_bytes = 10
    channel.block()
    await house.gateway.publish([draft("a", 0)])
    await asyncio.sleep(0)
    await house.gateway.publish([draft("b", n, key=f"{n}", retain=True) for n in range(3)] + [draft("a", 9)])
    await asyncio.sleep(0)
    house.gateway.authenticate_with(knowing({"t": NARROW}))
    channel.unblock()
    received = await told(channel)
    assert [(each["type"], each.get("seq")) for each in received] == [("a", 1), ("unsubscribed", None), ("a", 5)]


async def test_a_stream_that_has_not_begun_begins_with_what_is_left() -> None:
    house = House(authenticator=knowing({"t": ALL}))
    connection, channel = house.connect("*", "a")
    connection.token = Secret("t")
    house.gateway.authenticate_with(knowing({"t": NARROW}))
    assert channel.received() == []
    connection.start(None)
    received = channel.received()
    assert (types(received), received[0]["data"]["subscriptions"]) == (["welcome", "synced"], ["a"])


async def test_who_was_admitted_before_the_change_is_checked_when_the_stream_opens() -> None:
    house = House(authenticator=knowing({"t": ALL}))
    revision = house.gateway.authentication.revision
    house.gateway.authenticate_with(knowing({"u": ALL}))
    connection, channel = house.connect("*", token=Secret("t"), revision=revision)
    assert channel.ended == ("close", CloseCode.UNAUTHENTICATED)
    connection.start(None)
    assert types(channel.received()) == ["connection_error"]


async def test_a_token_that_was_renewed_is_the_one_that_counts() -> None:
    house = House(authenticator=knowing({"first": ALL, "second": ALL}))
    connection, channel = connect(house, "first", "a")
    ask(connection, {"type": "auth", "data": {"token": "second"}})
    house.gateway.authenticate_with(knowing({"second": ALL}))
    assert channel.ended is None
    ask(connection, {"type": "auth", "data": {"token": "first"}})
    assert types(channel.received()) == ["authenticated", "synced", "error"]
    house.gateway.authenticate_with(knowing({"first": ALL}))
    assert channel.ended == ("close", CloseCode.UNAUTHENTICATED)


async def test_the_expiry_of_the_new_grant_counts() -> None:
    house = House(authenticator=knowing({"t": ALL}))
    running = asyncio.create_task(house.gateway.run())
    await asyncio.sleep(0.01)
    _, channel = connect(house, "t", "a")
    ends = house.clock.now().wall + 5.0
    house.gateway.authenticate_with(knowing({"t": Grant(name="all", expires_at=ends)}))
    for seconds in (4.0, 2.0):
        assert channel.ended is None
        house.clock.advance(seconds)
        await asyncio.sleep(0.01)
    assert channel.ended == ("close", CloseCode.UNAUTHENTICATED)
    running.cancel()


async def test_no_token_is_enough_until_one_is_needed() -> None:
    house = House(authenticator=OpenAuthenticator())
    _, nobody = connect(house, "", "a")
    _, somebody = connect(house, "t", "a")
    house.gateway.authenticate_with(knowing({"t": ALL}))
    assert (nobody.ended, somebody.ended) == (("close", CloseCode.UNAUTHENTICATED), None)


async def test_what_changed_without_a_reload_is_noticed_within_a_second() -> None:
    authenticator = Counting("ab")
    house = House(authenticator=authenticator)
    running = asyncio.create_task(house.gateway.run())
    await asyncio.sleep(0.01)
    _, gone = connect(house, "b1", "x")
    _, kept = connect(house, "a1", "x")
    authenticator.asked.clear()
    house.clock.advance(1.0)
    await asyncio.sleep(0.01)
    assert authenticator.asked == []
    authenticator.accepted = "a"
    authenticator.revision += 1
    house.clock.advance(1.0)
    await asyncio.sleep(0.01)
    assert (gone.ended, kept.ended) == (("close", CloseCode.UNAUTHENTICATED), None)
    running.cancel()


@pytest.mark.parametrize("comes", [True, False])
async def test_a_token_that_cannot_be_checked_yet_is_given_some_time(comes: bool) -> None:
    house = House(authenticator=Counting("ab"))
    running = asyncio.create_task(house.gateway.run())
    await asyncio.sleep(0.01)
    channels = {token: connect(house, token, "x")[1] for token in ("a", "b")}
    later = Counting("a")
    later.has_keys = False
    house.gateway.authenticate_with(later)
    for _ in range(3):
        house.clock.advance(1.0)
        await asyncio.sleep(0.01)
    assert {channel.ended for channel in channels.values()} == {None}
    if comes:
        later.has_keys = True
    house.clock.advance(UNDECIDED_S)
    await asyncio.sleep(0.01)
    house.clock.advance(1.0)
    await asyncio.sleep(0.01)
    ended = {token: channel.ended for token, channel in channels.items()}
    assert ended == (
        {"a": None, "b": ("close", CloseCode.UNAUTHENTICATED)}
        if comes
        else dict.fromkeys("ab", ("close", CloseCode.DRAINING))
    )
    running.cancel()


async def test_an_authenticator_that_fails_ends_the_connection_and_nothing_else() -> None:
    class Broken(Counting):
        def verify(self, token: str) -> Grant:
            if token == "b":
                raise RuntimeError("other people's code")
            return super().verify(token)

    house = House(authenticator=Counting("ab"))
    _, first = connect(house, "b", "x")
    _, second = connect(house, "a", "x")
    first.may_fail = True
    house.gateway.authenticate_with(Broken("ab"))
    assert (first.ended, second.ended) == (("close", CloseCode.INTERNAL_ERROR), None)


class TestThousandConnections:
    """The loop must have its turns in between: what is counted are steps, since a clock would measure the machine."""

    async def ended_per_turn(self, house: House, channels: list[Any]) -> list[int]:
        counts: list[int] = []
        while not counts or counts[-1] < len(channels):
            counts.append(sum(channel.ended is not None for channel in channels))
            await asyncio.sleep(0)
            assert len(counts) < 1000
        return counts

    async def test_each_with_a_token_of_its_own(self) -> None:
        authenticator = Counting("a")
        house = House(authenticator=authenticator, max_clients=2000)
        channels = [connect(house, f"a{n}", "x")[1] for n in range(1000)]
        other = Counting("b")
        house.gateway.authenticate_with(other)
        counts = await self.ended_per_turn(house, channels)
        assert counts[0] > 0, "the first at once"
        assert max(b - a for a, b in zip([0, *counts], counts, strict=False)) <= CHANGED_AT_ONCE
        assert len(other.asked) == 1000

    async def test_a_token_of_many_is_verified_once(self) -> None:
        house = House(authenticator=Counting("a"), max_clients=2000)
        channels = [connect(house, "a", "x")[1] for _ in range(1000)]
        other = Counting("ab")
        house.gateway.authenticate_with(other)
        assert other.asked == ["a"]
        assert {channel.ended for channel in channels} == {None}

    async def test_a_second_change_meanwhile_starts_over(self) -> None:
        house = House(authenticator=Counting("a"), max_clients=2000)
        channels = [connect(house, f"a{n}", "x")[1] for n in range(200)]
        house.gateway.authenticate_with(Counting("a", allowed="y"))
        house.gateway.authenticate_with(Counting("b"))
        await self.ended_per_turn(house, channels)
        assert {channel.ended for channel in channels} == {("close", CloseCode.UNAUTHENTICATED)}


async def test_a_place_stands_for_what_is_left() -> None:
    house = House(authenticator=knowing({"t": ALL}))
    _, channel = connect(house, "t", "a", "b")
    house.gateway.authenticate_with(knowing({"t": NARROW}))
    await house.gateway.publish([draft("a", 1), draft("b", 2), draft("a", 3)])
    seen = [each["seq"] for each in await told(channel) if "seq" in each]
    again, channel = house.connect("a", grant=NARROW)
    again.start(Position(EPOCH, seen[0]))
    assert [each.get("seq") for each in channel.received() if each["type"] == "a"] == [3]


async def test_no_token_is_shown() -> None:
    house = House(authenticator=TokenAuthenticator([]))
    connection, _ = house.connect("a", token=Secret("very-secret"), revision=(0, 0))
    shown = repr([connection.token, vars(house.gateway.clients), json.dumps(str(connection.token))])
    assert "very-secret" not in shown
