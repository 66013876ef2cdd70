import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from fanout import EPOCH, KIB, FakeChannel, House, ask, draft, snapshots_of, types
from msgspec import Raw

from tidegate.core.access.grant import EVERYTHING, UNRESTRICTED, Grant
from tidegate.core.delivery.framing import EVENT_STREAM
from tidegate.core.delivery.slowness import SendLimits
from tidegate.core.events import Draft
from tidegate.core.rate import Rate
from tidegate.core.topics import PatternSet
from tidegate.errors import AccessRefused, CloseCode, LeaveReason, PublishError, UnknownName
from tidegate.runtime.gateway import Gateway


async def turn() -> None:
    """Let the loop run what is due, the flush among it."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


class Sleep:
    """Lets time pass step by step: whoever sleeps goes on when the clock has come to the end of it, and no later."""

    def __init__(self, house: House) -> None:
        self._clock = house.clock

    async def advance(self, seconds: float) -> None:
        end = self._clock.elapsed + seconds
        await self._let_run()
        while (due := self._clock.next_due_in) is not None and self._clock.elapsed + due <= end:
            self._clock.advance(due)
            await self._let_run()
        self._clock.advance(end - self._clock.elapsed)
        await self._let_run()

    @staticmethod
    async def _let_run() -> None:
        """Whoever was woken, and whoever waits for that one in turn, runs up to the next sleep."""
        for _ in range(6):
            await asyncio.sleep(0)


@contextlib.contextmanager
def sleeping(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sleep]:
    yield Sleep(house)


@contextlib.asynccontextmanager
async def running(gateway: Gateway) -> Any:
    task = asyncio.create_task(gateway.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class TestPublish:
    async def test_gives_positions_and_tells_the_last(self) -> None:
        house = House()
        assert (await house.gateway.publish([draft("a"), draft("b")])).seq == 2
        assert (await house.gateway.publish([draft("a")])).seq == 3
        assert (await house.gateway.publish([])).seq == 3
        assert str(house.gateway.position) == f"{EPOCH}:3"

    async def test_what_one_turn_publishes_is_one_write(self) -> None:
        house = House()
        _, channel, _ = house.started("*")
        writes = channel.writes
        await house.gateway.publish([draft("a"), draft("b")])
        await house.gateway.publish([draft("c")])
        await turn()
        assert channel.writes == writes + 1
        assert [m["seq"] for m in channel.received()] == [1, 2, 3]

    async def test_is_counted_with_the_clients_it_reaches(self) -> None:
        house = House()
        house.started("a")
        house.started("*")
        await house.gateway.publish([draft("a"), draft("b")])
        await turn()
        of_a, of_b = house.gateway.traffic.of("a"), house.gateway.traffic.of("b")
        assert [(each.published, each.live) for each in (of_a, of_b)] == [(1, 2), (1, 1)]

    async def test_from_outside_is_all_or_nothing(self) -> None:
        house = House(event_bytes=10)
        bad: list[tuple[Draft, int]] = [
            (draft("system.status"), 403),
            (draft("heartbeat"), 403),
            (draft("welcome"), 403),
            (draft("Bad"), 400),
            (draft("a.*"), 400),
            (draft("a", "x" * 9), 413),
        ]
        for each, status in bad:
            with pytest.raises(PublishError) as caught:
                await house.gateway.publishers.publish([draft("a"), each], UNRESTRICTED)
            assert caught.value.status == status
        assert house.gateway.position.seq == 0
        assert (await house.gateway.publishers.publish([draft("a", "x" * 8)], UNRESTRICTED)).seq == 1


class TestRetained:
    async def test_a_published_value_can_be_forgotten_with_one_event(self) -> None:
        house = House()
        await house.gateway.publish([draft("a", 1, key="k", retain=True), draft("b", 2, retain=True)])
        _, channel, _ = house.started("*")
        assert (await house.gateway.publishers.forget("a", "k", UNRESTRICTED)).seq == 3
        await house.gateway.publishers.forget("b", "", UNRESTRICTED)
        await turn()
        keyed, plain = channel.received()
        assert (keyed["type"], keyed["key"], keyed["gone"], keyed["data"]) == ("a", "k", True, None)
        assert (plain["type"], plain["gone"], "key" in plain) == ("b", True, False)
        assert snapshots_of(house.gateway, None) == []

    @pytest.mark.parametrize(
        ("event_type", "key", "error"),
        [
            ("a", "other", UnknownName),
            ("b", "", UnknownName),
            ("system.status", "", PublishError),
            ("source.freshness", "", PublishError),
        ],
    )
    async def test_only_what_was_published_can_be_forgotten(
        self, event_type: str, key: str, error: type[Exception]
    ) -> None:
        house = House()
        await house.gateway.publish([draft("a", key="k", retain=True), draft("system.status", retain=True)])
        with pytest.raises(error):
            await house.gateway.publishers.forget(event_type, key, UNRESTRICTED)
        assert house.gateway.position.seq == 2

    async def test_a_value_is_forgotten_when_its_time_is_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        house = House()
        with sleeping(house, monkeypatch) as sleep:
            async with running(house.gateway):
                await house.gateway.publish(
                    [draft("short", retain=True, ttl_s=5.0), draft("kept", retain=True), draft("again", retain=True)]
                )
                await house.gateway.publish([draft("again", retain=True, ttl_s=5.0)])
                await house.gateway.publish([draft("prolonged", key="k", retain=True, ttl_s=5.0)])
                await house.gateway.publish([draft("prolonged", key="k", retain=True)])
                await sleep.advance(4.5)
                _, channel, _ = house.started("*")
                await sleep.advance(2.0)
                gone = [m for m in channel.received() if m.get("gone")]
                assert sorted(types(gone)) == ["again", "short"]
                await sleep.advance(10.0)
                assert [m["type"] for m in channel.received() if m.get("gone")] == []

    async def test_snapshots_show_what_may_be_seen(self) -> None:
        house = House()
        await house.gateway.publish(
            [
                draft("system.status", retain=True),
                draft("other", retain=True),
                draft("source.freshness", key="system.status", about=frozenset({"system.status"}), retain=True),
                draft("source.freshness", key="other", about=frozenset({"other"}), retain=True),
            ]
        )
        system = PatternSet(["system.*"])
        assert len(snapshots_of(house.gateway, None)) == 4
        assert len(snapshots_of(house.gateway, None, allowed=system)) == 2
        assert len(snapshots_of(house.gateway, "source.freshness", allowed=system)) == 1
        assert snapshots_of(house.gateway, "storage.update") == []
        for event_type, allowed in [("never", EVERYTHING), ("other", system)]:
            with pytest.raises(UnknownName):
                snapshots_of(house.gateway, event_type, allowed=allowed)

    async def test_snapshots_are_those_of_a_new_subscriber(self) -> None:
        house = House()
        await house.gateway.publish([draft("system.status", retain=True, as_of=0.0, stale=False, source="s")])
        house.gateway.refresh("system.status", 60.0)
        _, channel = house.connect("*")
        channel.taken.clear()
        house.gateway.clients.connections[0].start(None)
        [snapshot] = snapshots_of(house.gateway, "system.status")
        assert snapshot in bytes(channel.taken)
        assert b'"as_of":"1970-01-01T00:01:00.000Z"' in snapshot


class TestAdmission:
    async def test_no_more_than_the_places_there_are(self) -> None:
        house = House(max_clients=1)
        connection, _, _ = house.started()
        with pytest.raises(AccessRefused, match=r"server\.max_clients") as caught:
            house.gateway.clients.check_room()
        assert (caught.value.status, caught.value.retry_after_s) == (503, 2)
        house.gateway.clients.disconnect(connection, LeaveReason.CLIENT_CLOSED)
        house.gateway.clients.check_room()

    async def test_no_more_at_once_than_the_pace_allows_and_each_comes_back_at_its_own_time(self) -> None:
        house = House(connects=Rate(per_s=2.0, burst=3))
        for _ in range(3):
            house.gateway.clients.check_room()
            house.started()
        waits = []
        for _ in range(5):
            with pytest.raises(AccessRefused, match=r"limits\.connects_per_s") as caught:
                house.gateway.clients.check_room()
            assert caught.value.status == 503
            waits.append(caught.value.retry_after_s)
        assert set(waits) == {1, 2, 3, 4, 5}
        house.clock.advance(0.5)
        house.gateway.clients.check_room()
        house.started()
        with pytest.raises(AccessRefused):
            house.gateway.clients.check_room()

    async def test_whoever_is_not_let_in_uses_none_of_the_pace_up(self) -> None:
        house = House(connects=Rate(per_s=1.0, burst=1))
        for _ in range(100):
            house.gateway.clients.check_room()

    async def test_the_defaults_are_cut_down_to_what_is_covered(self) -> None:
        gateway = House().gateway
        narrow = Grant(allowed=PatternSet(["system.*"]))
        assert gateway.clients.patterns_for(None, narrow).sorted() == [
            "heartbeat",
            "notification",
            "rpc_error",
            "system.status",
        ]
        assert gateway.clients.patterns_for(PatternSet(), narrow) == PatternSet()
        assert gateway.clients.patterns_for(PatternSet(["system.a"]), narrow) == PatternSet(["system.a"])

    @pytest.mark.parametrize(
        ("patterns", "status"), [(["system.a", "b"], 403), ([f"system.x{n}" for n in range(9)], 400)]
    )
    async def test_what_is_asked_for_is_all_or_nothing(self, patterns: list[str], status: int) -> None:
        with pytest.raises(AccessRefused) as caught:
            House().gateway.clients.patterns_for(PatternSet(patterns), Grant(allowed=PatternSet(["system.*"])))
        assert caught.value.status == status

    async def test_who_comes_and_goes_is_counted_once(self) -> None:
        house = House()
        first, _, _ = house.started("*")
        second, _, _ = house.started("*", framing=EVENT_STREAM, transport="sse", channel=SilentChannel())
        assert house.gateway.clients.connections == [first, second]
        assert first.id != second.id
        house.gateway.clients.disconnect(second, LeaveReason.CLIENT_CLOSED)
        house.gateway.clients.disconnect(second, LeaveReason.ERROR)
        assert house.metrics.named("client_connected") == [("websocket",), ("sse",)]
        assert house.metrics.named("client_left") == [("sse", LeaveReason.CLIENT_CLOSED)]
        assert house.gateway.clients.connections == [first]

    async def test_interest_is_noticed(self) -> None:
        house = House()
        noticed: list[bool] = []
        house.gateway.on_interest = lambda: noticed.append(house.gateway.is_wanted("a.b"))
        connection, _, _ = house.started("b")
        await turn()
        assert noticed == [False]
        ask(connection, {"type": "subscribe", "types": ["a.*"]})
        await turn()
        assert noticed == [False, True]
        ask(connection, {"type": "subscribe", "types": ["a.*"]})
        ask(connection, {"type": "unsubscribe", "types": ["a.*"]})
        await turn()
        assert noticed == [False, True]

    async def test_interest_is_noticed_once_for_all_who_come_in_one_turn(self) -> None:
        house = House()
        noticed: list[bool] = []
        house.gateway.on_interest = lambda: noticed.append(house.gateway.is_wanted("a.b"))
        for _ in range(3):
            house.started("a.*")
        await turn()
        assert noticed == [True]

    async def test_who_wants_what_another_has_already_is_no_news(self) -> None:
        house = House()
        noticed: list[bool] = []
        house.gateway.on_interest = lambda: noticed.append(True)
        for patterns in ("a.*", "a.*", "b"):
            house.started(patterns)
            await turn()
        assert noticed == [True, True]

    async def test_who_still_catches_up_is_interested_too(self) -> None:
        house = House()
        channel = FakeChannel(soft_bytes=1)
        channel.block()
        house.started("a.*", channel=channel)
        assert house.gateway.is_wanted("a.b")
        assert not house.gateway.is_wanted("b")


class SilentChannel(FakeChannel):
    """Takes what is no WebSocket frame too."""

    def received(self) -> list[dict[str, Any]]:
        self.taken.clear()
        return []


class TestHeartbeat:
    async def test_tells_the_newest_position_and_is_in_no_history(self, monkeypatch: pytest.MonkeyPatch) -> None:
        house = House(heartbeat_interval_s=10.0)
        with sleeping(house, monkeypatch) as sleep:
            async with running(house.gateway):
                _, channel, _ = house.started("heartbeat")
                await house.gateway.publish([draft("a")])
                await sleep.advance(25.0)
                first, second = channel.received()
        assert first == {
            "type": "heartbeat",
            "timestamp": "2026-11-22T21:40:13.123Z",
            "data": {"epoch": EPOCH, "seq": 1, "uptime_s": 10.0, "clients": 1},
        }
        assert second["data"]["uptime_s"] == 20.0
        assert house.gateway.position.seq == 1

    async def test_comes_after_the_events_that_its_position_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        house = House(heartbeat_interval_s=1.0)
        with sleeping(house, monkeypatch) as sleep:
            async with running(house.gateway):
                _, channel, _ = house.started("*")
                await turn()
                house.clock.advance(1.0)
                await house.gateway.publish([draft("a")])
                await sleep.advance(0.0)
                received = channel.received()
        assert [(m["type"], m.get("seq")) for m in received] == [("a", 1), ("heartbeat", None)]
        assert received[1]["data"]["seq"] == 1


class TestReview:
    async def test_a_client_that_takes_nothing_is_ended_and_nobody_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        house = House(send_limits=SendLimits(hard_bytes=1 << 20, grace_s=10.0))
        with sleeping(house, monkeypatch) as sleep:
            async with running(house.gateway):
                _, stuck, _ = house.started("a", channel=FakeChannel(soft_bytes=1000))
                _, other, _ = house.started("a")
                stuck.block()
                await house.gateway.publish([draft("a", KIB)])
                await sleep.advance(10.0)
                assert stuck.ended is None
                await sleep.advance(2.0)
                assert stuck.ended == ("abort", CloseCode.TOO_SLOW)
                assert types(other.received()) == ["a"]
                assert other.ended is None

    async def test_a_token_that_expires_ends_the_stream(self, monkeypatch: pytest.MonkeyPatch) -> None:
        house = House()
        grant = Grant(expires_at=house.clock.now().wall + 5.0)
        with sleeping(house, monkeypatch) as sleep:
            async with running(house.gateway):
                _, channel, _ = house.started("a", grant=grant)
                await sleep.advance(4.5)
                assert channel.ended is None
                await sleep.advance(1.0)
                assert channel.ended == ("close", CloseCode.UNAUTHENTICATED)
                assert channel.received()[-1]["data"]["code"] == 4401


class TestSlowClients:
    async def test_one_over_the_hard_limit_is_ended_within_the_turn_and_nobody_else_notices(self) -> None:
        house = House(send_limits=SendLimits(hard_bytes=20_000, grace_s=10.0))
        _, stuck, _ = house.started("a", channel=FakeChannel(soft_bytes=1000))
        _, other, _ = house.started("a")
        stuck.block()
        for _ in range(30):
            await house.gateway.publish([draft("a", KIB)])
            await turn()
        assert stuck.ended == ("abort", CloseCode.TOO_SLOW)
        assert len(other.received()) == 30

    async def test_a_burst_does_not_take_a_client_over_a_small_hard_limit(self) -> None:
        house = House(send_limits=SendLimits(hard_bytes=20_000, grace_s=10.0))
        _, channel, _ = house.started("a", channel=FakeChannel(soft_bytes=1000))
        channel.block()
        await house.gateway.publish([draft("a", KIB, retain=True) for _ in range(30)])
        await turn()
        assert channel.ended is None
        channel.unblock()
        assert types(channel.received())[-2:] == ["gap", "a"]

    async def test_what_a_gap_skips_is_counted(self) -> None:
        house = House()
        _, channel, _ = house.started("*", channel=FakeChannel(soft_bytes=1000))
        channel.block()
        await house.gateway.publish([draft("a", KIB)])
        await turn()
        await house.gateway.publish([draft("b", n, retain=True) for n in range(3)])
        await turn()
        counts = house.gateway.traffic.of("b")
        assert (counts.live, counts.skipped, counts.conflated) == (0, 0, 0)
        channel.unblock()
        assert (counts.live, counts.skipped, counts.conflated) == (1, 2, 2)
        assert types(channel.received()) == ["a", "gap", "b"]


class TestDrain:
    async def test_tells_everyone_when_to_come_back_then_closes_them_one_by_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        house = House()
        channels = [house.started("a")[1] for _ in range(4)]
        with sleeping(house, monkeypatch) as sleep:
            draining = asyncio.create_task(house.gateway.drain(5.0))
            await sleep.advance(0.0)
            with pytest.raises(AccessRefused) as caught:
                house.gateway.clients.check_room()
            assert (caught.value.status, caught.value.retry_after_s) == (503, 5)
            notices = [channel.received() for channel in channels]
            assert [types(each) for each in notices] == [["notification"]] * 4
            assert {each[0]["data"]["code"] for each in notices} == {"DRAINING"}
            returns = {each[0]["data"]["retry_after_ms"] for each in notices}
            assert len(returns) == 4
            assert min(returns) > 5000, "nobody comes back while everybody is refused"
            ended = []
            for _ in range(5):
                ended.append(sum(channel.ended == ("close", CloseCode.DRAINING) for channel in channels))
                await sleep.advance(1.0)
            assert ended == [1, 2, 3, 4, 4]
            await draining

    async def test_it_is_spread_as_much_if_nobody_was_connected_for_a_moment_before(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        house = House()
        house.gateway.clients.disconnect(house.started("a")[0], LeaveReason.CLIENT_CLOSED)
        channels = [house.started("a")[1] for _ in range(4)]
        with sleeping(house, monkeypatch) as sleep:
            draining = asyncio.create_task(house.gateway.drain(5.0))
            ended = []
            for _ in range(4):
                await sleep.advance(0.0)
                ended.append(sum(channel.ended is not None for channel in channels))
                await sleep.advance(1.0)
            assert ended == [1, 2, 3, 4]
            assert not draining.done(), "none of them has left yet"
            await sleep.advance(1.0)
            await draining

    async def test_nothing_comes_between_what_the_first_is_told_and_its_close(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        house = House()
        channel = house.started("a")[1]
        with sleeping(house, monkeypatch) as sleep:
            draining = asyncio.create_task(house.gateway.drain(5.0))
            publishing = asyncio.create_task(house.gateway.publish([draft("a")]))
            await sleep.advance(0.0)
            assert types(channel.received()) == ["notification"]
            assert channel.ended == ("close", CloseCode.DRAINING)
            await publishing
            await sleep.advance(5.0)
            await draining

    async def test_with_nobody_connected_it_is_over_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        house = House()
        left = house.started("a")[0]
        house.gateway.clients.disconnect(left, LeaveReason.CLIENT_CLOSED)
        with sleeping(house, monkeypatch) as sleep:
            draining = asyncio.create_task(house.gateway.drain(5.0))
            await sleep.advance(0.0)
            assert draining.done()

    async def test_it_is_over_as_soon_as_the_last_one_has_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        house = House()
        connections = [house.started("a")[0] for _ in range(3)]
        with sleeping(house, monkeypatch) as sleep:
            draining = asyncio.create_task(house.gateway.drain(100.0))
            for connection in connections:
                await sleep.advance(1.0)
                assert not draining.done()
                house.gateway.clients.disconnect(connection, LeaveReason.CLIENT_CLOSED)
            await sleep.advance(0.0)
            assert draining.done()

    @pytest.mark.parametrize("leaves_after_s", [0.0, 1.0, 4.0])
    async def test_but_not_before_the_probes_of_a_load_balancer_have_seen_it(
        self, leaves_after_s: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        house = House()
        connection = house.started("a")[0]
        with sleeping(house, monkeypatch) as sleep:
            draining = asyncio.create_task(house.gateway.drain(5.0, at_least_s=3.0))
            await sleep.advance(leaves_after_s)
            house.gateway.clients.disconnect(connection, LeaveReason.CLIENT_CLOSED)
            await sleep.advance(0.0)
            assert draining.done() == (leaves_after_s > 3.0)
            await sleep.advance(max(0.0, 2.9 - leaves_after_s))
            assert draining.done() == (leaves_after_s > 3.0)
            await sleep.advance(0.1)
            assert draining.done()

    async def test_who_comes_meanwhile_is_told_how_long_it_may_still_take(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        house = House()
        house.started("a")
        with sleeping(house, monkeypatch) as sleep:
            draining = asyncio.create_task(house.gateway.drain(4.5))
            told = []
            for _ in range(5):
                await sleep.advance(0.9)
                with pytest.raises(AccessRefused) as caught:
                    house.gateway.clients.check_room()
                told.append(caught.value.retry_after_s)
            assert told == [4, 3, 2, 1, 1], "rounded up, and never at once"
            await draining

    async def test_who_left_meanwhile_is_no_trouble(self, monkeypatch: pytest.MonkeyPatch) -> None:
        house = House()
        connections = [house.started("a")[0] for _ in range(2)]
        with sleeping(house, monkeypatch) as sleep:
            draining = asyncio.create_task(house.gateway.drain(1.0))
            await sleep.advance(0.0)
            house.gateway.clients.disconnect(connections[1], LeaveReason.CLIENT_CLOSED)
            await sleep.advance(1.0)
            await draining


async def test_raw_data_passes_untouched() -> None:
    house = House()
    _, channel, _ = house.started("a")
    await house.gateway.publish([Draft(type="a", data=Raw(b'{"price":1.10,"big":1152921504606846976}'))])
    await turn()
    assert b'"data":{"price":1.10,"big":1152921504606846976}}' in bytes(channel.taken)
