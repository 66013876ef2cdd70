"""What a connection costs in memory: the slope of private dirty pages over the number of connections.

Rows: `server`, `connections`, `state` ("idle" or "after bursts"), `private_bytes`, `kernel_bytes` (slab since the
server's start, of both ends).
"""

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.comparison import slope
from bench.load import publish, subscribers, until_subscribed
from bench.measure import private_dirty_bytes
from bench.results import Choice, Row
from bench.scenario import Scenario, Table
from bench.servers import Server, Setup, Unavailable, running, servers_named

QUIET_S = 1.5

BURSTS = 10

STATES = ("idle", "after bursts")


def run(choice: Choice) -> list[Row]:
    rows: list[Row] = []
    for server in servers_named(choice.servers):
        for state in STATES:
            try:
                rows += _steps(server, state, steps(choice.subscribers))
            except Unavailable as error:
                print(f"left out: {error}", file=sys.stderr)
    return rows


def steps(most: int) -> list[int]:
    """Numbers of connections to measure at."""
    return [most // 8, most // 2, most]


def table(rows: Sequence[Row]) -> Table:
    servers = list(dict.fromkeys(row["server"] for row in rows))
    most = max(row["connections"] for row in rows)
    heads = ["server", *(f"bytes per connection, {state}" for state in STATES), "kernel, both ends", f"MB at {most}"]
    return [heads, *(_line(rows, server) for server in servers)]


def per_connection(rows: Sequence[Row], server: str, state: str, field: str = "private_bytes") -> float:
    """Bytes that each further connection takes."""
    own = [row for row in rows if row["server"] == server and row["state"] == state]
    return slope([row["connections"] for row in own], [row[field] for row in own])


def _line(rows: Sequence[Row], server: str) -> list[str]:
    last = max((row for row in rows if row["server"] == server), key=lambda row: row["connections"])
    return [
        server,
        *(f"{per_connection(rows, server, state):.0f}" for state in STATES),
        f"{per_connection(rows, server, 'idle', 'kernel_bytes'):.0f}",
        f"{last['private_bytes'] / 1e6:.0f}",
    ]


def _steps(server: Server, state: str, counts: list[int]) -> list[Row]:
    rows = []
    setup = Setup()
    slab = _slab_bytes()
    with running(server, setup) as host, subscribers(host) as load:
        for connections in counts:
            load.open(connections)
            if state == "after bursts":
                until_subscribed(host, load, connections)
                publish(host, server.publication(5, setup.payload_bytes), count=BURSTS, per_s=5.0)
                load.tell(f"await {connections * 5 * BURSTS} 20000")
            time.sleep(QUIET_S)
            rows.append(
                {
                    "server": server.name,
                    "connections": connections,
                    "state": state,
                    "private_bytes": private_dirty_bytes(host.pid),
                    "kernel_bytes": _slab_bytes() - slab,
                }
            )
    return rows


def _slab_bytes() -> int:
    found = re.search(r"^Slab:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


MEMORY = Scenario(
    "memory",
    "memory per connection, idle and after bursts",
    Choice(("floor", "tidegate", "uws", "nchan", "nats", "ws", "broadcast"), subscribers=8000),
    run,
    table,
)
