"""One suite for every implementation of a port, so that a fake is worth what is tested with it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from msgspec import Raw
from prometheus_client.parser import text_string_to_metric_families
from scripted_http import Peer, http_response, scripted

from tidegate.core.grant import EVERYTHING, Coverage
from tidegate.core.measurements import (
    BreakerMoved,
    ClientConnected,
    ClientLeft,
    EventPublished,
    EventsSkipped,
    PollEnded,
    RequestRefused,
    TicksMissed,
)
from tidegate.errors import ApplicationError, BackendError, Disconnected, ErrorCode, RefusalReason
from tidegate.outbound.backends import HttpJsonBackend, HttpOptions, JsonRpcBackend
from tidegate.outbound.clock import SystemClock
from tidegate.outbound.metrics import PrometheusMetrics
from tidegate.ports import Backend, Call, Clock, RenderedMetrics
from tidegate.testing import ManualClock, RecordingMetrics, ScriptedBackend

ANSWERS: Mapping[str, object] = {
    "number": Raw(b"1.10"),
    "large": 2**60,
    "text": "\u00e4\n",
    "nested": {"a": [{"b": None}], "c": {}},
}
ERROR = ApplicationError(-32000, "the disk is gone")

Given = Callable[[], AbstractAsyncContextManager[Backend]]


async def http_answer(peer: Peer) -> None:
    """A server of `ANSWERS`: JSON-RPC where a body comes, plain HTTP elsewhere; "hang" and "break" do that."""
    while True:
        request = await peer.request()
        asked = json.loads(request.body or "null")
        methods = [each["method"] for each in ([asked] if isinstance(asked, dict) else asked or [])]
        path = request.line.split()[1].rpartition("/")[2]
        if "hang" in (*methods, path):
            await peer.until_closed()
        if "break" in (*methods, path):
            return
        if isinstance(asked, dict):
            body = _rpc(asked)
        elif asked:
            body = b"[" + b",".join(map(_rpc, reversed(asked))) + b"]"
        else:
            body = _json(ANSWERS[path])
        await peer.send(http_response(body))


def _rpc(asked: Mapping[str, Any]) -> bytes:
    method = asked["method"]
    head = b'{"jsonrpc":"2.0","id":%d,' % asked["id"]
    if method == "error":
        return head + b'"error":{"code":-32000,"message":"the disk is gone"}}'
    return head + b'"result":' + _json(ANSWERS[method]) + b"}"


def _json(value: object) -> bytes:
    """Not compact."""
    return bytes(value) if isinstance(value, Raw) else json.dumps(value, indent=1, ensure_ascii=False).encode()


@asynccontextmanager
async def json_rpc() -> AsyncIterator[Backend]:
    async with scripted(http_answer) as server:
        backend = JsonRpcBackend(HttpOptions(url=server.url))
        yield backend
        await backend.aclose()


@asynccontextmanager
async def http_json() -> AsyncIterator[Backend]:
    async with scripted(http_answer) as server:
        backend = HttpJsonBackend(HttpOptions(url=server.url))
        yield backend
        await backend.aclose()


class OfMethods(ScriptedBackend):
    """Breaks down or hangs as the method asks for it, as the server above does."""

    async def call(self, calls: Sequence[Call]) -> list[Raw | BackendError]:
        self.recover()
        if any(call.method == "break" for call in calls):
            self.fail(Disconnected("it ended in mid-air"))
        if any(call.method == "hang" for call in calls):
            self.hang()
        return await super().call(calls)


@asynccontextmanager
async def fake() -> AsyncIterator[Backend]:
    backend = OfMethods({**ANSWERS, "error": ERROR})
    yield backend
    await backend.aclose()


BACKENDS = [json_rpc, http_json, fake]
WITH_BATCHES = [json_rpc, fake]


class TestBackend:
    @pytest.mark.parametrize("given", BACKENDS)
    @pytest.mark.parametrize("method", ANSWERS)
    async def test_an_answer_is_compact_json_with_its_digits(self, given: Given, method: str) -> None:
        async with given() as backend:
            (answer,) = await backend.call([Call(method)])
        assert isinstance(answer, Raw)
        given_back = ANSWERS[method]
        compact = json.dumps(given_back, separators=(",", ":"), ensure_ascii=False) if method != "number" else "1.10"
        assert bytes(answer) == compact.encode()

    @pytest.mark.parametrize("given", WITH_BATCHES)
    async def test_answers_come_in_the_order_of_the_calls_and_an_error_in_the_place_of_its_call(
        self, given: Given
    ) -> None:
        async with given() as backend:
            first, second, third = await backend.call([Call("number"), Call("error"), Call("large")])
        assert (first, third) == (Raw(b"1.10"), Raw(b"%d" % 2**60))
        assert isinstance(second, ApplicationError)
        assert (second.rpc_code, str(second)) == (ERROR.rpc_code, str(ERROR))

    @pytest.mark.parametrize("given", BACKENDS)
    async def test_an_exchange_that_fails_as_a_whole_raises_and_the_next_one_is_well(self, given: Given) -> None:
        async with given() as backend:
            with pytest.raises(Disconnected):
                await backend.call([Call("break")])
            assert await backend.call([Call("number")]) == [Raw(b"1.10")]

    @pytest.mark.parametrize("given", BACKENDS)
    async def test_a_cancelled_call_leaves_no_task_behind(self, given: Given) -> None:
        async with given() as backend:
            await backend.call([Call("number")])
            before = asyncio.all_tasks()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await backend.call([Call("hang")])
            await until(lambda: asyncio.all_tasks() <= before)

    @pytest.mark.parametrize("given", BACKENDS)
    async def test_closing_it_fails_the_calls_in_flight(self, given: Given) -> None:
        async with given() as backend:
            call = asyncio.create_task(_ask(backend, "hang"))
            await asyncio.sleep(0.02)
            await backend.aclose()
            async with asyncio.timeout(20):
                with pytest.raises(Disconnected):
                    await call


class TestMetrics:
    @pytest.mark.parametrize("metrics", [PrometheusMetrics(version="1"), RecordingMetrics()], ids=["real", "fake"])
    def test_takes_whatever_it_is_told_and_can_be_shown(self, metrics: RenderedMetrics) -> None:
        for text in ("a.b", "", 'q"\n', "ä" * 300):
            metrics.observe(EventPublished(text, 3))
            metrics.observe(PollEnded(text, None, 0.1))
            metrics.observe(PollEnded(text, ErrorCode.RPC_TIMEOUT, 2.0))
            metrics.observe(TicksMissed(text, 2))
            metrics.observe(BreakerMoved(text, "open"))
            metrics.observe(ClientConnected(text))
            metrics.observe(ClientLeft(text, text))
            metrics.observe(EventsSkipped(text, 7))
            metrics.observe(RequestRefused("http", RefusalReason.BAD_TOKEN))
        coverage = Coverage(types=EVERYTHING, breakers=frozenset(), backends=frozenset())
        list(text_string_to_metric_families(metrics.render(coverage).decode()))


class TestClock:
    @pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["real", "fake"])
    def test_both_clocks_go_together_and_never_back(self, clock: Clock) -> None:
        first, second = clock.now(), clock.now()
        assert second.mono >= first.mono
        assert second.wall - first.wall == pytest.approx(second.mono - first.mono, abs=1.0)

    async def test_monotonic_time_is_that_of_the_event_loop(self) -> None:
        assert SystemClock().now().mono == pytest.approx(asyncio.get_running_loop().time(), abs=1.0)

    def test_time_passes_when_the_test_says_so(self) -> None:
        clock = ManualClock()
        before = clock.now()
        clock.advance(2.5)
        assert (clock.now().mono - before.mono, clock.now().wall - before.wall) == (2.5, 2.5)

    async def test_who_sleeps_is_woken_when_time_passes(self) -> None:
        clock, woken = ManualClock(), []

        async def sleep(seconds: float) -> None:
            await clock.sleep_until(clock.now().mono + seconds)
            woken.append(seconds)

        async with asyncio.TaskGroup() as sleepers:
            for seconds in (3.0, 1.0, 2.0):
                sleepers.create_task(sleep(seconds))
            given_up = sleepers.create_task(sleep(1.5))
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.sleep(0)
            assert woken == []
            clock.advance(2.0)
            await asyncio.sleep(0)
            assert woken == [1.0, 2.0]
            clock.advance(1.0)
        assert woken == [1.0, 2.0, 3.0]

    @pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["real", "fake"])
    async def test_a_time_that_is_past_is_not_waited_for_but_others_have_their_turn(self, clock: Clock) -> None:
        others: list[str] = []
        asyncio.get_running_loop().call_soon(others.append, "had their turn")
        await clock.sleep_until(clock.now().mono - 1.0)
        assert others == ["had their turn"]


async def _ask(backend: Backend, method: str) -> None:
    await backend.call([Call(method)])


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
