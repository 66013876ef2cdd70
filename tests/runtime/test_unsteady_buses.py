"""What a gateway makes of a bus that is slow, fails, repeats itself, has holes, or begins another sequence."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from fanout import EPOCH, FakeChannel, House, ask, draft, snapshots_of, types
from house import virtual
from simulation.bus import Troubles, UnsteadyBus

from tidegate.core.access.grant import UNRESTRICTED
from tidegate.core.delivery.framing import EVENT_STREAM
from tidegate.core.envelope import encode_draft, event_at
from tidegate.core.events import Draft, Event, Position
from tidegate.core.rate import Rate
from tidegate.errors import BusRefused, CloseCode, LeaveReason, PublishError
from tidegate.runtime.lanes import RETRY_S

NEWS = draft("app.news", 1)
KEPT = draft("app.kept", 1, retain=True)


class UnsteadyHouse(House):
    """A gateway on a bus with troubles. Its clock stands still until the test moves it; the loop's goes on."""

    def __init__(self, troubles: Troubles = Troubles(), **changes: Any) -> None:  # noqa: B008 - it is frozen
        self.bus = UnsteadyBus(troubles, epoch=EPOCH)
        super().__init__(bus=self.bus, **changes)

    def at(self, seq: int, event_type: str, data: Any = None, *, age_s: float = 0.0, **fields: Any) -> Event:
        """An event at `seq`."""
        made = encode_draft(draft(event_type, data, **fields), timestamp=self.clock.now().wall)
        return event_at(seq, made, age_s=age_s)

    async def told(self, drafts: Sequence[Draft] = (NEWS,)) -> int:
        """What a publisher of `drafts` is told."""
        try:
            await self.gateway.publishers.publish(drafts, UNRESTRICTED)
        except PublishError as error:
            return error.status
        return 202


@contextlib.asynccontextmanager
async def passing(house: House) -> AsyncIterator[None]:
    """Time passes by itself, a second each turn."""

    async def pass_on() -> None:
        while True:
            await asyncio.sleep(0)
            house.clock.advance(0.1)

    passing = asyncio.create_task(pass_on())
    try:
        yield
    finally:
        passing.cancel()


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def seqs(received: list[dict[str, Any]]) -> list[int]:
    return [each["seq"] for each in received if "seq" in each]


class TestHoles:
    async def test_a_live_client_a_resume_and_synced_pass_over_them(self) -> None:
        house = UnsteadyHouse()
        _, channel, _ = house.started("*")
        house.gateway.deliver([house.at(3, "a"), house.at(4, "b"), house.at(9, "a", retain=True)])
        await turn()
        assert seqs(channel.received()) == [3, 4, 9]
        assert house.gateway.position == Position(EPOCH, 9)
        for since, replayed in ((0, [3, 4, 9]), (2, [3, 4, 9]), (3, [4, 9]), (6, [9]), (9, [])):
            _, _, received = house.started("*", since=Position(EPOCH, since))
            assert types(received)[0] == "welcome"
            assert received[0]["data"]["resumed"]
            assert seqs(received[1:]) == replayed
            assert (received[-1]["type"], received[-1]["data"]["seq"]) == ("synced", 9)

    async def test_what_fell_out_before_a_hole_is_a_gap_and_what_is_in_it_is_none(self) -> None:
        house = UnsteadyHouse(history_events=2)
        house.gateway.deliver([house.at(seq, "a") for seq in (1, 2, 7, 9)])
        assert types(house.started("*", since=Position(EPOCH, 1))[2])[:2] == ["welcome", "gap"]
        for since in (2, 4, 6):
            _, _, received = house.started("*", since=Position(EPOCH, since))
            assert seqs(received) == [7, 9]

    async def test_deliveries_are_counted_one_by_one(self) -> None:
        house = UnsteadyHouse()
        connection = house.started("a")[0]
        house.gateway.deliver([house.at(5, "a"), house.at(50, "a")])
        await turn()
        resumed = house.started("a", since=Position(EPOCH, 4))[0]
        assert (connection.subscriber.delivered, resumed.subscriber.delivered) == (2, 2)

    async def test_a_snapshot_after_one_is_the_newest_value(self) -> None:
        house = UnsteadyHouse()
        house.gateway.deliver([house.at(2, "a", 1, retain=True), house.at(8, "a", 2, retain=True)])
        _, _, received = house.started("a")
        assert types(received) == ["welcome", "a", "synced"]
        assert (received[1]["data"], received[1]["seq"], received[2]["data"]["seq"]) == (2, 8, 8)


