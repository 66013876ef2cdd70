"""The fault proxy in front of the gateway: clients whose connections break, stall and crawl still miss nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from tidegate.client import Backoff, Connected, Disconnected, Event, Gap, Item, StreamOptions, connect
from tidegate.testing import RunningGateway, ScriptedBackend, gateway
from tidegate.verify.faultproxy import AnyFault, Fault, FaultProxy

CONFIG = {
    "server": {"heartbeat_interval_s": 0.2},
    "sources": {"system.status": {"backend": "engine", "method": "status", "interval_s": 0.05}},
}
OPTIONS = StreamOptions(backoff=Backoff(first_s=0.05, max_s=0.05), ping_timeout_s=0.3)
PATIENCE_S = 60.0


@contextlib.asynccontextmanager
async def followed() -> AsyncIterator[tuple[RunningGateway, FaultProxy, list[Item]]]:
    """A gateway, the proxy in front of it, and all that a client of everything behind that is told."""
    heard: list[Item] = []

    async def follow(url: str) -> None:
        async with connect(url, types=["*"], options=OPTIONS) as stream:
            async for item in stream:
                heard.append(item)  # noqa: PERF401 - others read the list meanwhile

    async with (
        gateway(CONFIG, backends={"engine": ScriptedBackend({"status": {"n": 1}})}) as running,
        FaultProxy(upstream=running.url, seed=1) as proxy,
    ):
        following = asyncio.create_task(follow(proxy.url))
        try:
            yield running, proxy, heard
        finally:
            following.cancel()
            await asyncio.wait([following])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


def live(heard: list[Item]) -> list[int]:
    """The positions of the events that were told live or replayed."""
    return [item.seq for item in heard if isinstance(item, Event) and item.seq is not None and not item.snapshot]


def connections(heard: list[Item]) -> list[Connected]:
    return [item for item in heard if isinstance(item, Connected)]


async def test_a_stream_that_is_sliced_and_slowed_down_is_whole() -> None:
    async with followed() as (running, proxy, heard):
        proxy.set(Fault.slicing(size_bytes=7))
        proxy.set(Fault.latency(delay_s=0.001, jitter_s=0.01))
        proxy.set(Fault.bandwidth(bytes_per_s=200_000))
        await until(lambda: len(live(heard)) > 0)
        last = (await running.publish("load.test", {"n": 1})).seq
        await until(lambda: last in live(heard))
    assert len(connections(heard)) == 1
    assert live(heard) == list(range(live(heard)[0], live(heard)[-1] + 1))


@pytest.mark.parametrize(
    "fault",
    [Fault.reset(probability=0.2), Fault.reset(after_bytes=100, probability=0.2), Fault.black_hole(), Fault.down()],
)
async def test_what_a_client_missed_while_its_connection_was_broken_is_replayed(fault: AnyFault) -> None:
    async with followed() as (running, proxy, heard):
        await until(lambda: len(live(heard)) > 0)
        proxy.set(fault)
        await until(lambda: any(isinstance(item, Disconnected) for item in heard))
        missed = (await running.publish("load.test", {"n": 1})).seq
        proxy.clear()
        await until(lambda: missed in live(heard))
    assert live(heard) == list(range(live(heard)[0], live(heard)[-1] + 1))
    assert [item for item in heard if isinstance(item, Gap)] == []
    first, *again = connections(heard)
    assert not first.resumed
    assert again
    assert all(connected.resumed for connected in again)
