"""Processes that are stopped and go on, or are killed: gateway and backend, for real, and what subscribers hear."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket

from tidegate.client import Backoff, Connected, Disconnected, Event, Gap, Item, Stream, StreamOptions, connect
from tidegate.verify import audit
from tidegate.verify.deployment import ENGINE, ENGINE_READY, GATEWAY, Deployment, local_deployment
from tidegate.verify.faultproxy import Fault
from tidegate.verify.frames import Frame, is_move, read_frame, seconds
from tidegate.verify.observer import Observer, observing
from tidegate.verify.programs import running_program
from tidegate.verify.settings import LOCAL

pytestmark = pytest.mark.real

PATIENCE_S = 60.0
INTERVAL_S = max(LOCAL.intervals_s.values())
LIMIT_S = max(2 * INTERVAL_S, INTERVAL_S + LOCAL.timeout_s)
"""The age from which a value is stale, whatever the last call came to."""

LATE = {"OVERDUE", "RPC_TIMEOUT"}
"""Why a value is stale for which somebody was stopped: RPC_TIMEOUT where the call has ended by now."""

SAVED_S = 1.0
"""A good value is on disk so long after it came."""


async def test_a_gateway_that_was_stopped_says_what_is_overdue_and_calls_nothing_fresh_that_is_not() -> None:
    async with (
        local_deployment() as deployment,
        observing(deployment.gateway.url, label="a subscriber", types=["*"]) as observer,
        open_websocket(f"{deployment.gateway.url.replace('http', 'ws', 1)}/ws?types=", proxy=None) as websocket,
    ):
        assert deployment.programs is not None
        await fresh(observer, deployment)
        with stopped(deployment.programs.gateway.pid):
            mark = observer.mark
            await websocket.send(json.dumps({"type": "subscribe", "data": {"types": list(deployment.sources)}}))
            asked = asyncio.create_task(deployment.gateway.snapshot())
            await asyncio.sleep(LIMIT_S + 1.0)
            young_since = time.time() - LIMIT_S
        handed = [frame for frame in (await asked).events if frame.type in deployment.sources]
        handed += await snapshots(websocket, len(deployment.sources))
        overdue = await stale(observer, deployment, after=mark)
        again = await fresh(observer, deployment, after=mark)
        claims = [*handed, *observer.values(deployment.sources, after=mark)]
        shown, counted = await missed_ticks(deployment.gateway.url)
        await judge(observer, deployment)
    assert len(handed) == 2 * len(deployment.sources)
    assert [frame for frame in claims if frame.stale is False and seconds(frame.as_of or "") < young_since] == []
    assert {frame.error_code for frame in overdue.values()} <= LATE
    assert all((overdue[name].seq or 0) < (again[name].seq or 0) for name in deployment.sources)
    assert all(0 < shown[name] <= counted[name] for name in deployment.sources), (shown, counted)


async def test_a_backend_that_was_stopped_or_killed_is_missed_and_found_again() -> None:
    async with (
        local_deployment() as deployment,
        observing(deployment.gateway.url, label="a subscriber", types=["*"]) as observer,
    ):
        assert deployment.programs is not None
        engine = deployment.programs.engine
        await fresh(observer, deployment)
        with stopped(engine.pid):
            hung = await stale(observer, deployment)
            await observer.when(lambda: has_opened(observer, deployment), within_s=PATIENCE_S)
            mark = observer.mark
        await fresh(observer, deployment, after=mark)
        mark = observer.mark
        await engine.kill()
        refused = await stale(observer, deployment, after=mark)
        mark = observer.mark
        command = (*ENGINE, "--port", engine.url.rpartition(":")[2])
        async with running_program("engine", command, ready=ENGINE_READY):
            await fresh(observer, deployment, after=mark)
            await judge(observer, deployment)
    assert {frame.error_code for frame in hung.values()} - {"CIRCUIT_BREAKER_OPEN"} <= LATE
    assert {frame.error_code for frame in refused.values()} - {"CIRCUIT_BREAKER_OPEN"} == {"RPC_DISCONNECT"}


async def test_a_client_of_a_gateway_that_was_killed_is_handed_the_saved_values_and_then_fresh_ones() -> None:
    command = (*GATEWAY, "--port", str(unused_port()))
    async with local_deployment(gateway_command=command) as deployment:
        types = deployment.sources
        options = StreamOptions(backoff=Backoff(first_s=0.1, max_s=0.1))
        async with connect(deployment.gateway.url, types=types, options=options) as stream, heard_by(stream) as heard:
            await seen(lambda: newest(heard, stale=False).keys() == set(types))
            await deployment.proxy.set(Fault.down())
            await seen(lambda: newest(heard, stale=True).keys() == set(types))
            good = newest(heard, stale=False)
            await asyncio.sleep(SAVED_S)
            mark = len(heard)
            await deployment.restart_gateway()
            await seen(lambda: newest(heard[mark:], stale=True).keys() == set(types))
            back = heard[mark:]
            await deployment.proxy.clear()
            await seen(lambda: newest(heard[mark:], stale=False).keys() == set(types))
            again = newest(heard[mark:], stale=False)
    links = [item for item in back if not isinstance(item, Event | Disconnected)]
    assert [type(item) for item in links] == [Connected, Gap]
    assert [item.reason for item in links if isinstance(item, Gap)] == ["epoch_changed"]
    restored = [item for item in back if isinstance(item, Event)]
    assert {event.type for event in restored if event.snapshot} == set(types)
    assert {event.error_code for event in restored} <= {"RESTORED", "RPC_DISCONNECT", "CIRCUIT_BREAKER_OPEN"}
    assert all(event.data_json == good[event.type].data_json for event in restored)
    assert all(event.as_of == good[event.type].as_of for event in restored)
    assert all(again[name].timestamp > good[name].timestamp for name in types)


# Processes


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP now, SIGCONT at the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# What a verification's client was told


async def stale(observer: Observer, deployment: Deployment, *, after: int = 0) -> dict[str, Frame]:
    """The first stale event of every source, once all were told."""
    return await first(observer, deployment, after=after, is_stale=True)


async def fresh(observer: Observer, deployment: Deployment, *, after: int = 0) -> dict[str, Frame]:
    """The first fresh event of every source, once all were told."""
    return await first(observer, deployment, after=after, is_stale=False)


async def first(observer: Observer, deployment: Deployment, *, after: int, is_stale: bool) -> dict[str, Frame]:
    def found() -> dict[str, Frame] | None:
        values = observer.values(deployment.sources, after=after)
        told = {frame.type: frame for frame in reversed(values) if frame.stale is is_stale}
        return told if len(told) == len(deployment.sources) else None

    return await observer.when(found, within_s=PATIENCE_S)


def has_opened(observer: Observer, deployment: Deployment) -> bool:
    return any(is_move(frame, deployment.backend, "open") for frame in observer.frames)


async def judge(observer: Observer, deployment: Deployment) -> None:
    """The stream goes on, was whole and in order, and nothing in it contradicts the rest."""
    await observer.ping(within_s=PATIENCE_S)
    assert observer.malformed == []
    assert audit.gaps(observer.frames, welcome=observer.welcome, everything=True) == []
    assert audit.lies(observer.frames, types=deployment.sources, breaker=deployment.backend) == []


async def snapshots(websocket: ClientConnection, count: int) -> list[Frame]:
    """The first `count` snapshots that come."""
    found: list[Frame] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            frame = read_frame(await websocket.recv())
            found += [frame] if frame.snapshot else []
    return found


async def missed_ticks(url: str) -> tuple[dict[str, int], dict[str, float]]:
    """The ticks that each source has missed: as the status shows them, and as the metrics count them."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/api/v1/status") as response:
            shown = {source["type"]: source["missed_ticks"] for source in (await response.json())["sources"]}
        async with session.get(f"{url}/metrics") as response:
            lines = re.findall(r'^tidegate_ticks_missed_total{type="(.*)"} (.*)$', await response.text(), re.MULTILINE)
    return shown, {name: float(count) for name, count in lines}


# What the client library was told


@contextlib.asynccontextmanager
async def heard_by(stream: Stream) -> AsyncIterator[list[Item]]:
    """Everything that `stream` yields, as it comes."""
    heard: list[Item] = []

    async def hear() -> None:
        async for item in stream:
            heard.append(item)  # noqa: PERF401 - others read the list meanwhile

    hearing = asyncio.create_task(hear())
    try:
        yield heard
    finally:
        hearing.cancel()
        await asyncio.wait([hearing])


async def seen(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


def newest(items: Iterable[Item], *, stale: bool) -> dict[str, Event]:
    """The newest stale or fresh event of each type."""
    return {item.type: item for item in items if isinstance(item, Event) and item.stale is stale}