async def test_what_was_delivered_before_is_dropped() -> None:
    house = UnsteadyHouse()
    _, channel, _ = house.started("*")
    house.gateway.deliver([house.at(1, "a"), house.at(2, "a", retain=True)])
    house.gateway.deliver([house.at(2, "a", "again", retain=True), house.at(3, "a")])
    house.gateway.deliver([house.at(1, "a"), house.at(3, "a")])
    await turn()
    assert seqs(channel.received()) == [1, 2, 3]
    (snapshot,) = snapshots_of(house.gateway, "a")
    assert b"again" not in snapshot


async def test_what_came_late_is_true_for_so_much_shorter() -> None:
    house = UnsteadyHouse()
    house.gateway.retained.restated = lambda kept: draft("a", "untrue")
    house.gateway.deliver([house.at(1, "a", "true", retain=True, fresh_s=10.0, age_s=4.0)])
    house.clock.advance(5.9)
    assert b'"true"' in snapshots_of(house.gateway, "a")[0]
    house.clock.advance(0.2)
    assert b'"untrue"' in snapshots_of(house.gateway, "a")[0]


async def test_the_timestamp_is_when_it_was_published_not_when_it_was_delivered() -> None:
    house = UnsteadyHouse(Troubles(latency_s=0.01))
    _, channel, _ = house.started("*")
    published = asyncio.create_task(house.gateway.publish([NEWS]))
    await asyncio.sleep(0)
    house.clock.advance(100.0)
    await published
    await turn()
    (event,) = channel.received()
    assert event["timestamp"] == "2026-11-22T21:40:03.123Z"


class TestAnotherSequence:
    async def test_everybody_is_sent_away_within_the_time_of_a_drain_and_hears_nothing_more(self) -> None:
        house = UnsteadyHouse(drain_s=4.0)
        channels = [house.started("*")[1] for _ in range(4)]
        await house.gateway.publish([KEPT])
        house.bus.change_epoch("e2")
        await house.gateway.publish([NEWS])
        ended = []
        for _ in range(5):
            await turn()
            ended.append(sum(channel.ended == ("close", CloseCode.DRAINING) for channel in channels))
            house.clock.advance(1.0)
        assert ended == [1, 2, 3, 4, 4]
        assert all(types(channel.received()) == ["app.kept"] for channel in channels), "what came before it, no more"

    async def test_one_that_asks_meanwhile_is_not_answered_and_one_that_left_is_not_closed(self) -> None:
        house = UnsteadyHouse(drain_s=4.0)
        asking, channel, _ = house.started("a")
        left, gone, _ = house.started("a")
        house.bus.change_epoch("e2")
        await turn()
        ask(left, {"type": "ping"})
        assert gone.received() == []
        house.gateway.clients.disconnect(left, LeaveReason.CLIENT_CLOSED)
        house.clock.advance(3.0)
        await turn()
        assert gone.ended is None
        assert channel.ended is not None
        house.gateway.clients.disconnect(asking, LeaveReason.CLIENT_CLOSED)

    async def test_nothing_of_before_is_kept(self) -> None:
        house = UnsteadyHouse()
        await house.gateway.publish([KEPT, NEWS])
        house.bus.change_epoch("e2")
        assert len(house.gateway.retained) == 0
        assert snapshots_of(house.gateway, None) == []
        assert house.gateway.position == Position("e2", 2)

    async def test_who_comes_back_gets_a_gap_and_the_new_values(self) -> None:
        house = UnsteadyHouse()
        await house.gateway.publish([KEPT, NEWS])
        house.bus.change_epoch("e2")
        await house.gateway.publish([draft("app.kept", 2, retain=True)])
        _, _, received = house.started("*", since=Position(EPOCH, 2))
        assert types(received) == ["welcome", "gap", "app.kept", "synced"]
        assert received[0]["data"]["epoch"] == "e2"
        assert received[1]["data"]["reason"] == "epoch_changed"
        assert (received[2]["data"], received[3]["data"]) == (2, {"epoch": "e2", "seq": 3})

    async def test_streams_name_it_and_so_do_ids_of_clients(self) -> None:
        house = UnsteadyHouse()
        house.bus.change_epoch("e2-new")
        connection, channel = house.connect("*", channel=FakeChannel(), framing=EVENT_STREAM, transport="sse")
        connection.start(None)
        await house.gateway.publish([NEWS])
        await turn()
        assert b"id: e2-new:1\n" in channel.taken
        assert connection.id.endswith("-e2-n")

    async def test_those_who_know_what_was_published_are_told(self) -> None:
        house = UnsteadyHouse()
        told: list[Position] = []
        house.gateway.on_epoch_changed = lambda: told.append(house.gateway.position)
        house.bus.change_epoch("e2")
        assert told == [Position("e2", 0)]


