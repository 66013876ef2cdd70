"""Listeners that behave oddly, each asked by a gateway of its own: no hot loop, and another backend does not notice.

Rows: `server`, `listener`, per minute `cpu_ms`, `calls`, `knocks`, `connections` (accepted by the listener), `events`
(sent to a client of everything); of the backend beside it `gap_ms`, the longest delay of a call, and `stale`, its stale
events; `exit_s` from SIGTERM to the end, and `drain_s`.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from bench.faults import HOST, FaultyBackend, OneSlot, Outage, Resetting
from bench.measure import cpu_us
from bench.programs import HERE
from bench.results import Choice, Row
from bench.scenario import Scenario, Table
from bench.servers import Running, Server, servers_named
from bench.watching import Event, calls_and_knocks, gateway, largest_gap, listening, sources

DRAIN_S = 5.0

WARM_S = 5.0

SOURCES, CALM_SOURCES = 5, 10

SLOT_S = 0.3

STARTUP = HERE / "peers" / "names"
"""Python reads ``sitecustomize.py`` there when it starts: names that resolve oddly."""


@dataclass(frozen=True)
class Odd:
    """A kind of listener; `troubled` goes on for as long as it is measured."""

    name: str
    backend: Callable[[], FaultyBackend] = FaultyBackend
    host: str = HOST
    troubled: Callable[[FaultyBackend], Awaitable[None]] | None = None


async def flapping(backend: FaultyBackend) -> None:
    while True:
        await asyncio.sleep(SLOT_S)
        await backend.go_out(Outage.REFUSED)
        await asyncio.sleep(SLOT_S)
        await backend.come_back()


async def away(backend: FaultyBackend) -> None:
    """Well, and refused, for half a minute each."""
    while True:
        await asyncio.sleep(30)
        await backend.go_out(Outage.REFUSED)
        await asyncio.sleep(30)
        await backend.come_back()


LISTENERS = (
    Odd("well"),
    Odd("accepts and resets", Resetting),
    Odd("up 300 ms of every 600", troubled=flapping),
    Odd("one TCP slot", OneSlot),
    Odd("one TCP slot, out every other half minute", OneSlot, troubled=away),
    Odd("first of two addresses refused, out every other half minute", host="two-addresses.test", troubled=away),
    Odd("a name server that takes 20 s", host="slow-name.test"),
)


def run(choice: Choice) -> list[Row]:
    """All listeners at the same time, for `choice.seconds`."""
    return [row for server in servers_named(choice.servers) for row in asyncio.run(_all(server, choice.seconds))]


async def _all(server: Server, seconds: float) -> list[Row]:
    return list(await asyncio.gather(*(_measured(server, odd, seconds) for odd in LISTENERS)))


async def _measured(server: Server, odd: Odd, seconds: float) -> Row:
    backend, calm = odd.backend(), FaultyBackend()
    seen: list[Event] = []
    environment = {"PYTHONPATH": str(STARTUP)}
    settings = sources("odd", backend.port, SOURCES, 1.0, host=odd.host)
    settings += sources("calm", calm.port, CALM_SOURCES, 1.0)
    async with AsyncExitStack() as stack:
        for one in (backend, calm):
            await one.start()
            stack.callback(one.close)
        host = await stack.enter_async_context(gateway(server, settings, drain_s=DRAIN_S, environment=environment))
        await stack.enter_async_context(listening(host, seen.append))
        trouble = asyncio.ensure_future(odd.troubled(backend)) if odd.troubled else None
        await asyncio.sleep(WARM_S)
        began, spent, before = time.time(), cpu_us(host.pid), await calls_and_knocks(host, backend="odd")
        events, connected = len(seen), backend.connected
        await asyncio.sleep(seconds)
        spent, after = cpu_us(host.pid) - spent, await calls_and_knocks(host, backend="odd")
        minutes = (time.time() - began) / 60
        row = {
            "server": server.name,
            "listener": odd.name,
            "cpu_ms": spent / 1000 / minutes,
            "calls": (after[0] - before[0]) / minutes,
            "knocks": (after[1] - before[1]) / minutes,
            "connections": (backend.connected - connected) / minutes,
            "events": (len(seen) - events) / minutes,
            "gap_ms": 1000 * largest_gap(calm, 1.0, began, float("inf")),
            "stale": sum(it["type"].startswith("calm.") and it.get("stale", False) for it in seen[events:]),
            "drain_s": DRAIN_S,
            "exit_s": await _ended(host),
        }
        if trouble:
            trouble.cancel()
    print(f"{odd.name} done", file=sys.stderr)
    return row


async def _ended(host: Running) -> float:
    asked_at = time.time()
    host.process.terminate()
    await asyncio.to_thread(host.process.wait, 60)
    return time.time() - asked_at


def table(rows: Sequence[Row]) -> Table:
    heads = ["server", "listener", "CPU ms per minute", "calls per minute", "knocks", "connections accepted", "events"]
    heads += ["other backend: longest delay of a call, ms", "its stale events", f"exit, s (`drain_s` {DRAIN_S:g})"]
    return [heads, *map(_line, rows)]


def _line(row: Row) -> list[str]:
    counts = (f"{row[name]:.0f}" for name in ("cpu_ms", "calls", "knocks", "connections", "events", "gap_ms"))
    return [row["server"], row["listener"], *counts, str(row["stale"]), f"{row['exit_s']:.1f}"]


ODD = Scenario(
    "odd",
    "listeners that behave oddly, with 5 sources every 1 s, beside 10 of a backend that is well",
    Choice(("tidegate",), seconds=180.0),
    run,
    table,
)
