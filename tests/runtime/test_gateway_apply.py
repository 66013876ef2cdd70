"""What other options change in a running gateway, all in one step."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from fanout import EPOCH, House, draft, options, snapshots_of, types

from tidegate.core.access.grant import UNRESTRICTED
from tidegate.core.delivery.session import SessionLimits
from tidegate.core.events import Position
from tidegate.core.rate import Rate
from tidegate.core.topics import PatternSet
from tidegate.errors import AccessRefused, LeaveReason, PublishError

KEPT = {"retain": True}


def grown(*more: str, **changes: Any) -> Any:
    """The options with further sources."""
    return options(source_types=frozenset({"system.status", "storage.update", *more}), **changes)


class TestHistory:
    async def test_a_smaller_history_is_cut_at_once(self) -> None:
        house = House()
        await house.gateway.publish([draft("a", n) for n in range(10)])
        house.gateway.apply(options(history_events=3))
        _, _, received = house.started("a", since=Position(EPOCH, 6))
        assert types(received) == ["welcome", "gap", "synced"]
        _, _, received = house.started("a", since=Position(EPOCH, 7))
        assert types(received) == ["welcome", "a", "a", "a", "synced"]

    async def test_a_larger_one_keeps_more_from_now_on(self) -> None:
        house = House(history_events=2)
        await house.gateway.publish([draft("a", n) for n in range(3)])
        house.gateway.apply(options(history_events=4))
        await house.gateway.publish([draft("a", n) for n in range(2)])
        _, _, received = house.started("a", since=Position(EPOCH, 1))
        assert types(received) == ["welcome", "a", "a", "a", "a", "synced"]

    async def test_a_client_in_its_replay_gets_what_is_cut(self) -> None:
        house = House()
        await house.gateway.publish([draft("a", "x" * 100, **KEPT)] + [draft("b", n, **KEPT) for n in range(5)])
        connection, channel = house.connect("*")
        channel.soft_bytes = 10
        channel.block()
        connection.start(Position(EPOCH, 0))
        house.gateway.apply(options(history_events=1))
        channel.unblock()
        received = channel.received()
        assert [each.get("seq") for each in received if each["type"] in "ab"] == [1, 2, 3, 4, 5, 6]


class TestNewSources:
    async def test_what_publishers_had_under_the_name_is_gone(self) -> None:
        house = House()
        await house.gateway.publishers.publish(
            [draft("lab.job", 1, key="k", **KEPT), draft("lab.job", 2, **KEPT)], UNRESTRICTED
        )
        _, channel, _ = house.started("*")
        house.gateway.apply(grown("lab.job"))
        await asyncio.sleep(0)
        told = channel.received()
        assert [(e["type"], e.get("key"), e.get("gone")) for e in told] == [
            ("lab.job", "k", True),
            ("lab.job", None, True),
        ]
        assert snapshots_of(house.gateway, "lab.job") == []
        with pytest.raises(PublishError, match="polled") as refused:
            await house.gateway.publishers.publish([draft("lab.job", 3)], UNRESTRICTED)
        assert refused.value.status == 403
        assert (house.gateway._kept.quota.keys, house.gateway._kept.quota.bytes) == (0, 0)

    async def test_their_figures_begin_with_0_also_when_they_come_back(self) -> None:
        house = House()
        _, channel, _ = house.started("lab.job")
        house.gateway.apply(grown("lab.job"))
        await house.gateway.publish([draft("lab.job", 1)])
        await asyncio.sleep(0)
        assert types(channel.received()) == ["lab.job"]
        before = house.gateway.traffic.of("lab.job")
        assert (before.published, before.live) == (1, 1)
        house.gateway.apply(grown("lab.job"))
        assert house.gateway.traffic.of("lab.job") is before
        house.gateway.apply(grown())
        house.gateway.apply(grown("lab.job"))
        after = house.gateway.traffic.of("lab.job")
        assert (after.published, after.published_bytes, after.live) == (0, 0, 0)

    async def test_a_value_of_the_source_stays(self) -> None:
        """The round that ends what has expired must not take it for what a publisher had."""
        house = House()
        gateway = house.gateway
        await gateway.publishers.publish([draft("lab.job", n, key=f"k{n}", **KEPT) for n in range(600)], UNRESTRICTED)
        gateway.apply(grown("lab.job"))
        await gateway.publish([draft("lab.job", "ours", key="k599", source="engine", **KEPT)])
        running = asyncio.create_task(gateway.run())
        for _ in range(3):
            await asyncio.sleep(0.01)
            house.clock.advance(1.1)
        await asyncio.sleep(0.01)
        running.cancel()
        assert list(gateway.retained.walk(["lab.job"])) == [("lab.job", "k599")]
        assert not gateway.published.expires

    async def test_a_type_without_values_is_known_at_once(self) -> None:
        house = House()
        house.gateway.apply(grown("lab.job"))
        assert snapshots_of(house.gateway, "lab.job") == []

    async def test_the_type_of_a_removed_source_stays_reserved(self) -> None:
        house = House()
        house.gateway.apply(options(source_types=frozenset({"system.status"})))
        with pytest.raises(PublishError) as refused:
            await house.gateway.publishers.publish([draft("storage.update", 1)], UNRESTRICTED)
        assert refused.value.status == 403
        assert snapshots_of(house.gateway, "storage.update") == []


class TestDefaults:
    async def test_they_are_for_those_who_connect_later(self) -> None:
        house = House()
        clients = house.gateway.clients
        before, _ = house.connect(*clients.patterns_for(None, UNRESTRICTED).patterns)
        house.gateway.apply(grown("lab.job", default_types=("lab.job",)))
        assert clients.patterns_for(None, UNRESTRICTED) == PatternSet(["lab.job"])
        assert "lab.job" not in before.patterns.patterns

    async def test_who_was_connected_meanwhile_gets_what_it_lacks_when_it_comes_back(self) -> None:
        """A browser's EventSource names no patterns, and comes back with the last id that it got."""
        house = House(default_types=("a",))
        await house.gateway.publish([draft("b", 1, **KEPT)])
        old, channel = house.connect("a")
        old.start(None, by_default=True)
        house.gateway.apply(options(default_types=("a", "b")))
        await house.gateway.publish([draft("b", 2, **KEPT), draft("a", 3, **KEPT)])
        await asyncio.sleep(0)
        assert types(channel.received())[-1] == "a"
        again, channel = house.connect("a", "b")
        again.start(Position(EPOCH, 3), by_default=True)
        received = channel.received()
        assert types(received) == ["welcome", "b", "synced"]
        assert (received[0]["data"]["resumed"], received[1]["data"], received[1]["snapshot"]) == (True, 2, True)

    async def test_once_these_have_left_a_later_place_is_certain(self) -> None:
        house = House(default_types=("a",))
        old, _ = house.connect("a")
        old.start(None, by_default=True)
        house.gateway.apply(options(default_types=("a", "b")))
        await house.gateway.publish([draft("b", 1, **KEPT)])
        house.gateway.clients.disconnect(old, LeaveReason.CLIENT_CLOSED)
        told = {}
        for seq in (1, 2):
            again, channel = house.connect("a", "b")
            again.start(Position(EPOCH, seq), by_default=True)
            told[seq] = types(channel.received())
            house.gateway.clients.disconnect(again, LeaveReason.CLIENT_CLOSED)
            await house.gateway.publish([draft("c", 1)])
        assert told == {1: ["welcome", "b", "synced"], 2: ["welcome", "synced"]}

    async def test_equal_defaults_change_nothing(self) -> None:
        house = House(default_types=("a",))
        await house.gateway.publish([draft("a", 1)])
        house.gateway.apply(options(default_types=("a",), max_clients=7))
        again, channel = house.connect("a")
        again.start(Position(EPOCH, 0), by_default=True)
        assert types(channel.received()) == ["welcome", "a", "synced"]


