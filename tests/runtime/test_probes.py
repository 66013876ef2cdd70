"""What a subscriber sees when one source of a backend fails by our own mistake, and when a half-open one is probed."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from house import TIMEOUT_S, House, source, stall, times, virtual

from tidegate.core.polling.breaker_values import BreakerRules
from tidegate.core.shaping import Shape
from tidegate.errors import (
    ApplicationError,
    BackendError,
    DeadlineExceeded,
    Disconnected,
    HttpStatus,
    InvalidResponse,
    NoCredentials,
)
from tidegate.ports import Ask, Call
from tidegate.testing import ScriptedBackend

TWICE = BreakerRules(failure_threshold=2, open_s=1.0, open_max_s=4.0)


def of(**answers: object) -> Callable[[Call], object]:
    """Answers by the first part of the method's name."""
    return lambda call: answers[call.method.partition(".")[0]]


def state(house: House) -> str:
    return house.supervisor.breakers()[0].state.value


OUR_MISTAKES = {
    "unknown method": ApplicationError(-32601, "no such method"),
    "wrong params": ApplicationError(-32602, "no"),
    "no such path": HttpStatus(404, "404"),
    "moved": HttpStatus(302, "302"),
}


@pytest.mark.parametrize("mistake", OUR_MISTAKES)
@pytest.mark.parametrize("batch", [False, True])
def test_a_wrong_method_makes_only_its_own_source_stale(mistake: str, batch: bool) -> None:
    @virtual
    async def run() -> None:
        house = House(source("bad.x", interval_s=1.0), source("good.x", interval_s=1.0), breaker=TWICE, batch=batch)
        house.backend.script = of(bad=OUR_MISTAKES[mistake], good=1)
        async with house.supervisor.running():
            await asyncio.sleep(60.0)
        assert house.states() == ["closed"]
        assert not any(draft.stale for draft in house.of("good.x"))
        assert [msgspec.json.decode(d.data)["error_code"] for d in house.of("source.freshness") if d.key == "bad.x"]

    run()


MAPPINGS: dict[str, tuple[dict[str, Any], object]] = {
    "select": ({"shape": Shape(select="/nope")}, {"a": 1}),
    "items": ({"shape": Shape(items=("/nope",), key=(("id",),))}, {"a": 1}),
    "key": ({"shape": Shape(items=("/a",), key=(("id",),))}, {"a": [{"n": 1}]}),
    "a key twice": ({"shape": Shape(items=("/a",), key=(("id",),))}, {"a": [{"id": 1}, {"id": 1}]}),
    "event_bytes": ({}, "x" * 1001),
}


@pytest.mark.parametrize("what", MAPPINGS)
@pytest.mark.parametrize("batch", [False, True])
def test_a_mapping_that_fails_makes_only_its_own_source_stale(what: str, batch: bool) -> None:
    fields, answer = MAPPINGS[what]

    @virtual
    async def run() -> None:
        house = House(
            source("bad.x", interval_s=1.0, **fields), source("good.x", interval_s=10.0), breaker=TWICE, batch=batch
        )
        house.backend.script = of(bad=answer, good=1)
        async with house.supervisor.running():
            await asyncio.sleep(60.0)
            error_codes = {view.type: view.error_code for view in house.supervisor.sources()}
        assert house.states() == ["closed"]
        assert error_codes == {"bad.x": "RPC_INVALID_RESPONSE", "good.x": None}
        assert not any(draft.stale for draft in house.of("good.x"))
        assert house.supervisor.breakers()[0].failure_count == 0

    run()


