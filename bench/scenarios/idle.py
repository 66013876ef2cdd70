"""What a connection costs in CPU while nothing is published: pings, and whatever else the server does by itself.

Rows: `server`, `connections`, `cpu_us` (per connection and second), `alone_us` (per second, before there were any
connections), `heard` (pings and messages that all connections got).
"""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from bench.load import subscribers
from bench.measure import cpu_us
from bench.results import Choice, Row
from bench.scenario import Scenario, Table
from bench.servers import Setup, Unavailable, running, servers_named

ALONE_S = 10.0


def run(choice: Choice) -> list[Row]:
    """All servers at once: none has anything to do for most of the time."""
    with ExitStack() as stack:
        hosts = []
        for server in servers_named(choice.servers):
            try:
                hosts.append(stack.enter_context(running(server, Setup())))
            except Unavailable as error:
                print(f"left out: {error}", file=sys.stderr)
        time.sleep(1.0)
        before = [cpu_us(host.pid) for host in hosts]
        time.sleep(ALONE_S)
        alone = [(cpu_us(host.pid) - spent) / ALONE_S for host, spent in zip(hosts, before, strict=True)]
        loads = [stack.enter_context(subscribers(host)) for host in hosts]
        for load in loads:
            load.open(choice.subscribers)
        time.sleep(2.0)
        for load in loads:
            load.tell("reset")
        before, began = [cpu_us(host.pid) for host in hosts], time.monotonic()
        time.sleep(choice.seconds)
        passed = time.monotonic() - began
        spent = [cpu_us(host.pid) - then for host, then in zip(hosts, before, strict=True)]
        heard = [load.tell("count") for load in loads]
    return [
        {
            "server": host.server.name,
            "connections": choice.subscribers,
            "cpu_us": taken / passed / choice.subscribers,
            "alone_us": base,
            "heard": counts["pings"] + counts["messages"],
            "lost": counts["lost"],
        }
        for host, taken, base, counts in zip(hosts, spent, alone, heard, strict=True)
    ]


def table(rows: Sequence[Row]) -> Table:
    heads = ["server", "µs CPU per connection and second", "pings or messages per connection and minute"]
    heads += ["µs CPU per second without connections", "lost"]
    return [
        heads,
        *(
            [
                row["server"],
                f"{row['cpu_us']:.2f}",
                f"{row['heard'] / row['connections']:.1f}",
                f"{row['alone_us']:.0f}",
                f"{row['lost']:.0f}",
            ]
            for row in rows
        ),
    ]


IDLE = Scenario(
    "idle",
    "CPU per idle connection, pings on",
    Choice(("tidegate", "uws", "nchan", "nats", "ws", "broadcast"), subscribers=8000, seconds=60.0),
    run,
    table,
)
