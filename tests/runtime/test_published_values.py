"""What publishers had retained is there again after a restart: gateways one after the other, in virtual time."""

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from fanout import snapshots_of
from house import HardBus, House, source, virtual
from msgspec import Raw
from simulation.bus import NONE, UnsteadyBus
from structlog.testing import capture_logs

from tidegate.core.access.grant import UNRESTRICTED
from tidegate.core.events import Draft
from tidegate.core.instant import rfc3339
from tidegate.core.shaping import Shape
from tidegate.errors import BusRefused, PublishError, StoreError, UnknownName
from tidegate.ports import PublishedValue
from tidegate.testing import MemoryStore

START = 1_795_000_000.0
HOUR_S = 3600.0


def draft(key: str, data: bytes = b"1", *, event_type: str = "lab.job", retain: bool = True, **fields: Any) -> Draft:
    return Draft(type=event_type, key=key, data=Raw(data), retain=retain, **fields)


async def publish(house: House, *drafts: Draft) -> None:
    """Publish `drafts`, and wait until the store has them."""
    await house.gateway.publishers.publish(drafts, UNRESTRICTED)
    await asyncio.sleep(0.15)


def shown(house: House) -> dict[str | None, dict[str, Any]]:
    """The snapshots of published values, by key."""
    events = map(msgspec.json.decode, snapshots_of(house.gateway, None))
    return {event.get("key"): event for event in events if event["type"].startswith("lab.")}


def saved(key: str, data: bytes = b"1", *, at: float = START - 10.0, **ends: Any) -> PublishedValue:
    return PublishedValue("lab.job", key, Raw(data), at, **ends)


def limited(house: House, **limits: int) -> House:
    """`house`, whose gateway restores within these limits."""
    published = house.gateway.published
    published._limits = msgspec.structs.replace(published._limits, **limits)
    return house


@virtual
async def test_what_was_retained_is_there_again_with_its_own_timestamp_and_data_and_a_new_position() -> None:
    store = MemoryStore()
    before = House(store=store)
    async with before.supervisor.running():
        await asyncio.sleep(5.0)
        await publish(
            before, draft("a", b'{"n":1.10}'), draft("b", b"2"), Draft(type="lab.door", data=Raw(b"3"), retain=True)
        )
        old = shown(before)
    after = House(store=store)
    async with after.supervisor.running():
        new = shown(after)
        assert after.gateway.position.seq == 3
    assert new.keys() == old.keys() == {"a", "b", None}
    for key, event in new.items():
        assert event == {**old[key], "seq": event["seq"]}
        assert "stale" not in event


@virtual
async def test_values_are_there_before_anything_else_runs() -> None:
    house = House(source(), store=MemoryStore(published=[saved("a")]))
    async with house.supervisor.running():
        assert shown(house).keys() == {"a"}
        assert house.backend.exchanges == []


@virtual
async def test_only_what_was_delivered_and_is_retained_and_published_reaches_the_store() -> None:
    store = MemoryStore()
    house = House(source(), store=store)
    async with house.supervisor.running():
        await asyncio.sleep(2.0)
        await publish(house, draft("a"), draft("b", retain=False))
        await publish(house, draft("a", b"2", retain=False))
        assert list(store.published.values()) == [saved("a", at=START + 2.0)]
        await publish(house, draft("a", b"3"))
        assert store.published["lab.job", "a"].data == Raw(b"3")


@virtual
async def test_what_the_bus_refuses_leaves_nothing_on_disk() -> None:
    store = MemoryStore()
    refused: list[BusRefused] = []
    house = House(store=store, bus=lambda published: HardBus(published, fails=lambda: refused[0] if refused else None))
    async with house.supervisor.running():
        await publish(house, draft("a"))
        refused.append(BusRefused("full"))
        with pytest.raises(PublishError):
            await publish(house, draft("a", b"2"), draft("b"))
        with pytest.raises(PublishError):
            await house.gateway.publishers.forget("lab.job", "a", UNRESTRICTED)
    assert list(store.published.values()) == [saved("a", at=START)]