@pytest.mark.parametrize(
    "answer",
    [*OUR_MISTAKES.values(), HttpStatus(401, "who"), "x" * 1001],
    ids=[*OUR_MISTAKES, "account refused", "too long"],
)
def test_a_probe_that_fails_by_our_mistake_finds_the_backend_back(answer: object) -> None:
    """Issue 11, entry 9: `gone` every 0.5 s is answered -32601, `good` every 20 s well; 503 for a while between."""

    @virtual
    async def run() -> None:
        house = House(source("gone.x", interval_s=0.5), source("good.x", interval_s=20.0), breaker=TWICE)
        house.backend.script = of(gone=answer, good=1)
        async with house.supervisor.running():
            await asyncio.sleep(1.5)
            house.backend.fail(HttpStatus(503, "starting"))
            while state(house) != "open":
                await asyncio.sleep(0.01)
            house.backend.recover()
            await asyncio.sleep(1.0 + TIMEOUT_S)
            assert state(house) == "closed", "one probe at retry_at, whoever's"

    run()


@virtual
async def test_a_run_of_failures_is_neither_ended_nor_continued_by_our_mistake() -> None:
    house = House(source("bad.x", interval_s=1.0), source("down.x", interval_s=10.0), breaker=TWICE)
    house.backend.script = of(bad=ApplicationError(-32601, "no"), down=Disconnected("refused"))
    async with house.supervisor.running():
        await asyncio.sleep(8.0)
        assert house.supervisor.breakers()[0].failure_count == 1
        await asyncio.sleep(5.0)
        assert house.states()[:2] == ["closed", "open"], "the second failure of `down`, nine answers later"


@virtual
async def test_each_further_probe_follows_at_once_with_who_was_asked_longest_ago() -> None:
    thrice = BreakerRules(failure_threshold=3, open_s=1.0, open_max_s=4.0, half_open_successes=3)
    house = House(*(source(f"{name}.x", interval_s=100.0) for name in "abc"), breaker=thrice)
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(Disconnected("refused"))
        await house.supervisor.poll("engine")
        while state(house) != "open":
            await asyncio.sleep(0.01)
        house.backend.recover()
        house.backend.exchanges.clear()
        await asyncio.sleep(1.5)
        probes = house.backend.exchanges[:3]
        assert state(house) == "closed"
    assert [exchange.methods for exchange in probes] == [["a.x"], ["b.x"], ["c.x"]]
    assert times(house.backend)[2] - times(house.backend)[0] == pytest.approx(0.2, abs=0.001), "each takes 0.1 s"
    first, *others = [draft for draft in house.of("a.x") if draft.as_of and draft.as_of > 1_795_000_001.6]
    assert (first.stale, first.error_code) == (True, "CIRCUIT_BREAKER_OPEN")
    assert others[-1].stale is False


@virtual
async def test_if_every_account_is_refused_the_first_that_may_be_asked_again_is_the_probe() -> None:
    house = House(source("a.x", interval_s=1.0), source("b.x", interval_s=1.0), breaker=TWICE)
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(HttpStatus(401, "who are you"))
        await asyncio.sleep(3.0)
        backs_off_until = min(s.calls.waits_until for s in house.poller._state._sources.values())
        house.backend.fail(Disconnected("refused"))
        while state(house) != "open":
            await asyncio.sleep(0.01)
        house.poller._state._sources["a.x"].calls.waits_until = house.poller._state._sources[
            "b.x"
        ].calls.waits_until = asyncio.get_running_loop().time() + 30.0
        house.poller._state._sources["b.x"].calls.waits_until -= 7.0
        house.poller._woken.set()
        house.backend.recover()
        house.backend.exchanges.clear()
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(29.0)
    assert backs_off_until > 0
    assert house.backend.exchanges[0].methods == ["b.x"]
    assert times(house.backend)[0] == pytest.approx(began + 23.0, abs=0.01)
    assert state(house) == "closed"


@virtual
async def test_a_token_that_cannot_be_read_is_no_failure_of_the_backend_and_takes_no_probe() -> None:
    house = House(source("a.x", interval_s=1.0), breaker=TWICE)
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.missing = NoCredentials("expected a bearer token in /run/token, got No such file or directory")
        house.backend.exchanges.clear()
        await asyncio.sleep(60.0)
        assert (house.states(), house.backend.exchanges) == (["closed"], [])
        assert house.of("a.x")[-1].error_code == "RPC_AUTH"
        (first, *_) = house.of("rpc_error")
        assert msgspec.json.decode(first.data)["error_code"] == "RPC_AUTH"
        assert len([c for _, _, c, _ in house.metrics.named("poll_ended") if c == "RPC_AUTH"]) < 25, "it backs off"

        house.backend.missing = None
        await asyncio.sleep(4.0 + 1.0)
        assert house.of("a.x")[-1].stale is False


