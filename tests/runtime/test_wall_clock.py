"""Somebody sets the wall clock of a gateway that runs: in virtual time."""

import asyncio
from typing import Any

import msgspec
import pytest
from fanout import snapshots_of
from house import INTERVAL_S, House, source, times, virtual
from structlog.testing import capture_logs

from tidegate.core.instant import from_rfc3339, rfc3339
from tidegate.core.shaping import Shape
from tidegate.errors import Disconnected
from tidegate.ports import SavedValue
from tidegate.testing import MemoryStore

HOUR_S = 3600.0


def ages(house: House) -> dict[tuple[str, str | None], float]:
    """How old each snapshot says that its data is, by the clock as it is now."""
    now = house.clock.now().wall
    events = map(msgspec.json.decode, snapshots_of(house.gateway, None))
    return {(e["type"], e.get("key")): now - from_rfc3339(e["as_of"]) for e in events if "as_of" in e}


@pytest.mark.parametrize("step_s", [-2 * HOUR_S, -1.5, 1.5, HOUR_S])
@pytest.mark.parametrize("when_s", [0.0, 0.05, 0.3])
def test_as_of_follows_a_wall_clock_that_is_set(step_s: float, when_s: float) -> None:
    """Between calls, under a call, after an answer: events are as of the clock as it is, and ages stay true."""

    async def live() -> None:
        house = House(source(), source("b.status", on_change=True))
        async with house.supervisor.running():
            await asyncio.sleep(1.5)
            due = min(times(house.backend)) + INTERVAL_S
            await asyncio.sleep(due - 0.01 + when_s - asyncio.get_running_loop().time())
            told, before = len(house.published), ages(house)
            house.clock.set_by = step_s
            assert len(house.published) == told, "nothing is published for that alone"
            # Set forward, an event stays as of before its own `timestamp`, which is its position in time.
            older_s = max(0.0, step_s) if when_s < 0.3 else 0.0
            after = ages(house)
            assert after["a.status", None] == pytest.approx(before["a.status", None] + max(0.0, step_s), abs=0.2)
            assert after["b.status", None] == pytest.approx(before["b.status", None] + older_s, abs=0.2)
            await asyncio.sleep(INTERVAL_S + 1.0)
            assert ages(house) == pytest.approx(dict.fromkeys(before, ages(house)["b.status", None]), abs=0.01)
            for at, draft in house.published[told:]:
                assert draft.as_of is None or draft.as_of <= 1_795_000_000.0 + at + step_s
            *_, fresh = house.of("a.status")
            assert fresh.as_of == pytest.approx(1_795_000_000.0 + max(times(house.backend)) + step_s)
            house.backend.fail(Disconnected("refused"))
            await asyncio.sleep(INTERVAL_S)
            assert house.of("a.status")[-1].as_of == fresh.as_of

    virtual(live)()


@virtual
async def test_while_the_backend_is_down_a_clock_that_is_set_changes_no_age() -> None:
    house = House(source(), source("b.status", stale_repeat=False))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(Disconnected("refused"))
        while house.states()[-1] != "open":
            await asyncio.sleep(0.01)
        before = house.supervisor.breakers()[0], house.supervisor.sources()[0]
        stale, told = ages(house), len(house.published)
        house.clock.set_by = -HOUR_S
        after = house.supervisor.breakers()[0], house.supervisor.sources()[0]
        for old, new in zip(before, after, strict=True):
            assert shifted(old, -HOUR_S) == plain(new)
        assert ages(house) == pytest.approx(stale, abs=0.01)
        assert len(house.published) == told
        opened = msgspec.json.decode(snapshots_of(house.gateway, "circuit_breaker.state")[0])["data"]
        assert opened["retry_at"] == rfc3339(after[0].retry_at or 0.0)
        assert opened["opened_at"] == rfc3339(after[0].since)
        await asyncio.sleep(INTERVAL_S)
        assert house.of("a.status")[-1].retry_at == pytest.approx(after[0].retry_at)


def shifted(view: msgspec.Struct, step_s: float) -> Any:
    """A view with all its times moved."""

    def moved(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(key, item) for key, item in value.items()}
        if isinstance(value, list):
            return [moved("", item) for item in value]
        is_time = name in {"since", "retry_at", "as_of", "at", "next_poll_at", "wall"} and value is not None
        return pytest.approx(value + step_s) if is_time else value

    return moved("", plain(view))


def plain(view: msgspec.Struct) -> Any:
    return msgspec.json.decode(msgspec.json.encode(view))


@virtual
async def test_a_clock_that_is_set_is_logged_and_what_is_on_disk_is_put_right() -> None:
    agents = source("b.agents", shape=Shape(items=("",), key=(("id",),)), interval_s=3600.0)
    store = MemoryStore()
    house = House(source(), agents, store=store)
    house.backend.script = lambda call: [{"id": "x"}] if call.method == "b.agents" else 1
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(Disconnected("refused"))
        saved = {(value.type, value.key): value for value in await store.load()}
        house.clock.set_by = -HOUR_S
        with capture_logs() as logs:
            await asyncio.sleep(2.5)
        kept = {(value.type, value.key): value for value in await store.load()}
    (line,) = [line for line in logs if line["event"] == "wall clock set"]
    assert (line["log_level"], line["by_s"], line["direction"]) == ("warning", -3600.0, "backward")
    assert house.metrics.named("clock_stepped") == [("backward",)]
    assert kept.keys() == saved.keys() == {("a.status", ""), ("b.agents", ""), ("b.agents", "x")}
    for name, value in kept.items():
        assert value.data == saved[name].data
        assert value.as_of == pytest.approx(saved[name].as_of - HOUR_S)


@virtual
async def test_a_value_from_the_future_is_as_of_the_restart_on_disk_too() -> None:
    """The clock was wrong when it was saved; another restart before the first answer must not make it younger."""
    store = MemoryStore()
    store.save([SavedValue("a.status", "", b"1", 1_795_000_000.0 + 500.0)])
    house = House(source(), store=store)
    house.backend.fail(Disconnected("refused"))
    async with house.supervisor.running():
        (restored,) = house.of("a.status")
        assert (restored.error_code, restored.as_of) == ("RESTORED", house.clock.now().wall)
        (kept,) = await store.load()
        assert kept.as_of == restored.as_of


@virtual
async def test_items_are_saved_as_of_when_they_were_last_seen_though_one_was_saved_by_a_wrong_clock() -> None:
    store = MemoryStore()
    wall = 1_795_000_000.0
    store.save(
        [SavedValue("a.status", "x", b'{"id":"x"}', wall + 500.0), SavedValue("a.status", "", b"null", wall - 60)]
    )
    house = House(source(shape=Shape(items=("",), key=(("id",),))), store=store)
    async with house.supervisor.running():
        assert house.of("a.status")[0].as_of == wall - 60
