"""Everybody comes at once, as after a restart: connect, subscribe, and be handed the current value, or resume.

Rows: `server`, `block`, `all_s` until the last was served, `p50_s` and `p99_s` for one of them, `cpu_us` per
connection, `refused`, `lost`, `load_share`.
"""

import json
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.comparison import estimate, ratio
from bench.load import Subscribers, publish, subscribers
from bench.measure import cpu_us
from bench.results import Choice, Row, names, of
from bench.scenario import Scenario, Table
from bench.servers import Running, Server, Setup, Unavailable, running, servers_named

MISSED = 10
"""Events that a resuming client is replayed."""

PAUSE_S = 1.5

LIMIT_MS = 60_000


@dataclass(frozen=True)
class Host:
    """A server to come back to. `events` are what each client waits for."""

    name: str
    running: Running
    load: Subscribers
    events: int


def run(choice: Choice) -> list[Row]:
    rows: list[Row] = []
    with ExitStack() as stack:
        hosts = []
        for server in servers_named(choice.servers):
            try:
                hosts += _hosts(server, choice, stack)
            except Unavailable as error:
                print(f"left out: {error}", file=sys.stderr)
        for number in range(choice.blocks):
            turn = number % len(hosts)
            rows += [_storm(host, choice) | {"block": number} for host in [*hosts[turn:], *hosts[:turn]]]
            print(f"block {number + 1} of {choice.blocks}", file=sys.stderr)
    return rows


def table(rows: Sequence[Row]) -> Table:
    lanes = names(rows)
    base = "ws" if "ws" in lanes else lanes[0]
    heads = ["server", "s until all are served", f"× {base}", "p50 s", "p99 s", "µs CPU per connection"]
    return [[*heads, "refused", "lost", "load's core"], *(_line(rows, name, base) for name in lanes)]


def _line(rows: Sequence[Row], name: str, base: str) -> list[str]:
    return [
        name,
        str(estimate(of(rows, name, "all_s"))),
        str(ratio(of(rows, name, "all_s"), of(rows, base, "all_s"))),
        *(f"{estimate(of(rows, name, field)).value:.2f}" for field in ("p50_s", "p99_s")),
        f"{estimate(of(rows, name, 'cpu_us')).value:.0f}",
        *(f"{sum(of(rows, name, field)):.0f}" for field in ("refused", "lost")),
        f"{100 * max(of(rows, name, 'load_share')):.0f} %",
    ]


def _hosts(server: Server, choice: Choice, stack: ExitStack) -> list[Host]:
    host = stack.enter_context(running(server, Setup(snapshot=True, payload_bytes=choice.payload_bytes)))
    publication = server.snapshot_publication(choice.payload_bytes)
    if publication is not None:
        publish(host, publication)
    fresh = Host(server.name, host, stack.enter_context(subscribers(host)), 1)
    if not server.resumes:
        return [fresh]
    publish(host, server.publication(1, choice.payload_bytes), count=MISSED)
    path = f"{server.path}&since={_position(host)}"
    return [fresh, Host(f"{server.name}, resuming", host, stack.enter_context(subscribers(host, path=path)), MISSED)]


def _position(host: Running) -> str:
    """Where a client stood that has missed the last `MISSED` events."""
    with urllib.request.urlopen(f"http://127.0.0.1:{host.place.port}/api/v1/status", timeout=10) as answer:
        status = json.load(answer)
    return f"{status['epoch']}:{status['seq'] - MISSED}"


def _storm(host: Host, choice: Choice) -> Row:
    load = host.load
    load.tell("close")
    time.sleep(PAUSE_S)
    load.tell("reset")
    before = cpu_us(host.running.pid)
    got = load.tell(f"open {choice.subscribers} {choice.subscribers} {host.events} {LIMIT_MS}")
    spent = cpu_us(host.running.pid) - before
    row = {
        "server": host.name,
        "all_s": got["opening_us"] / 1e6,
        "p50_s": got["opened_p50_us"] / 1e6,
        "p99_s": got["opened_p99_us"] / 1e6,
        "cpu_us": spent / choice.subscribers,
        "refused": got["refused"],
        "lost": choice.subscribers - got["ready"] - got["refused"],
        "load_share": got["cpu_us"] / got["opening_us"],
    }
    load.tell("close")
    time.sleep(PAUSE_S)
    return row


STORM = Scenario(
    "storm",
    "8,000 clients connect, subscribe and get the current value at once; and resume",
    Choice(("tidegate", "uws", "nchan", "ws", "broadcast"), subscribers=8000, blocks=5),
    run,
    table,
)
