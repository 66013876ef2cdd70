"""What a poller does when the bus begins another sequence of events: it tells everything again."""

import asyncio
from typing import Any

import msgspec
import pytest
from fanout import FakeChannel
from house import INTERVAL_S, House, source, virtual
from simulation.bus import NONE, Troubles, UnsteadyBus

from tidegate.core.access.grant import UNRESTRICTED
from tidegate.core.delivery.framing import WEBSOCKET
from tidegate.core.shaping import Shape
from tidegate.core.topics import PatternSet
from tidegate.errors import Disconnected, LeaveReason

EPOCH = "e2"


def unsteady(*sources: Any, troubles: Troubles = NONE, **how: Any) -> tuple[House, UnsteadyBus]:
    bus = UnsteadyBus(troubles, epoch="e1")
    return House(*sources, bus=lambda published: bus, **how), bus


def connected(house: House) -> list[dict[str, Any]]:
    """What a new client gets at once."""
    channel = FakeChannel()
    connection = house.gateway.clients.connect(
        channel,
        transport="websocket",
        address="192.0.2.1",
        framing=WEBSOCKET,
        grant=UNRESTRICTED,
        patterns=PatternSet(["*"]),
    )
    connection.start(None)
    received = channel.received()
    house.gateway.clients.disconnect(connection, LeaveReason.CLIENT_CLOSED)
    return received


def values(received: list[dict[str, Any]]) -> dict[tuple[str, str | None], dict[str, Any]]:
    return {(each["type"], each.get("key")): each for each in received if each.get("snapshot")}


@virtual
async def test_a_new_client_finds_values_that_do_not_change_though_nothing_is_polled() -> None:
    house, bus = unsteady(
        source("a.status", on_change=True, interval_s=3600.0),
        source("b.jobs", on_change=True, interval_s=3600.0, shape=Shape(items=("",), key=(("id",),))),
    )
    house.backend.script = lambda call: [{"id": "1"}, {"id": "2"}] if call.method == "b.jobs" else {"ok": True}
    async with house.supervisor.running():
        await asyncio.sleep(5.0)
        before = values(connected(house))
        asked = len(house.backend.exchanges)
        bus.change_epoch(EPOCH)
        await asyncio.sleep(0.1)
        received = connected(house)
        assert len(house.backend.exchanges) == asked
    after = values(received)
    assert received[0]["data"]["epoch"] == EPOCH
    assert after.keys() == before.keys()
    assert {("a.status", None), ("b.jobs", "1"), ("b.jobs", "2"), ("source.freshness", "a.status")} <= after.keys()
    for name, event in after.items():
        assert [event.get(field) for field in ("data", "stale", "as_of")] == [
            before[name].get(field) for field in ("data", "stale", "as_of")
        ]
    assert [
        (event["data"]["from"], event["data"]["reason"]) for name, event in after.items() if name[1] == "engine"
    ] == [(None, "start")]


@virtual
async def test_what_is_stale_behind_an_open_breaker_is_told_so_with_the_state_of_the_breaker_first() -> None:
    house, bus = unsteady(source("a.status"), source("b.status"), source("c.status"))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(Disconnected("refused"))
        await asyncio.sleep(INTERVAL_S)
        bus.change_epoch(EPOCH)
        await asyncio.sleep(0.1)
        after = values(connected(house))
    move = after["circuit_breaker.state", "engine"]["data"]
    assert (move["from"], move["state"]) == (None, "open")
    assert move["retry_at"] is not None
    assert bus.log[0].type == "circuit_breaker.state"
    for name in ("a.status", "b.status", "c.status"):
        event = after[name, None]
        assert (event["stale"], event["error_code"], event["data"]) == (True, "CIRCUIT_BREAKER_OPEN", {"ok": True})
        assert after["source.freshness", name]["data"]["stale"] is True


@virtual
async def test_the_trail_of_a_breaker_goes_on_from_there() -> None:
    house, bus = unsteady(source("a.status"))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        bus.change_epoch(EPOCH)
        await house.supervisor.command("engine", "force-open", by="ops")
        await house.supervisor.command("engine", "reset", by="ops")
        moves = [msgspec.json.decode(event.draft.data) for event in bus.log if event.type == "circuit_breaker.state"]
    assert [(move["from"], move["state"]) for move in moves] == [
        (None, "closed"),
        ("closed", "open"),
        ("open", "closed"),
    ]


@pytest.mark.parametrize(
    "troubles",
    [Troubles(latency_s=0.5), Troubles(latency_s=0.1, refused=0.5), Troubles(unknown=0.5, late_s=1.0)],
    ids=["slow", "refusing", "silent"],
)
def test_whatever_was_under_way_everything_is_there_again_soon(troubles: Troubles) -> None:
    @virtual
    async def run() -> None:
        house, bus = unsteady(source("a.status", on_change=True), source("b.status", interval_s=0.3), troubles=troubles)
        async with house.supervisor.running():
            for number in range(20):
                await asyncio.sleep(3.0 + 0.1 * number)
                bus.change_epoch(f"{EPOCH}-{number}")
                await asyncio.sleep(6.0)
                after = values(connected(house))
                for name in ("a.status", "b.status"):
                    assert after[name, None]["stale"] is False
                    assert after["source.freshness", name]["data"]["stale"] is False
                assert after["circuit_breaker.state", "engine"]["data"]["state"] == "closed"

    run()


@virtual
async def test_an_item_that_the_bus_publishes_late_does_not_stay_when_it_is_gone() -> None:
    house, bus = unsteady(source("j.jobs", interval_s=3600.0, shape=Shape(items=("",), key=(("id",),))))
    items = [{"id": "1"}]
    house.backend.script = lambda call: items
    house.backend.delay_s = 0.01
    async with house.supervisor.running():
        await asyncio.sleep(5.0)
        bus.troubles = Troubles(latency_s=0.5)
        items = [{"id": "1"}, {"id": "K"}]
        house.poller.poll_now(["j.jobs"])
        await asyncio.sleep(0.1)
        items = [{"id": "1"}]
        house.poller.poll_now(["j.jobs"])
        await asyncio.sleep(0.1)
        bus.change_epoch(EPOCH)  # K is on its way, and its removal waits behind it
        bus.troubles = Troubles(latency_s=0.1, refused=1.0)
        await asyncio.sleep(0.6)
        assert ("j.jobs", "K") in values(connected(house))
        bus.troubles = NONE
        await asyncio.sleep(5.0)
        after = values(connected(house))
    assert [key for name, key in after if name == "j.jobs"] == ["1"]