class TestPublishingFromOutside:
    async def test_the_answer_comes_after_the_events(self) -> None:
        house = UnsteadyHouse(Troubles(latency_s=0.01))
        _, channel, _ = house.started("*")
        asked = asyncio.create_task(house.told())
        await turn()
        assert not asked.done()
        assert await asked == 202
        await turn()
        assert types(channel.received()) == ["app.news"]

    async def test_what_is_refused_is_503_and_not_published(self) -> None:
        house = UnsteadyHouse(Troubles(refused=1.0))
        async with passing(house):
            assert await house.told() == 503
        assert house.bus.log == []

    @virtual
    async def test_what_is_unknown_is_repeated_and_published_once(self) -> None:
        house = UnsteadyHouse(Troubles(unknown=1.0, late_s=0.001))
        async with passing(house):
            first = asyncio.create_task(house.told())
            await turn()
            house.bus.troubles = Troubles()
            assert await first == 202
        await asyncio.sleep(0.01)
        assert [event.type for event in house.bus.log] == ["app.news"]

    @virtual
    async def test_what_stays_unknown_is_504_and_published_once_or_never(self) -> None:
        house = UnsteadyHouse(Troubles(unknown=1.0, late_s=0.001), publish_timeout_s=5 * RETRY_S)
        async with passing(house):
            assert await house.told() == 504
        await asyncio.sleep(0.01)
        assert len(house.bus.log) <= 1

    async def test_a_bus_that_does_not_answer_is_504(self) -> None:
        house = UnsteadyHouse(Troubles(latency_s=1e6), publish_timeout_s=2.0)
        asked = asyncio.create_task(house.told())
        await turn()
        house.clock.advance(2.0)
        assert await asked == 504

    async def test_a_lost_bus_is_503_at_once_until_it_is_back(self) -> None:
        house = UnsteadyHouse()
        house.bus.lose("cut")
        assert await house.told() == 503
        house.bus.regain()
        assert await house.told() == 202
        assert house.metrics.named("bus_connected") == [(True,), (False,), (True,)]

    @pytest.mark.parametrize("latency_s", [0.0, 0.001])
    async def test_what_the_bus_does_not_take_does_not_count_against_the_rate(self, latency_s: float) -> None:
        house = UnsteadyHouse(Troubles(refused=1.0, latency_s=latency_s), publishes=Rate(1.0, 3))
        for _ in range(3):
            assert await house.told([NEWS] * 3) == 503
        house.bus.lose("cut")
        for _ in range(3):
            assert await house.told([NEWS] * 3) == 503
        house.bus.regain()
        house.bus.troubles = Troubles()
        assert await house.told([NEWS] * 3) == 202
        assert await house.told() == 429

    async def test_a_delete_that_the_bus_does_not_take_does_not_count_against_the_rate(self) -> None:
        house = UnsteadyHouse(publishes=Rate(1.0, 2))
        assert await house.told([KEPT]) == 202
        house.bus.lose("cut")
        for _ in range(3):
            with pytest.raises(PublishError, match="cut"):
                await house.gateway.publishers.forget("app.kept", "", UNRESTRICTED)
        house.bus.regain()
        await house.gateway.publishers.forget("app.kept", "", UNRESTRICTED)

    async def test_what_may_yet_be_published_counts_against_the_rate(self) -> None:
        house = UnsteadyHouse(Troubles(latency_s=1e6), publishes=Rate(0.1, 1), publish_timeout_s=2.0)
        asked = asyncio.create_task(house.told())
        await turn()
        house.clock.advance(2.0)
        assert await asked == 504
        assert await house.told() == 429

    async def test_what_is_under_way_counts_against_the_limits(self) -> None:
        house = UnsteadyHouse(Troubles(latency_s=0.01), retained_keys=1)
        asked = asyncio.create_task(house.told([draft("app.a", retain=True)]))
        await turn()
        assert await house.told([draft("app.b", retain=True)]) == 507
        assert await house.told([draft("app.a", retain=True)]) == 202
        assert await asked == 202

    @virtual
    async def test_cancelling_it_leaves_nothing_behind(self) -> None:
        house = UnsteadyHouse(Troubles(latency_s=0.01))
        asked = asyncio.create_task(house.told())
        await turn()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert house.gateway.publishers.names_under_way() == set()
        await asyncio.sleep(0.02)
        assert [event.type for event in house.bus.log] == ["app.news"]

    @virtual
    async def test_cancelling_it_before_it_is_waited_for_leaves_nothing_behind_once_the_bus_has_answered(self) -> None:
        house = UnsteadyHouse(Troubles(latency_s=0.01), retained_keys=1)
        begun = house.gateway.publishers.start_publish([draft("app.a", retain=True)], UNRESTRICTED)
        assert not isinstance(begun, Position)
        waiting = asyncio.create_task(begun)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert house.gateway.publishers.names_under_way() == {("app.a", "")}, "the bus has it, so it counts"
        await asyncio.sleep(0.02)
        assert house.gateway.publishers.names_under_way() == set()
        assert [event.type for event in house.bus.log] == ["app.a"]

    @virtual
    async def test_a_refusal_that_nobody_waits_for_any_more_leaves_nothing_behind(self) -> None:
        house = UnsteadyHouse(Troubles(latency_s=0.01, refused=1.0))
        begun = house.gateway.publishers.start_publish([NEWS], UNRESTRICTED)
        assert not isinstance(begun, Position)
        begun.close()
        await asyncio.sleep(0.02)
        assert house.gateway.publishers.names_under_way() == set()


