"""`connections`: a backend that takes only so many calls at once serves all of its sources, in turn."""

import asyncio
from collections import Counter

import pytest
from fanout import open_at_once
from house import TIMEOUT_S, House, source, times, virtual

from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.errors import Disconnected, HttpStatus

WALL = 1_795_000_000.0
TWICE = BreakerRules(failure_threshold=2, open_s=1.0, open_max_s=4.0)


def served(house: House) -> Counter[str]:
    return Counter(exchange.methods[0] for exchange in house.backend.exchanges)


@virtual
async def test_a_device_that_serves_one_connection_at_a_time_answers_every_source_in_turn() -> None:
    """Issue 11, entry 13: three sources with intervals shorter than it can serve; one got 15 answers, the others 0."""
    house = House(*(source(f"{name}.x", interval_s=1.0) for name in "abc"), connections=1)
    house.backend.delay_s = 0.9
    async with house.supervisor.running():
        await asyncio.sleep(28.0)
        missed = {view.type: view.missed_ticks for view in house.supervisor.sources()}
    assert house.backend.most_in_flight == 1
    order = [exchange.methods[0] for exchange in house.backend.exchanges]
    assert sorted(order[:3]) == ["a.x", "b.x", "c.x"]
    assert order == (order[:3] * 11)[: len(order)]
    assert len(order) >= 30
    assert not house.of("rpc_error"), "waiting is no failure"
    assert all(15 <= count <= 20 for count in missed.values()), "ticks meanwhile are missed ticks"


@pytest.mark.parametrize("connections", [1, 2, 5])
def test_no_more_calls_are_under_way_than_there_are_connections(connections: int) -> None:
    @virtual
    async def run() -> None:
        house = House(*(source(f"s{n}.x") for n in range(12)), connections=connections)
        async with house.supervisor.running():
            await asyncio.sleep(25.0)
        assert house.backend.most_in_flight == connections
        assert set(served(house).values()) == {3}

    run()


@virtual
async def test_waiting_counts_neither_against_the_timeout_nor_into_as_of() -> None:
    house = House(*(source(f"s{n}.x", interval_s=30.0) for n in range(4)), connections=1)
    house.backend.delay_s = TIMEOUT_S - 0.1
    async with house.supervisor.running():
        await asyncio.sleep(10.0)
    assert not house.of("rpc_error")
    for exchange in house.backend.exchanges:
        (draft,) = house.of(exchange.methods[0])
        assert draft.as_of == pytest.approx(WALL + exchange.at, abs=0.001), "when the request went out"
    assert times(house.backend)[3] - times(house.backend)[0] == pytest.approx(3 * (TIMEOUT_S - 0.1), abs=0.01)


@virtual
async def test_whoever_was_asked_longest_ago_is_next_though_another_came_first() -> None:
    house = House(*(source(f"{name}.x", interval_s=1000.0) for name in "abz"), connections=1)

    async def hint(name: str) -> None:
        house.poller.poll_now([name])
        await asyncio.sleep(0.2)

    async with house.supervisor.running():
        await asyncio.sleep(2.0)
        await hint("a.x")
        house.backend.delay_s = 1.0
        house.backend.exchanges.clear()
        for name in ("z.x", "a.x", "b.x"):
            await hint(name)
        await asyncio.sleep(5.0)
    assert [exchange.methods[0] for exchange in house.backend.exchanges] == ["z.x", "b.x", "a.x"]


@virtual
async def test_if_the_breaker_opens_while_calls_wait_they_are_not_sent() -> None:
    house = House(*(source(f"s{n}.x") for n in range(6)), connections=1, breaker=TWICE)
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.exchanges.clear()
        house.backend.fail(Disconnected("refused"))
        while house.states()[-1] != "open":
            await asyncio.sleep(0.01)
        assert len(house.backend.exchanges) == 2, "the two that opened it; four were waiting"
        for n in range(6):
            stale = [draft for draft in house.of(f"s{n}.x") if draft.stale]
            assert len(stale) == len({draft.error_code for draft in stale}), "each reason once, as on a refused tick"
        house.backend.recover()
        await asyncio.sleep(12.0)
        assert not any(view.stale for view in house.supervisor.sources())


@virtual
async def test_a_hold_that_begins_while_calls_wait_stops_them_too() -> None:
    house = House(*(source(f"s{n}.x") for n in range(6)), connections=1)
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.exchanges.clear()
        house.backend.fail(HttpStatus(503, "", retry_after_s=15.0))
        while not house.of("rpc_error"):
            await asyncio.sleep(0.01)
        ends = asyncio.get_running_loop().time() + 15.0
        house.backend.recover()
        await asyncio.sleep(14.9)
        assert len(house.backend.exchanges) == 1
        await asyncio.sleep(10.0)
        assert set(served(house)) == {f"s{n}.x" for n in range(6)}
        assert times(house.backend)[1] == pytest.approx(ends, abs=0.02)


