"""No herd: thousands of sources whose backend is back are asked within a cap, and other backends do not notice.

Rows: those of `bench.recovering.Case.row` with `latency_s`, `normal_per_s`, `cap_per_s`, `per_second` (the calls in
each second since the return), and for the backend that was well all the time `gap_before_ms` and `gap_ms`: the longest
time between two calls of one of its sources over its interval, before and since the outage began.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from bench.faults import FaultyBackend, Outage, per_second
from bench.recovering import Cell, GatewayLane, measured
from bench.results import Choice, Row
from bench.scenario import Scenario, Table
from bench.servers import Server, servers_named
from bench.watching import largest_gap, sources

INTERVAL_S = 60.0

LATENCY_S = 0.02

WARM_S = 20.0

PATIENCE_S = 400.0

SHOWN_S = 90

ARRIVAL = 1.02
"""Calls are counted where they arrive: within a second that slides, a few come early or late on a busy machine."""

CALM_SOURCES = 20


def run(choice: Choice) -> list[Row]:
    """`choice.subscribers` sources on each of two backends, which are out for `choice.seconds`."""
    return [row for server in servers_named(choice.servers) for row in asyncio.run(_run(server, choice))]


async def _run(server: Server, choice: Choice) -> list[Row]:
    cells = [
        Cell(outage, choice.subscribers, INTERVAL_S, (choice.seconds,), latency_s=LATENCY_S)
        for outage in (Outage.REFUSED, Outage.ERROR)
    ]
    calm = FaultyBackend()
    async with AsyncExitStack() as stack:
        await calm.start()
        stack.callback(calm.close)
        lane = GatewayLane(server, cells, more=sources("calm", calm.port, CALM_SOURCES, 1.0), counted=False)
        rows = await measured([lane], patience_s=PATIENCE_S, warm_s=WARM_S, after_s=SHOWN_S)
    out_at = min(case.round.out_at for case in lane.cases)
    more = {
        "latency_s": LATENCY_S,
        "normal_per_s": choice.subscribers / INTERVAL_S,
        "cap_per_s": max(20.0, 4 * choice.subscribers / INTERVAL_S),
        "gap_before_ms": 1000 * largest_gap(calm, 1.0, 0.0, out_at),
        "gap_ms": 1000 * largest_gap(calm, 1.0, out_at, float("inf")),
    }
    for row, case in zip(rows, lane.cases, strict=True):
        counted = per_second(case.backend.called_at, case.round.returned_at)
        row |= {**more, "per_second": [counted[second] for second in range(SHOWN_S)]}
    return rows


def table(rows: Sequence[Row]) -> Table:
    heads = ["server", "outage", "first fresh, s", "last fresh, s", "normal rate, per s", "cap, per s"]
    heads += ["calls in the busiest second until all are fresh", "held"]
    heads += ["other backend: longest delay of a call before, ms", "since, ms"]
    return [heads, *map(_line, rows)]


def _line(row: Row) -> list[str]:
    return [
        row["server"],
        f"{row['outage']}, {row['outage_s']:g} s",
        *(f"{row[name]:.1f}" if row[name] is not None else "not in time" for name in ("first_s", "last_s")),
        *(f"{row[name]:.0f}" for name in ("normal_per_s", "cap_per_s", "busiest")),
        "yes" if row["busiest"] <= row["cap_per_s"] * ARRIVAL else "**no**",
        *(f"{row[name]:.0f}" for name in ("gap_before_ms", "gap_ms")),
    ]


HERD = Scenario(
    "herd",
    "two backends with 5,000 sources every 60 s, out for 2 minutes: the rate after their return, and other backends",
    Choice(("tidegate",), subscribers=5000, seconds=120.0),
    run,
    table,
)