class TestLimits:
    async def test_nobody_is_thrown_out_by_fewer_places(self) -> None:
        house = House()
        open_now = [house.connect("a")[0] for _ in range(3)]
        house.gateway.apply(options(max_clients=2))
        assert house.gateway.clients.connections == open_now
        with pytest.raises(AccessRefused, match="all 2 places"):
            house.gateway.clients.check_room()
        house.gateway.apply(options(max_clients=4))
        house.gateway.clients.check_room()

    async def test_the_limits_of_a_session_are_those_of_its_beginning(self) -> None:
        house = House()
        old, old_channel, _ = house.started()
        house.gateway.apply(options(session_limits=SessionLimits(patterns=1, messages_per_s=50.0, messages_burst=100)))
        new, new_channel, _ = house.started()
        for connection in (old, new):
            connection.receive(b'{"type":"subscribe","types":["a","b"]}')
        assert types(old_channel.received()) == ["subscribed", "synced"]
        assert [each["data"]["code"] for each in new_channel.received()] == ["TOO_MANY_SUBSCRIPTIONS"]

    async def test_publishers(self) -> None:
        house = House()
        publish = house.gateway.publishers.publish
        house.gateway.apply(options(event_bytes=3, retained_keys=1, publishes=Rate(1.0, 2)))
        for drafts, status in (
            ([draft("a", "long")], 413),
            ([draft("a", 1)] * 3, 413),
            ([draft("a", 1, key="1", **KEPT), draft("a", 1, key="2", **KEPT)], 507),
        ):
            with pytest.raises(PublishError) as refused:
                await publish(drafts, UNRESTRICTED)
            assert refused.value.status == status
        await publish([draft("a", 1)] * 2, UNRESTRICTED)
        with pytest.raises(PublishError) as refused:
            await publish([draft("a", 1)], UNRESTRICTED)
        assert refused.value.status == 429

    async def test_the_hub_keeps_to_the_smallest_buffers(self) -> None:
        house = House()
        limits = options().send_limits
        small = type(limits)(hard_bytes=4000, grace_s=10.0)
        house.connect("a")
        house.gateway.apply(options(send_limits=small))
        assert house.gateway._hub.write_bytes == 1000
        house.connect("a")
        house.gateway.apply(options())
        assert house.gateway._hub.write_bytes == 1000


