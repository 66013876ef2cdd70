"""How CPU and memory grow: with connections, event types, distinct subscription sets, and the length of an event.

Rows: those of `bench.lanes.run_block` with `axis`, `x` (where on it), and `private_bytes` of the server at its end.
"""

import statistics
import sys
from collections.abc import Iterator, Sequence

from bench.lanes import Lane, opened, run_block
from bench.measure import private_dirty_bytes
from bench.results import Choice, Row
from bench.scenario import Scenario, Table
from bench.servers import Setup, servers_named

DELIVERIES_PER_S = 40_000
"""How much is delivered per second at every point, so that only what is on the axis changes."""

CONNECTIONS = (100, 1000, 4000, 8000, 16_000)
TYPES = (1, 10, 100, 1000, 5000)
SETS = (1, 10, 100, 1000, 4000)
PAYLOADS = (100, 300, 1000, 4000, 16_000, 64_000)

TYPE_CONNECTIONS = 10
TYPE_BURST = 40
"""Many types are published to few, so that what a type costs shows."""

SET_CONNECTIONS = 4000
PAYLOAD_CONNECTIONS = 500
PAYLOAD_DELIVERIES_PER_S = 5000

PLAIN = "tidegate"

AXES = ("connections", "event types", "subscription sets", "bytes per event")


def run(choice: Choice) -> list[Row]:
    rows: list[Row] = []
    for axis, x, lanes in points(choice):
        with opened(lanes) as ready:
            for number in range(choice.blocks):
                turn = number % len(ready)
                for lane in [*ready[turn:], *ready[:turn]]:
                    row = run_block(lane, choice.seconds)
                    row |= {
                        "axis": axis,
                        "x": x,
                        "block": number,
                        "private_bytes": private_dirty_bytes(lane.running.pid),
                    }
                    rows.append(row)
        print(f"{axis}: {x}", file=sys.stderr)
    return rows


def points(choice: Choice) -> Iterator[tuple[str, int, list[Lane]]]:
    """Where on which axis is measured, and the lanes that are measured there beside each other."""
    for connections in CONNECTIONS:
        per_s = DELIVERIES_PER_S / connections
        yield "connections", connections, [Lane(s, connections, per_s) for s in servers_named(choice.servers)]
    for types in TYPES:
        (server,) = servers_named([PLAIN])
        per_s = DELIVERIES_PER_S / TYPE_CONNECTIONS
        lane = Lane(server, TYPE_CONNECTIONS, per_s, TYPE_BURST, path="/ws?types=bench.*", cycle=types)
        yield "event types", types, [lane]
    for sets in SETS:
        (server,) = servers_named([PLAIN])
        path = f"/ws?types=bench.event,bench.only{{i%{sets}}}"
        yield "subscription sets", sets, [Lane(server, SET_CONNECTIONS, DELIVERIES_PER_S / SET_CONNECTIONS, path=path)]
    for payload_bytes in PAYLOADS:
        setup = Setup(payload_bytes=payload_bytes)
        per_s = PAYLOAD_DELIVERIES_PER_S / PAYLOAD_CONNECTIONS
        lanes = [Lane(s, PAYLOAD_CONNECTIONS, per_s, setup=setup) for s in servers_named(choice.servers)]
        yield "bytes per event", payload_bytes, lanes


def curve(rows: Sequence[Row], axis: str, server: str, field: str) -> list[tuple[int, float]]:
    """The median of `field` at each point of an axis."""
    own = [row for row in rows if row["axis"] == axis and row["server"] == server]
    places = sorted({row["x"] for row in own})
    return [(x, statistics.median(row[field] for row in own if row["x"] == x)) for x in places]


def servers_of(rows: Sequence[Row], axis: str) -> list[str]:
    return list(dict.fromkeys(row["server"] for row in rows if row["axis"] == axis))


def table(rows: Sequence[Row]) -> Table:
    lines = [["grows", "server", "µs CPU per delivery", "MB of the server"]]
    for axis in AXES:
        for server in servers_of(rows, axis):
            cpu, memory = (curve(rows, axis, server, field) for field in ("cpu_us", "private_bytes"))
            spent = ", ".join(f"{x}: {value:.2f}" for x, value in cpu)
            taken = ", ".join(f"{x}: {value / 1e6:.0f}" for x, value in memory)
            lines.append([axis, server, spent, taken])
    return lines


GROWTH = Scenario(
    "growth",
    "CPU and memory against connections, event types, subscription sets and payload",
    Choice(("floor", PLAIN, "uws"), blocks=3, seconds=1.5),
    run,
    table,
)