@virtual
async def test_without_a_token_an_open_breaker_stays_open_and_the_next_source_is_its_probe() -> None:
    house = House(source("a.x", interval_s=1.0), source("b.x", interval_s=1.0), breaker=TWICE)
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(Disconnected("refused"))
        while state(house) != "open":
            await asyncio.sleep(0.01)
        house.backend.missing = NoCredentials("no token")
        house.backend.exchanges.clear()
        await asyncio.sleep(30.0)
        assert house.backend.exchanges == []
        assert state(house) == "open", "nobody was let in to probe"
        house.backend.missing = None
        house.backend.recover()
        await asyncio.sleep(4.0 + 1.0)
        assert state(house) == "closed"


@virtual
async def test_a_batch_that_is_due_with_the_probe_goes_as_one() -> None:
    house = House(*(source(f"{name}.x", interval_s=5.0) for name in "abc"), batch=True, breaker=TWICE)
    async with house.supervisor.running():
        await asyncio.sleep(1.5)
        house.backend.fail(Disconnected("refused"))
        while state(house) != "open":
            await asyncio.sleep(0.01)
        house.backend.recover()
        house.backend.exchanges.clear()
        stall(5.5)
        await asyncio.sleep(0.5)
    (probe,) = house.backend.exchanges
    assert sorted(probe.methods) == ["a.x", "b.x", "c.x"]
    assert state(house) == "closed"


class Deliberate(ScriptedBackend):
    """Takes its time to get ready."""

    prepared = 0

    async def prepare(self) -> Ask:
        self.prepared += 1
        await asyncio.sleep(0.5)
        return await super().prepare()


@virtual
async def test_only_one_source_gets_ready_to_probe() -> None:
    backend = Deliberate(lambda call: 1)
    house = House(*(source(f"{name}.x", interval_s=0.7) for name in "abc"), backend=backend, breaker=TWICE)
    async with house.supervisor.running():
        await asyncio.sleep(2.5)
        backend.fail(Disconnected("refused"))
        while state(house) != "open":
            await asyncio.sleep(0.01)
        retry_at = house.supervisor.breakers()[0].retry_at
        assert retry_at is not None
        await asyncio.sleep(retry_at - 1_795_000_000.0 - asyncio.get_running_loop().time() - 0.01)
        backend.prepared = 0
        await asyncio.sleep(0.4)
        assert backend.prepared == 1
        assert state(house) == "open", "it moves when the probe is sent"
        backend.recover()
        await asyncio.sleep(0.2)
        assert state(house) == "closed"


@virtual
async def test_a_batch_of_our_mistakes_alone_leaves_the_breaker_alone_and_one_missing_answer_does_not() -> None:
    house = House(source("a.x", shape=Shape(select="/nope")), source("b.x"), batch=True, breaker=TWICE)
    house.backend.script = of(a={}, b=ApplicationError(-32601, "no such method"))
    async with house.supervisor.running():
        await asyncio.sleep(45.0)
        assert house.states() == ["closed"]
        house.backend.script = of(a={}, b=InvalidResponse("expected an answer with id 2 in the batch, got none"))
        await asyncio.sleep(20.0)
    assert "open" in house.states()


@pytest.mark.parametrize("error", [DeadlineExceeded("late"), Disconnected("reset"), HttpStatus(500, "500")])
def test_one_fault_of_the_transport_is_one_failure_of_a_whole_batch(error: BackendError) -> None:
    @virtual
    async def run() -> None:
        house = House(*(source(f"{name}.x") for name in "abc"), batch=True, breaker=TWICE)
        house.backend.fail(error)
        async with house.supervisor.running():
            await asyncio.sleep(2.0)
            assert house.supervisor.breakers()[0].failure_count == 1

    run()
