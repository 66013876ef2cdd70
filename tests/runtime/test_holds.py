"""``Retry-After``: what a subscriber sees while a backend asks to be left alone, and that it is."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from house import House, source, times, virtual

from tidegate.core.instant import from_rfc3339
from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.polling.outcome import ClassifyPolicy
from tidegate.errors import ApplicationError, BackendError, HttpStatus
from tidegate.ports import Call, SavedValue
from tidegate.testing import MemoryStore

WALL = 1_795_000_000.0
TWICE = BreakerRules(failure_threshold=2, open_s=1.0, open_max_s=4.0)


def busy(seconds: float, *, status: int = 429) -> HttpStatus:
    return HttpStatus(status, f"got {status}", retry_after_s=seconds)


def once(method: str, error: BackendError) -> Callable[[Call], object]:
    """The first call of `method` gets `error`, every other a good answer."""
    left = [error]
    return lambda call: left.pop() if call.method == method and left else {"ok": True}


def now() -> float:
    return asyncio.get_running_loop().time()


def until(condition: Callable[[], object]) -> Coroutine[Any, Any, None]:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    return wait()


@pytest.mark.parametrize("error", [busy(20.0), busy(20.0, status=503), ApplicationError(1, "", retry_after_s=20.0)])
def test_the_first_retry_after_keeps_every_call_back(error: BackendError) -> None:
    """Issue 11, entry 12: a 429 with 20 s was asked again after 0.5 s."""

    @virtual
    async def run() -> None:
        house = House(source("a.x", interval_s=0.5), source("b.x", interval_s=0.7), source("c.x", breaker="engine/c.x"))
        house.backend.script = once("a.x", error)
        async with house.supervisor.running():
            await until(lambda: house.of("rpc_error"))
            began = now()
            house.backend.exchanges.clear()
            await asyncio.sleep(10.0)
            await house.supervisor.poll("engine")
            house.poller.interest_changed()
            await asyncio.sleep(9.9)
            assert times(house.backend) == []
            await asyncio.sleep(30.0)
        assert times(house.backend)[0] == pytest.approx(began + 20.0, abs=0.02)
        assert house.states() == ["closed", "closed"], "one failure each is no reason to open"

    run()


@virtual
async def test_the_source_that_got_it_says_so_at_each_tick_and_the_others_when_they_are_too_old() -> None:
    house = House(source("a.x", interval_s=1.0), source("b.x", interval_s=3.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.script = once("a.x", busy(20.0))
        await until(lambda: house.of("rpc_error"))
        ends = now() + 20.0
        await asyncio.sleep(19.9)
        stale = {name: [draft for draft in house.of(name) if draft.stale] for name in ("a.x", "b.x")}
        (error,) = house.of("rpc_error")
        views = {view.type: view for view in house.supervisor.sources()}
    assert len(stale["a.x"]) == 21, "at once, and at each due tick"
    assert 4 <= len(stale["b.x"]) <= 7, "fresh until its age limit, then at each due tick"
    for draft in (*stale["a.x"], *stale["b.x"]):
        assert (draft.error_code, draft.cause) == ("RPC_HTTP_STATUS", None)
        assert draft.retry_at == pytest.approx(WALL + ends, abs=0.02)
    last_good = max(draft.as_of or 0.0 for draft in house.of("b.x")) - WALL
    (told,) = [at for at, draft in house.published if draft is stale["b.x"][0]]
    assert told == pytest.approx(last_good + 6.0, abs=0.01)
    assert from_rfc3339(msgspec.json.decode(error.data)["retry_at"]) == pytest.approx(WALL + ends, abs=0.02)
    assert {view.error_code for view in views.values()} == {"RPC_HTTP_STATUS"}
    for view in views.values():
        assert view.next_poll_at == pytest.approx(WALL + ends, abs=0.02), "the end of the hold"
    assert house.supervisor.breakers()[0].retry_at is None, "null unless open"


@virtual
async def test_an_answer_to_a_call_that_was_under_way_is_fresh_and_ends_no_hold() -> None:
    house = House(source("a.x", interval_s=1.0), source("b.x", interval_s=1.0))
    house.backend.script = once("a.x", busy(20.0))
    async with house.supervisor.running():
        await until(lambda: house.of("b.x"))
        house.backend.exchanges.clear()
        await asyncio.sleep(15.0)
    fresh = house.of("b.x")[0]
    assert (fresh.stale, fresh.retry_at, fresh.error_code) == (False, None, None)
    assert house.backend.exchanges == []


@virtual
async def test_a_breaker_that_opens_meanwhile_announces_no_earlier_retry() -> None:
    house = House(source("a.x", interval_s=1.0), source("b.x", interval_s=1.0), breaker=TWICE)
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.script = lambda call: busy(30.0) if call.method == "a.x" else HttpStatus(500, "500")
        await until(lambda: house.states()[-1] == "open")
        ends = now() + 30.0
        view = house.supervisor.breakers()[0]
        assert view.retry_at == pytest.approx(WALL + ends, abs=0.02)
        house.backend.exchanges.clear()
        house.backend.script = lambda call: 1
        await asyncio.sleep(29.9)
        assert house.backend.exchanges == []
        await asyncio.sleep(0.5)
    assert times(house.backend)[0] == pytest.approx(ends, abs=0.02)
    assert house.states()[-2:] == ["half_open", "closed"]


@virtual
async def test_the_probe_of_another_breaker_of_the_backend_waits_for_the_end_too() -> None:
    rules = BreakerRules(failure_threshold=2, open_s=8.0, open_max_s=8.0)
    house = House(source("a.x", interval_s=1.0), source("b.x", breaker="engine/b.x", interval_s=1.0), breaker=rules)
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.script = lambda call: 1 if call.method == "a.x" else HttpStatus(500, "500")
        await until(lambda: house.states()[-1] == "open")
        house.backend.script = once("a.x", busy(30.0))
        await until(lambda: any(draft.stale for draft in house.of("a.x")))
        ends = now() + 30.0
        house.backend.exchanges.clear()
        await asyncio.sleep(10.0)
        views = {view.name: view for view in house.supervisor.breakers()}
        assert views["engine/b.x"].retry_at == pytest.approx(WALL + ends, abs=0.02)
        assert house.of("b.x")[-1].retry_at == views["engine/b.x"].retry_at
        await asyncio.sleep(19.9)
        assert house.backend.exchanges == []
        await asyncio.sleep(2.0)
    assert sorted(exchange.methods[0] for exchange in house.backend.exchanges[:2]) == ["a.x", "b.x"]


@virtual
async def test_the_next_probe_of_a_half_open_breaker_waits_for_the_end() -> None:
    rules = BreakerRules(failure_threshold=1, open_s=2.0, open_max_s=2.0, half_open_successes=2)
    house = House(source("a.x", interval_s=50.0), source("b.x", breaker="engine/b.x", interval_s=50.0), breaker=rules)
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.script = lambda call: HttpStatus(500, "500") if call.method == "a.x" else 1
        await house.supervisor.poll("engine")
        await until(lambda: house.states()[-1] == "open")
        house.backend.script = lambda call: busy(10.0) if call.method == "b.x" else 1
        house.backend.delay_s = 0.5
        retry_at = house.supervisor.breaker("engine").retry_at
        assert retry_at is not None
        await asyncio.sleep(retry_at - WALL - now() - 0.2)
        house.poller.poll_now(["b.x"])
        house.backend.exchanges.clear()
        await until(lambda: house.states().count("open") == 2)
        ends = now() + 10.0
        await asyncio.sleep(9.9)
        view = house.supervisor.breaker("engine")
        assert (view.state.value, view.success_count, view.retry_at) == ("half_open", 1, None)
        assert len(house.backend.exchanges) == 2, "one call of b, and the probe that was under way when it ended"
        house.backend.script = lambda call: 1
        stale = house.of("a.x")[-1]
        assert stale.error_code == "CIRCUIT_BREAKER_OPEN"
        house.poller.poll_now(["a.x"])
        await asyncio.sleep(0.01)
        assert house.of("a.x")[-1].retry_at == pytest.approx(WALL + ends, abs=0.02)
        await asyncio.sleep(2.0)
        assert house.supervisor.breaker("engine").is_closed


@pytest.mark.parametrize("action", ["reset", "force-closed"])
@pytest.mark.parametrize("breaker", ["engine", "engine/b.x"])
def test_an_operator_ends_it_at_any_breaker_of_the_backend(action: str, breaker: str) -> None:
    @virtual
    async def run() -> None:
        house = House(source("a.x", interval_s=1.0), source("b.x", breaker="engine/b.x", interval_s=1.0))
        house.backend.script = once("a.x", busy(100.0))
        async with house.supervisor.running():
            await until(lambda: house.of("rpc_error"))
            await asyncio.sleep(10.0)
            house.backend.exchanges.clear()
            await house.supervisor.command(breaker, action, by="ops")
            await asyncio.sleep(1.1)
            assert {exchange.methods[0] for exchange in house.backend.exchanges} == {"a.x", "b.x"}
            assert house.of("a.x")[-1].stale is False

    run()


@virtual
async def test_force_open_ends_nothing_and_a_wish_while_forced_closed_is_heeded() -> None:
    house = House(source("a.x", interval_s=1.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        await house.supervisor.command("engine", "force-closed", by="ops")
        house.backend.script = once("a.x", busy(20.0))
        await until(lambda: house.of("rpc_error"))
        house.backend.exchanges.clear()
        await asyncio.sleep(5.0)
        assert house.backend.exchanges == []
        await house.supervisor.command("engine", "force-closed", by="ops")
        await asyncio.sleep(1.1)
        assert house.backend.exchanges, "asked for again, it ends the hold, though it moves nothing"


@virtual
async def test_it_is_cut_to_what_is_granted() -> None:
    house = House(source("a.x", interval_s=0.5), policy=ClassifyPolicy(retry_after_max_s=5.0))
    house.backend.script = once("a.x", busy(86_400.0))
    async with house.supervisor.running():
        await until(lambda: house.of("rpc_error"))
        began = now()
        house.backend.exchanges.clear()
        await asyncio.sleep(6.0)
    assert times(house.backend)[0] == pytest.approx(began + 5.0, abs=0.02)


@virtual
async def test_afterwards_those_that_were_due_are_asked_one_after_the_other_not_in_a_herd() -> None:
    house = House(*(source(f"s{n}.x", interval_s=10.0) for n in range(5)), source("rare.x", interval_s=1000.0))
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.script = once("s3.x", busy(25.0))
        await until(lambda: house.of("rpc_error"))
        ends = now() + 25.0
        house.backend.exchanges.clear()
        await asyncio.sleep(25.0 + 9.9)
    asked = [(exchange.at, exchange.methods[0]) for exchange in house.backend.exchanges]
    # At the backend's normal rate, but at least once a second: 2 % more, so that no second has more than that.
    assert [at for at, _ in asked[:5]] == pytest.approx([ends + 1.02 * n for n in range(5)], abs=0.02)
    assert {method for _, method in asked} == {f"s{n}.x" for n in range(5)}, "nothing was due of the other"


@virtual
async def test_afterwards_who_was_asked_longest_ago_is_first() -> None:
    house = House(source("often.x", interval_s=3.0), source("rare.x", interval_s=10.0))
    async with house.supervisor.running():
        await asyncio.sleep(5.0)
        house.backend.script = once("often.x", busy(12.0))
        await until(lambda: house.of("rpc_error"))
        house.backend.exchanges.clear()
        await asyncio.sleep(15.0)
    assert [exchange.methods for exchange in house.backend.exchanges][:2] == [["rare.x"], ["often.x"]]


@virtual
async def test_a_batch_that_was_due_meanwhile_is_made_once_afterwards() -> None:
    house = House(source("a.x", interval_s=10.0), source("b.x", interval_s=10.0), batch=True)
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(busy(25.0))
        await until(lambda: house.of("rpc_error"))
        ends = now() + 25.0
        house.backend.recover()
        house.backend.exchanges.clear()
        await asyncio.sleep(25.5)
    (made,) = house.backend.exchanges
    assert made.at == pytest.approx(ends, abs=0.02)
    assert sorted(made.methods) == ["a.x", "b.x"]


@virtual
async def test_what_was_never_answered_or_was_restored_says_why_it_is_not_asked() -> None:
    store = MemoryStore([SavedValue("old.x", "", b"7", WALL - 60.0)])
    house = House(source("a.x", interval_s=1.0), source("old.x"), source("new.x"), connections=1, store=store)
    house.backend.fail(busy(60.0))
    async with house.supervisor.running():
        await asyncio.sleep(15.0)
        assert house.supervisor.readiness().status == "degraded", "each has had its first turn"
        codes = {view.type: view.error_code for view in house.supervisor.sources()}
    assert len(house.backend.exchanges) == 1, "those that waited for the one connection are stopped too"
    answered = house.backend.exchanges[0].methods[0]
    expected = {"a.x": "RPC_HTTP_STATUS", "old.x": "RESTORED", "new.x": "RPC_HTTP_STATUS"}
    assert codes == expected | {answered: "RPC_HTTP_STATUS"}