@virtual
async def test_what_is_deleted_does_not_come_back() -> None:
    store = MemoryStore()
    house = House(store=store)
    async with house.supervisor.running():
        await publish(house, draft("a"), draft("b"))
        await house.gateway.publishers.forget("lab.job", "a", UNRESTRICTED)
    after = House(store=store)
    async with after.supervisor.running():
        assert shown(after).keys() == {"b"}


@virtual
async def test_a_ttl_goes_on_while_the_gateway_is_down() -> None:
    store = MemoryStore()
    house = House(store=store)
    async with house.supervisor.running():
        await publish(house, draft("long", ttl_s=100.0), draft("short", ttl_s=20.0), draft("kept", ttl_s=5.0))
        await publish(house, draft("kept"))  # without an end from now on
        await asyncio.sleep(10.0)
    await asyncio.sleep(20.0)
    after = House(store=store)
    with capture_logs() as lines:
        async with after.supervisor.running():
            assert shown(after).keys() == {"long", "kept"}
            assert {key for _, key in store.published} == {"long", "kept"}
            await asyncio.sleep(68.0)
            assert shown(after).keys() == {"long", "kept"}
            await asyncio.sleep(4.0)
            assert shown(after).keys() == {"kept"}
            assert {key for _, key in store.published} == {"kept"}
    (line,) = [line for line in lines if line["event"] == "published values restored"]
    assert (line["count"], line["ended_meanwhile"]) == (2, 1)


@virtual
async def test_restoring_writes_nothing_that_is_on_disk_already() -> None:
    written: list[PublishedValue] = []

    class Watched(MemoryStore):
        def save_published(self, values: Iterable[PublishedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
            written.extend(values)

    store = Watched(published=[saved("a"), saved("b", ttl_s=60.0, ends_at=START + 30.0)])
    house = House(store=store)
    async with house.supervisor.running():
        assert written == []
        await publish(house, draft("a"))
        assert [value.key for value in written] == ["a"]


@pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S])
def test_a_wall_clock_that_is_set_moves_no_end(step_s: float) -> None:
    async def live() -> None:
        store = MemoryStore()
        house = House(store=store)
        async with house.supervisor.running():
            await publish(house, *(draft(f"{number}", ttl_s=600.0) for number in range(1200)), draft("for ever"))
            house.clock.set_by = step_s
            await asyncio.sleep(10.0)
            assert len(shown(house)) == 1201
        after = House(store=store)
        after.clock.set_by = step_s
        async with after.supervisor.running():
            assert len(shown(after)) == 1201
            assert shown(after)["7"]["timestamp"] == rfc3339(START)
            await asyncio.sleep(588.0)
            assert len(shown(after)) == 1201
            await asyncio.sleep(4.0)
            assert shown(after).keys() == {"for ever"}

    virtual(live)()


@virtual
async def test_what_another_epoch_lost_is_gone_on_disk_too() -> None:
    store = MemoryStore()
    bus = UnsteadyBus(NONE, epoch="e1")
    house = House(store=store, bus=lambda published: bus)
    async with house.supervisor.running():
        await publish(house, draft("a", ttl_s=60.0))
        bus.change_epoch("e2")
        assert store.published == {}
        await publish(house, draft("b"))
        await asyncio.sleep(70.0)
        assert shown(house).keys() == {key for _, key in store.published} == {"b"}


@virtual
async def test_what_was_deleted_just_before_another_epoch_does_not_come_back() -> None:
    store = MemoryStore()
    bus = UnsteadyBus(NONE, epoch="e1")
    house = House(store=store, bus=lambda published: bus)
    async with house.supervisor.running():
        await publish(house, draft("a"))
        await house.gateway.publishers.forget("lab.job", "a", UNRESTRICTED)
        bus.change_epoch("e2")
    assert store.published == {}