class TestExpiry:
    async def test_what_the_bus_refuses_to_forget_is_forgotten_later(self) -> None:
        house = UnsteadyHouse()
        await house.gateway.publish([draft("app.a", retain=True, ttl_s=5.0)])
        house.bus.troubles = Troubles(refused=1.0)
        running = asyncio.create_task(house.gateway.run())
        for _ in range(80):
            await turn()
            house.clock.advance(0.1)
        assert len(house.gateway.retained) == 1
        house.bus.troubles = Troubles()
        for _ in range(20):
            await turn()
            house.clock.advance(0.1)
        assert len(house.gateway.retained) == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def test_a_value_whose_renewal_is_under_way_is_not_forgotten(self) -> None:
        house = UnsteadyHouse(publish_timeout_s=100.0)
        await house.gateway.publish([draft("app.a", retain=True, ttl_s=5.0)])
        house.bus.troubles = Troubles(latency_s=0.05)
        running = asyncio.create_task(house.gateway.run())
        await turn()
        asked = asyncio.create_task(house.told([draft("app.a", "newer", retain=True)]))
        await turn()
        house.clock.advance(6.0)
        await turn()
        assert await asked == 202
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert [event.draft.gone for event in house.bus.log] == [False, False]

    @virtual
    async def test_a_value_that_is_renewed_while_it_is_unknown_whether_the_old_one_is_gone_stays(self) -> None:
        house = UnsteadyHouse()
        async with expiring(house, Troubles(unknown=1.0, late_s=0.01)):
            renewal = asyncio.create_task(house.told([draft("app.a", "renewed", retain=True)]))
            others = [draft("app.a", key="of its own", retain=True), draft("app.a")]
            house.bus.troubles = Troubles()
            assert await house.told(others) == 202, "only what changes the same value waits"
            await asyncio.sleep(0.02)
            assert not renewal.done()
            house.clock.advance(RETRY_S)
            assert await renewal == 202
            await asyncio.sleep(0.02)
        named = [event for event in house.bus.log if event.draft.retain and event.draft.key is None]
        assert [event.draft.gone for event in named] == [False, True, False]
        assert house.gateway.retained.get("app.a", "") is not None

    async def test_a_value_cannot_be_renewed_or_deleted_while_the_bus_does_not_answer_to_its_removal(self) -> None:
        house = UnsteadyHouse(publish_timeout_s=2.0, publishes=Rate(1.0, 2))
        async with expiring(house, Troubles(latency_s=1e6)):
            renewal = asyncio.create_task(house.told([draft("app.a", "renewed", retain=True)]))
            deletion = asyncio.create_task(house.gateway.publishers.forget("app.a", "", UNRESTRICTED))
            await turn()
            assert house.gateway.publishers.names_under_way() == {("app.a", "")}
            house.clock.advance(2.0)
            assert await renewal == 503
            with pytest.raises(PublishError) as caught:
                await deletion
            assert (caught.value.status, caught.value.retry_after_s) == (503, 1)
            assert house.gateway.publishers.names_under_way() == set()
            house.bus.troubles = Troubles()
            assert await house.told([NEWS] * 2) == 202, "neither counts against the rate"

    async def test_when_the_removal_is_refused_the_renewal_goes_on(self) -> None:
        house = UnsteadyHouse()
        async with expiring(house, Troubles(refused=1.0, latency_s=0.01)):
            renewal = asyncio.create_task(house.told([draft("app.a", "renewed", retain=True)]))
            await turn()
            house.bus.troubles = Troubles()
            assert await renewal == 202
            for _ in range(3):
                house.clock.advance(1.0)
                await turn()
        assert [event.draft.gone for event in house.bus.log] == [False, False]


@contextlib.asynccontextmanager
async def expiring(house: UnsteadyHouse, troubles: Troubles) -> AsyncIterator[None]:
    """The value `app.a` has expired, and its removal has just been handed to a bus with `troubles`."""
    await house.gateway.publish([draft("app.a", retain=True, ttl_s=5.0)])
    house.bus.troubles = troubles
    running = asyncio.create_task(house.gateway.run())
    await turn()
    house.clock.advance(5.0)
    await turn()
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_refused_publish_of_our_own_is_an_error() -> None:
    house = UnsteadyHouse(Troubles(refused=1.0))
    with pytest.raises(BusRefused):
        await house.gateway.publish([NEWS])
