"""A gateway of a scenario that looks at time, not at CPU: started, listened to, and asked for its metrics.

Everything here runs on one event loop, together with the backends that the gateway asks.
"""

import asyncio
import json
import re
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed

from bench.faults import FaultyBackend
from bench.servers import Running, Server, Setup, running

Event = Mapping[str, Any]

ROOM = {
    "TIDEGATE_LIMITS__SEND_BUFFER_SOFT_BYTES": str(2**28),
    "TIDEGATE_LIMITS__SEND_BUFFER_HARD_BYTES": str(2**29),
}
"""The client that listens shares its process with the backends: nothing may be dropped for it when it is slow."""

SAMPLE = re.compile(r"^(tidegate_polls_total|tidegate_knocks_total)\{(.*)\} (\S+)$", re.MULTILINE)
"""Name, labels and value, in Prometheus's text format."""

NO_CALL = "CIRCUIT_BREAKER_OPEN"
"""The outcome of a poll that the breaker refused."""


@asynccontextmanager
async def gateway(
    server: Server, settings: str, *, drain_s: float = 0.0, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Running]:
    """`server` with these settings, started and ended off the loop. Raises `Unavailable`."""
    surroundings = {"TIDEGATE_SERVER__DRAIN_S": str(drain_s), **ROOM, **(environment or {})}
    context = running(server, Setup(settings=settings, environment=surroundings))
    started = await asyncio.to_thread(context.__enter__)
    try:
        yield started
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


@asynccontextmanager
async def listening(host: Running, take: Callable[[Event], None]) -> AsyncIterator[None]:
    """Hand every event of the gateway to `take`, as long as the context is open or the gateway is there."""
    url = f"ws://127.0.0.1:{host.place.port}/ws?types=*"
    async with open_websocket(url, max_size=None, max_queue=None, compression=None) as client:

        async def listen() -> None:
            with suppress(ConnectionClosed):
                async for text in client:
                    take(json.loads(text))
            print(f"{host.server.name} ended the stream", file=sys.stderr)

        task = asyncio.create_task(listen())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()


async def requested(host: Running, path: str, *, method: str = "GET") -> bytes:
    """The body of the gateway's answer."""
    url = f"http://127.0.0.1:{host.place.port}{path}"

    def ask() -> bytes:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
            content: bytes = answer.read()
            return content

    return await asyncio.to_thread(ask)


async def calls_and_knocks(host: Running, *, backend: str, failed_only: bool = False) -> tuple[int, int]:
    """How many calls of `backend` have ended so far, and how many knocks. Its sources are named `BACKEND.*`."""
    left_out = (NO_CALL, 'outcome="ok"') if failed_only else (NO_CALL,)
    calls = knocks = 0.0
    for name, labels, value in SAMPLE.findall((await requested(host, "/metrics")).decode()):
        if (
            name == "tidegate_polls_total"
            and f'source="{backend}.' in labels
            and not any(it in labels for it in left_out)
        ):
            calls += float(value)
        elif name == "tidegate_knocks_total" and f'backend="{backend}"' in labels:
            knocks += float(value)
    return round(calls), round(knocks)


def sources(backend: str, port: int, count: int, interval_s: float, *, host: str = "127.0.0.1", more: str = "") -> str:
    """TOML: a backend with default settings and `more` of its own, and the sources ``BACKEND.s0`` and so on."""
    text = f'[backends.{backend}]\nurl = "http://{host}:{port}"\nprotocol = "http"\n{more}\n'
    one = '[sources."{backend}.s{n}"]\nbackend = "{backend}"\nmethod = "{n}"\ninterval_s = {interval_s}\n'
    return text + "".join(one.format(backend=backend, n=n, interval_s=interval_s) for n in range(count))


def largest_gap(backend: FaultyBackend, interval_s: float, begin: float, end: float) -> float:
    """How much later than its interval the latest call of any source came, of those between two moments; seconds."""
    last: dict[int, float] = {}
    largest = 0.0
    for at, number in zip(backend.called_at, backend.numbers, strict=True):
        if number in last and begin <= at < end:
            largest = max(largest, at - last[number] - interval_s)
        last[number] = at
    return largest