@virtual
async def test_of_too_many_the_oldest_stay_on_disk_and_a_warning_counts_them() -> None:
    store = MemoryStore(published=[saved(str(age), at=START - age) for age in range(1, 6)])
    house = limited(House(store=store), retained_keys=2)
    with capture_logs() as lines:
        async with house.supervisor.running():
            assert shown(house).keys() == {"1", "2"}
            assert len(store.published) == 5
            with pytest.raises(UnknownName):
                await house.gateway.publishers.forget("lab.job", "4", UNRESTRICTED)
    (line,) = [line for line in lines if "left out" in line["event"]]
    assert (line["log_level"], line["count"]) == ("warning", 3)
    again = House(store=store)
    async with again.supervisor.running():
        assert shown(again).keys() == {"1", "2", "3", "5"}, "what a publisher has deleted does not come back"


@virtual
async def test_what_was_restored_counts_for_the_limits() -> None:
    store = MemoryStore(published=[saved("a", b"12345")])
    house = House(store=store)
    async with house.supervisor.running():
        assert (house.gateway._kept.quota.keys, house.gateway._kept.quota.bytes) == (1, 5)


@virtual
async def test_a_type_that_is_polled_now_is_not_restored_and_told_of_once() -> None:
    store = MemoryStore(published=[saved("a"), saved("b")])
    with capture_logs() as lines:
        for _ in range(2):
            house = House(source("lab.job", shape=Shape(items=("",), key=(("id",),))), store=store)
            house.backend.script = lambda call: []
            async with house.supervisor.running():
                await asyncio.sleep(2.0)
                assert shown(house) == {}
    told = [line for line in lines if line["event"].startswith("published values deleted")]
    assert [(line["count"], line["types"]) for line in told] == [(2, ["lab.job"])]
    assert store.published == {}


class OldPort:
    """A store that was written when only last good values were kept."""

    def __init__(self) -> None:
        inner = MemoryStore()
        self.load, self.save, self.aclose = inner.load, inner.save, inner.aclose


@pytest.mark.parametrize("make", [OldPort, lambda: None], ids=["a store of the old port", "no store"])
def test_a_store_that_keeps_no_published_values_is_as_good_as_before(make: Any) -> None:
    async def live() -> None:
        store = make()
        for _ in range(2):
            house = House(source(), store=store)
            async with house.supervisor.running():
                assert shown(house) == {}
                await publish(house, draft("a", ttl_s=5.0))
                house.clock.set_by = HOUR_S
                await asyncio.sleep(2.0)
                assert shown(house).keys() == {"a"}

    virtual(live)()


@virtual
async def test_a_store_that_fails_keeps_no_event_from_the_clients() -> None:
    class Failing(MemoryStore):
        def save_published(self, values: Iterable[PublishedValue], *, gone: Iterable[tuple[str, str]] = ()) -> None:
            raise RuntimeError("a defect")

    house = House(store=Failing())
    with capture_logs() as lines:
        async with house.supervisor.running():
            await publish(house, draft("a"))
            assert shown(house).keys() == {"a"}
    assert [line["event"] for line in lines if line["log_level"] == "error"] == [
        "the store failed in a way that it must not"
    ]


@virtual
async def test_a_store_that_cannot_be_read_does_not_keep_the_gateway_from_starting() -> None:
    class Unreadable(MemoryStore):
        async def load_published(self) -> list[PublishedValue]:
            raise StoreError("disk I/O error")

    house = House(store=Unreadable())
    with capture_logs() as lines:
        async with house.supervisor.running():
            await publish(house, draft("a"))
            assert shown(house).keys() == {"a"}
    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert line["error"] == "disk I/O error"


@virtual
async def test_what_the_bus_does_not_take_at_the_start_stays_on_disk() -> None:
    store = MemoryStore(published=[saved(f"{number:04}") for number in range(1200)])

    class Refusing(UnsteadyBus):
        asked = 0

        def publish(self, drafts: Any, *, id: str, fence: int | None = None) -> Any:  # noqa: A002
            self.asked += 1
            if self.asked == 2:
                outcome = asyncio.get_running_loop().create_future()
                outcome.set_exception(BusRefused("full"))
                return outcome
            return super().publish(drafts, id=id, fence=fence)

    house = House(store=store, bus=lambda published: Refusing(NONE, epoch="e1"))
    with capture_logs() as lines:
        async with house.supervisor.running():
            assert len(shown(house)) == 500
    assert len(store.published) == 1200
    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert (line["count"], line["error"]) == (700, "full")
