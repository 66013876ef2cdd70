"""The gateway for other people's tests, used as they would."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp
import pytest
from msgspec import Raw

from tidegate.client import Connected, Gap
from tidegate.config import from_document
from tidegate.core.events import Position
from tidegate.errors import (
    AccessRefused,
    ApplicationError,
    BackendError,
    ConfigError,
    Disconnected,
    HttpStatus,
    NoCredentials,
    PublishError,
    UnknownName,
)
from tidegate.ports import Call, SavedValue
from tidegate.testing import ManualClock, MemoryStore, RecordingMetrics, ScriptedBackend, gateway

STATUS = {"backend": "engine", "method": "status"}
CONFIG: Mapping[str, object] = {"sources": {"system.status": STATUS}}


def engine(**answers: object) -> ScriptedBackend:
    return ScriptedBackend({"status": {"n": 1}, **answers})


async def test_every_source_was_asked_once_when_it_is_entered() -> None:
    backend = engine()
    async with gateway(CONFIG, backends={"engine": backend}) as running, aiohttp.ClientSession() as http:
        assert [exchange.methods for exchange in backend.exchanges] == [["status"]]
        async with http.get(f"{running.url}/api/v1/snapshot/system.status") as response:
            (event,) = (await response.json())["events"]
    assert (event["data"], event["stale"], event["source"]) == ({"n": 1}, False, "engine")
    assert backend.closed


async def test_a_failure_and_a_recovery_are_events() -> None:
    backend = engine()
    async with gateway(CONFIG, backends={"engine": backend}) as running, running.follow("system.*") as events:
        assert (await events.next()).stale is False
        backend.fail(Disconnected("the cable is out"))
        await running.poll("engine")
        event = await events.next(where=lambda event: event.stale is True)
        assert (event.data, event.stale, event.error_code) == ({"n": 1}, True, "RPC_DISCONNECT")
        backend.recover()
        backend.script = {"status": {"n": 2}}
        await running.poll("engine")
        event = await events.next(where=lambda event: event.stale is False)
        assert (event.data, event.stale) == ({"n": 2}, False)


async def test_time_is_the_tests() -> None:
    """On a clock that stands still the breaker opens and closes exactly when the test lets it."""
    backend, clock = engine(), ManualClock()
    config = {**CONFIG, "backends": {"engine": {"breaker": {"failure_threshold": 1, "open_s": 60.0}}}}
    async with (
        gateway(config, backends={"engine": backend}, clock=clock) as running,
        running.follow("circuit_breaker.state") as events,
    ):
        assert (await events.next()).data["state"] == "closed"
        backend.fail(Disconnected("gone"))
        await running.poll("engine")
        assert (await events.next()).data["state"] == "open"
        asked = len(backend.exchanges)
        backend.recover()
        clock.advance(29.0)  # its open period is half of `open_s` at least
        await asyncio.sleep(0.05)
        assert len(backend.exchanges) == asked, "an open breaker lets nothing through"
        clock.advance(31.0)
        assert [(await events.next()).data["state"] for _ in range(2)] == ["half_open", "closed"]
    assert len(backend.exchanges) == asked + 1


async def test_a_hanging_backend_is_a_timeout() -> None:
    backend = engine()
    config = {**CONFIG, "backends": {"engine": {"timeout_s": 0.05}}}
    async with gateway(config, backends={"engine": backend}) as running, running.follow("system.status") as events:
        await events.next(where=lambda event: event.stale is False)
        backend.hang()
        await running.poll("engine")
        assert (await events.next(where=lambda event: event.stale is True)).error_code == "RPC_TIMEOUT"
        backend.recover()
        await running.poll("engine")
        await events.next(where=lambda event: event.stale is False)


async def test_an_answer_may_be_an_error_a_value_or_what_a_function_makes_of_the_call() -> None:
    sources = {name: {"backend": "engine", "method": name} for name in ("good", "bad", "unknown")}
    script: dict[str, object] = {"good": [1], "bad": ApplicationError(7, "no")}
    config = {"sources": sources}
    async with gateway(config, backends={"engine": ScriptedBackend(script)}) as running:
        found = {view.type: view.error_code for view in running.app.supervisor.sources()}
    assert found == {"good": None, "bad": "RPC_APPLICATION_ERROR", "unknown": "RPC_APPLICATION_ERROR"}
    backend = ScriptedBackend(lambda call: {"asked": call.method})
    async with gateway(config, backends={"engine": backend}) as running, running.follow("good") as events:
        assert (await events.next()).data == {"asked": "good"}


async def test_an_error_that_is_no_backends_own_ends_the_exchange() -> None:
    backend = ScriptedBackend({"status": ZeroDivisionError("a defect")})
    async with gateway(CONFIG, backends={"engine": backend}) as running:
        (view,) = running.app.supervisor.sources()
    assert view.stale


async def test_a_backend_that_cannot_be_closed_does_not_keep_the_gateway_from_ending() -> None:
    class Sticky(ScriptedBackend):
        async def aclose(self) -> None:
            raise RuntimeError("stuck")

    other = ScriptedBackend({"b": 1})
    config = {"sources": {name: {"backend": name, "method": name} for name in ("a", "b")}}
    async with gateway(config, backends={"a": Sticky({"a": 1}), "b": other}) as running:
        assert not any(view.stale for view in running.app.supervisor.sources())
    assert other.closed


async def test_our_own_part_may_be_missing() -> None:
    backend = engine()
    backend.missing = NoCredentials("no token")
    async with gateway(CONFIG, backends={"engine": backend}) as running:
        (view,) = running.app.supervisor.sources()
        (breaker,) = running.app.supervisor.breakers()
    assert (view.error_code, breaker.failure_count, backend.exchanges) == ("RPC_AUTH", 0, [])


async def test_connections_and_retry_after_are_what_the_configuration_says() -> None:
    backend = ScriptedBackend({"a": 1, "b": 1, "c": HttpStatus(429, "", retry_after_s=1000.0)}, delay_s=0.01)
    table = {"connections": 1, "retry_after_max_s": 77.0}
    config = {
        "backends": {"engine": {"url": "http://127.0.0.1:1", **table}},
        "sources": {name: {"backend": "engine", "method": name} for name in ("a", "b", "c")},
    }
    clock = ManualClock()
    async with gateway(config, backends={"engine": backend}, clock=clock) as running:
        held_until = running.app.supervisor.breakers()[0].held_until
    assert backend.most_in_flight == 1
    assert held_until is not None
    assert held_until.mono - clock.now().mono == pytest.approx(77.0)


async def test_what_the_test_publishes_is_delivered() -> None:
    async with gateway({}) as running, running.follow("build.*") as events:
        assert isinstance(await anext(events.stream), Connected)
        position = await running.publish("build.finished", {"ok": True}, key="main", retain=True)
        event = await events.next("build.finished")
        assert (event.key, event.data, event.seq) == ("main", {"ok": True}, position.seq)
        with pytest.raises(PublishError, match="only the gateway itself"):
            await running.publish("heartbeat", {})


async def test_an_operators_command() -> None:
    async with gateway(CONFIG, backends={"engine": engine()}) as running:
        assert (await running.command("engine", "force-open")).forced
        with pytest.raises(UnknownName):
            await running.command("engine", "explode")
        with pytest.raises(UnknownName):
            await running.poll("nobody")


async def test_a_store_carries_values_from_one_gateway_to_the_next() -> None:
    store = MemoryStore()
    async with gateway(CONFIG, backends={"engine": engine()}, store=store):
        pass
    assert store.closed
    assert [(value.type, value.data) for value in store.values.values()] == [("system.status", b'{"n":1}')]
    dead = ScriptedBackend()
    dead.fail(Disconnected("still booting"))
    saved = MemoryStore([SavedValue("system.status", "", b'{"n":1}', 1_795_000_000.0)])
    async with (
        gateway(CONFIG, backends={"engine": dead}, store=saved) as running,
        running.follow("system.status") as events,
    ):
        event = await events.next()
    assert (event.data, event.stale) == ({"n": 1}, True)


async def test_metrics_are_recorded() -> None:
    metrics = RecordingMetrics()
    async with (
        gateway(CONFIG, backends={"engine": engine()}, metrics=metrics) as running,
        aiohttp.ClientSession() as http,
        http.get(f"{running.url}/metrics") as response,
    ):
        assert response.status == 200
    ((source, backend, code, _),) = metrics.named("poll_ended")
    assert (source, backend, code) == ("system.status", "engine", None)


async def test_tokens_are_asked_for_where_the_configuration_says_so() -> None:
    config = {"auth": {"mode": "token", "tokens": [{"token": "secret", "types": ["a"]}]}}
    async with gateway(config) as running:
        async with running.follow("a", token="secret") as events:
            await anext(events.stream)
            await running.publish("a", 1)
            assert (await events.next()).data == 1
        async with running.follow("a") as events:
            with pytest.raises(AccessRefused):
                await events.next()


async def test_a_client_comes_back_with_its_position() -> None:
    async with gateway({}) as running:
        position = await running.publish("a", 1)
        await running.publish("a", 2)
        async with running.follow("a", since=str(position)) as events:
            assert (await events.next()).data == 2
        async with running.follow("a", since=str(Position("other", 1))) as events:
            assert isinstance(await anext(events.stream), Connected)
            assert isinstance(await anext(events.stream), Gap)


async def test_without_patterns_a_client_gets_the_defaults() -> None:
    async with gateway(CONFIG, backends={"engine": engine()}) as running, running.follow() as events:
        types = {(await events.next()).type for _ in range(3)}
    assert types == {"system.status", "circuit_breaker.state", "source.freshness"}


async def test_an_event_that_does_not_come_is_told_with_those_that_did() -> None:
    async with gateway({}) as running, running.follow("a") as events:
        await anext(events.stream)
        await running.publish("a", {"n": 1})
        with pytest.raises(AssertionError, match=r"(?s)expected an event of a within 0\.1 s; what came:.*Event.*'a'"):
            await events.next("a", where=lambda event: event.data == {"n": 2}, within_s=0.1)


async def test_it_takes_no_port_from_anybody_and_leaves_nothing_on_disk(tmp_path: Path) -> None:
    document = {**CONFIG, "server": {"port": 12080, "state_dir": str(tmp_path / "state")}}
    whole = from_document({**document, "backends": {"engine": {"url": "http://nowhere.invalid"}}}, environ={})
    for config in (document, whole):
        async with (
            gateway(config, backends={"engine": engine()}) as one,
            gateway(config, backends={"engine": engine()}) as other,
        ):
            ports = [re.search(r":(\d+)$", running.url) for running in (one, other)]
            assert len({match and match[1] for match in ports} | {"12080"}) == 3
    assert not list(tmp_path.iterdir())


async def test_nothing_of_it_is_left_when_the_test_ends() -> None:
    before = asyncio.all_tasks()
    backend = engine()
    async with gateway(CONFIG, backends={"engine": backend}) as running, running.follow() as events:
        await events.next()
        backend.hang()
        await running.poll("engine")
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before


async def test_a_configuration_that_is_wrong_is_refused_as_everywhere() -> None:
    with pytest.raises(ConfigError, match=r'sources\."system\.status"\.backend: expected the name of a backend'):
        async with gateway(CONFIG):
            pass
    for tables in (7, {"engine": 7}):
        with pytest.raises(ConfigError, match=r"backends.*: expected"):
            async with gateway({"backends": tables}, backends={"engine": engine()}):
                pass


async def test_a_clock_of_the_tests_is_advanced_to_a_heartbeat() -> None:
    """Nobody waits for it: the gateway asks no other clock for the time."""
    clock, metrics = ManualClock(), RecordingMetrics()
    backends = {"engine": ScriptedBackend({"system.status": {"n": 1}})}
    async with gateway(CONFIG, backends=backends, clock=clock, metrics=metrics):
        for beats in range(3):
            published = metrics.readings("tidegate_events_published_total")
            assert [each.value for each in published if each.labels == ("heartbeat",)] == [beats]
            clock.advance(10.0)
            for _ in range(10):
                await asyncio.sleep(0)


class Hanging(ScriptedBackend):
    """Answers until it `hangs`, and then not at all."""

    hangs = False
    is_asked: asyncio.Event

    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        answers = await super().call(calls)
        if self.hangs:
            self.is_asked.set()
            await asyncio.Event().wait()
        return answers


async def test_a_clock_of_the_tests_is_advanced_to_the_age_at_which_data_is_overdue() -> None:
    clock, backend = ManualClock(), engine()
    async with (
        gateway(CONFIG, backends={"engine": backend}, clock=clock) as running,
        running.follow("system.*") as events,
    ):
        assert (await events.next()).stale is False
        (view,) = running.app.supervisor.sources()
        clock.advance(view.max_age_s + 0.1)
        event = await events.next()
        assert (event.data, event.stale, event.error_code) == ({"n": 1}, True, "OVERDUE")
        assert (await events.next()).stale is False, "and it is asked again"


async def test_a_clock_of_the_tests_is_advanced_to_the_deadline_of_a_call() -> None:
    clock, backend = ManualClock(), Hanging({"status": {"n": 1}})
    backend.is_asked = asyncio.Event()
    config = {"backends": {"engine": {"timeout_s": 2.0}}, "sources": {"system.status": STATUS | {"interval_s": 10.0}}}
    async with (
        gateway(config, backends={"engine": backend}, clock=clock) as running,
        running.follow("system.*") as events,
    ):
        assert (await events.next()).stale is False
        backend.hangs = True
        await running.poll("engine")
        await backend.is_asked.wait()
        await asyncio.sleep(0)
        clock.advance(2.0)
        event = await events.next()
        assert (event.stale, event.error_code) == (True, "RPC_TIMEOUT")