class TestHeartbeats:
    async def beats(self, house: House, channel: Any, seconds: int) -> list[int]:
        """In which of the next `seconds` a heartbeat comes."""
        came = []
        for second in range(1, seconds + 1):
            house.clock.advance(1.0)
            for _ in range(5):
                await asyncio.sleep(0)
            came += [second for each in channel.received() if each["type"] == "heartbeat"]
        return came

    @pytest.mark.parametrize(("before", "after"), [(4.0, 2.0), (2.0, 4.0)])
    async def test_none_is_later_than_a_connected_client_was_told(self, before: float, after: float) -> None:
        house = House(heartbeat_interval_s=before)
        running = asyncio.create_task(house.gateway.run())
        await asyncio.sleep(0.01)
        old, channel, received = house.started("heartbeat")
        assert received[0]["data"]["heartbeat_interval_s"] == before
        assert await self.beats(house, channel, 8) == list(range(int(before), 9, int(before)))
        house.gateway.apply(options(heartbeat_interval_s=after))
        _, _, received = house.started("heartbeat")
        assert received[0]["data"]["heartbeat_interval_s"] == after
        assert await self.beats(house, channel, 4) == [2, 4]
        new, channel, _ = house.started("heartbeat")
        for connection in house.gateway.clients.connections:
            if connection is not new:
                house.gateway.clients.disconnect(connection, LeaveReason.CLIENT_CLOSED)
        assert old not in house.gateway.clients
        await self.beats(house, channel, 4)
        came = await self.beats(house, channel, 12)
        assert {later - earlier for earlier, later in pairwise(came)} == {after}
        running.cancel()

    async def test_a_wait_that_is_too_long_now_ends_at_once(self) -> None:
        house = House(heartbeat_interval_s=60.0)
        running = asyncio.create_task(house.gateway.run())
        await asyncio.sleep(0.01)
        _, channel, _ = house.started("heartbeat")
        assert await self.beats(house, channel, 5) == []
        house.gateway.apply(options(heartbeat_interval_s=2.0))
        for _ in range(5):
            await asyncio.sleep(0)
        assert types(channel.received()) == ["heartbeat"]
        assert await self.beats(house, channel, 4) == [2, 4]
        running.cancel()


async def test_nobody_is_told_anything_by_options_that_are_equal() -> None:
    house = House()
    await house.gateway.publish([draft("a", 1, **KEPT)])
    _, channel, _ = house.started("*")
    house.gateway.apply(options())
    assert channel.received() == []
    assert house.gateway.position == Position(EPOCH, 1)