@pytest.mark.parametrize("opens", [False, True])
def test_who_waited_when_a_hold_began_is_asked_as_soon_as_it_ends(opens: bool) -> None:
    rules = BreakerRules(failure_threshold=1 if opens else 9, open_s=1.0, open_max_s=1.0)

    @virtual
    async def run() -> None:
        first = source("first.x", interval_s=1000.0, breaker="engine/first.x")
        house = House(first, source("waits.x", interval_s=1000.0), connections=1, breaker=rules)
        busy = [HttpStatus(503, "", retry_after_s=15.0)]
        house.backend.script = lambda call: busy.pop() if busy and call.method == "first.x" else 1
        async with house.supervisor.running():
            while not house.of("rpc_error"):
                await asyncio.sleep(0.01)
            ends = asyncio.get_running_loop().time() + 15.0
            await asyncio.sleep(14.9)
            assert served(house) == {"first.x": 1}
            await asyncio.sleep(1.0)
        at = [exchange.at for exchange in house.backend.exchanges if exchange.methods == ["waits.x"]]
        assert at[0] == pytest.approx(ends, abs=0.2)

    run()


@virtual
async def test_a_probe_goes_before_everybody_who_waits() -> None:
    own = source("own.x", breaker="engine/own.x", interval_s=3600.0)
    house = House(*(source(f"s{n}.x", interval_s=5.0) for n in range(4)), own, connections=1, breaker=TWICE)
    house.backend.delay_s = 0.5
    house.backend.script = lambda call: Disconnected("no") if call.method == "own.x" else 1
    async with house.supervisor.running():
        await asyncio.sleep(4.0)
        await house.supervisor.poll("engine")
        while house.states()[-1] != "open":
            await asyncio.sleep(0.01)
        retry_at = next(v.retry_at for v in house.supervisor.breakers() if v.name == "engine/own.x")
        assert retry_at is not None
        await asyncio.sleep(retry_at - WALL - asyncio.get_running_loop().time() - 0.1)
        await house.supervisor.poll("engine")
        house.backend.exchanges.clear()
        await asyncio.sleep(2.0)
    order = [exchange.methods[0] for exchange in house.backend.exchanges]
    assert order.index("own.x") <= 1, "at most the call that was under way is before it"


@virtual
async def test_a_call_that_waits_when_an_operator_forces_the_breaker_open_is_not_sent() -> None:
    house = House(*(source(f"s{n}.x") for n in range(3)), connections=1)
    house.backend.delay_s = 1.0
    async with house.supervisor.running():
        while not house.backend.exchanges:
            await asyncio.sleep(0.01)
        await house.supervisor.command("engine", "force-open", by="ops")
        await asyncio.sleep(30.0)
        assert len(house.backend.exchanges) == 1
        await house.supervisor.command("engine", "reset", by="ops")
        await asyncio.sleep(11.0)
        assert len(served(house)) == 3


@virtual
async def test_a_poller_that_fails_between_two_turns_forgets_no_place_and_no_source() -> None:
    house = House(*(source(f"s{n}.x", interval_s=2.0) for n in range(3)), connections=1)
    wait = house.poller._wait
    waits = 0

    async def breaks_down() -> None:
        nonlocal waits
        waits += 1
        if waits == 2:
            raise RuntimeError("before the first turn could begin")
        await wait()

    house.poller._wait = breaks_down  # type: ignore[method-assign]
    async with house.supervisor.running():
        await asyncio.sleep(6.0)
    assert len(served(house)) == 3


@virtual
async def test_a_poller_that_is_ended_and_started_again_forgets_no_place() -> None:
    house = House(*(source(f"s{n}.x") for n in range(5)), connections=2)
    house.backend.delay_s = 1.0
    opened = open_at_once(house.gateway)
    for _ in range(5):
        poller = asyncio.create_task(house.poller.run())
        await asyncio.sleep(0)
        await house.poller.restore({})
        house.poller.poll_now(list(house.poller.event_types))
        await asyncio.sleep(0.3)
        poller.cancel()
        await asyncio.gather(poller, return_exceptions=True)
    poller = asyncio.create_task(house.poller.run())
    house.backend.exchanges.clear()
    await asyncio.sleep(13.0)
    assert set(served(house)) == {f"s{n}.x" for n in range(5)}
    assert house.backend.most_in_flight == 2
    poller.cancel()
    await asyncio.gather(poller, return_exceptions=True)
    del opened
