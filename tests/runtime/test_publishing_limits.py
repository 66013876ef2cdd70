"""What publishers may send, in the order in which it is refused, all or nothing."""

import asyncio
import weakref
from typing import Any

import pytest
from fanout import House, draft, snapshots_of

from tidegate.core.access.grant import UNRESTRICTED, Grant
from tidegate.core.events import Draft
from tidegate.core.rate import Rate
from tidegate.core.topics import PatternSet
from tidegate.errors import PublishError

RATE = Rate(2.0, 10)

MALFORMED = draft("Not A Type")
UNCOVERED = draft("other.a")
LONG = draft("app.a", "x" * 30)
KEPT = [draft("app.a", key=str(n), retain=True) for n in range(4)]
KEPT_BYTES = [draft("app.a", "x" * 15, key=str(n), retain=True) for n in range(3)]
FINE = draft("app.a")

NARROW = Grant(name="narrow", allowed=PatternSet(["app.*"]))


def house(**changes: Any) -> House:
    return House(**{"event_bytes": 20, "retained_keys": 3, "retained_bytes": 50, "publishes": RATE, **changes})


async def status(of: House, drafts: list[Draft], grant: Grant = NARROW) -> int:
    try:
        await of.gateway.publishers.publish(drafts, grant)
    except PublishError as error:
        return error.status
    return 202


@pytest.mark.parametrize(
    ("drafts", "expected"),
    [
        ([MALFORMED, *[UNCOVERED] * 10], 413),
        ([LONG, *KEPT, UNCOVERED, MALFORMED], 400),
        ([LONG, *KEPT, UNCOVERED], 403),
        ([*KEPT, LONG], 413),
        (KEPT, 507),
        (KEPT_BYTES, 507),
        ([FINE] * 6, 429),
    ],
)
async def test_the_first_reason_is_told_and_nothing_is_published_kept_or_charged(
    drafts: list[Draft], expected: int
) -> None:
    served = house()
    assert await status(served, [FINE] * 5) == 202
    assert await status(served, drafts) == expected
    assert served.gateway.position.seq == 5
    assert len(served.gateway.retained) == 0
    assert await status(served, [FINE] * 5) == 202


async def test_whoever_comes_back_when_told_has_the_whole_array_published() -> None:
    served = house()
    await served.gateway.publishers.publish([FINE] * 10, NARROW)
    with pytest.raises(PublishError) as caught:
        await served.gateway.publishers.publish([FINE] * 9, NARROW)
    assert (caught.value.status, caught.value.retry_after_s) == (429, 5)
    served.clock.advance(5.0)
    assert await status(served, [FINE] * 9) == 202


async def test_each_publisher_is_charged_apart_and_those_without_a_name_together() -> None:
    served = house()
    for name in ("token 0", "token 1", "somebody"):
        assert await status(served, [FINE] * 10, Grant(name=name)) == 202
        assert await status(served, [FINE], Grant(name=name)) == 429
    assert await status(served, [FINE] * 10, UNRESTRICTED) == 202
    assert await status(served, [FINE], Grant()) == 429


async def test_a_delete_is_one_event() -> None:
    served = house()
    await served.gateway.publishers.publish([KEPT[0], KEPT[1], *[FINE] * 7], NARROW)
    await served.gateway.publishers.forget("app.a", "0", NARROW)
    with pytest.raises(PublishError) as caught:
        await served.gateway.publishers.forget("app.a", "1", NARROW)
    assert (caught.value.status, caught.value.retry_after_s) == (429, 1)
    served.clock.advance(0.5)
    await served.gateway.publishers.forget("app.a", "1", NARROW)


async def test_a_value_that_is_gone_makes_room() -> None:
    served = house(publishes=Rate(2.0, 100))
    assert await status(served, KEPT[:3]) == 202
    assert await status(served, KEPT[3:]) == 507
    await served.gateway.publishers.forget("app.a", "0", NARROW)
    assert await status(served, KEPT[3:]) == 202


async def test_what_is_polled_takes_no_room_of_publishers() -> None:
    served = house()
    await served.gateway.publish([draft("system.status", "x" * 100, key=str(n), retain=True) for n in range(20)])
    assert await status(served, KEPT[:3]) == 202


async def test_values_whose_time_is_over_go_some_at_a_time_and_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.runtime.housekeeping.EXPIRED_AT_ONCE", 2)
    served = house(retained_keys=5, publishes=Rate(2.0, 100))
    keep = draft("app.a", key="4", retain=True)
    _, channel, _ = served.started("app.*")
    timed = [draft("app.a", key=str(n), retain=True, ttl_s=5.0) for n in range(5)]
    assert await status(served, timed) == 202
    running = asyncio.create_task(served.gateway.run())
    try:
        served.clock.advance(5.0)
        assert await status(served, [keep]) == 202
        async with asyncio.timeout(20):
            while len(served.gateway.retained) > 1:
                served.clock.advance(1.0)
                await asyncio.sleep(0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    gone = [event["key"] for event in channel.received() if event.get("gone")]
    assert gone == ["0", "1", "2", "3"]
    assert len(snapshots_of(served.gateway, None)) == 1
    assert await status(served, [draft("app.b", key=str(n), retain=True) for n in range(4)]) == 202


class Name(str):
    """A name of which the test sees whether anybody still holds it."""

    __slots__ = ("__weakref__",)


async def test_a_publisher_that_owes_nothing_is_forgotten() -> None:
    served = house()
    held: weakref.WeakSet[Name] = weakref.WeakSet()
    for n in range(100):
        name = Name(f"subject {n}")
        held.add(name)
        assert await status(served, [FINE], Grant(name=name)) == 202
    del name
    assert len(held) == 100
    running = asyncio.create_task(served.gateway.run())
    try:
        async with asyncio.timeout(20):
            while held:
                served.clock.advance(0.5)
                await asyncio.sleep(0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
