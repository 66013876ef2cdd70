"""Servers measured beside each other: each with its subscribers connected, published to in turns of equal length."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

from bench.load import LoadError, Subscribers, publish, publishing, subscribers, until_subscribed
from bench.measure import core_busy_us, counting_system_calls, cpu_us, ticks, user_share
from bench.results import Row
from bench.servers import Running, Server, Setup, Unavailable, running

LOAD_LIMIT = 0.85
"""Share of its core above which the load, not the server, may be what was measured."""

QUIET_S = 0.5


def undisturbed(_running: Running) -> AbstractContextManager[Row]:
    """Nothing happens beside a block."""
    return nullcontext({})


@dataclass(frozen=True)
class Lane:
    """One server and what is asked of it. `per_s` counts events, also where `burst` of them are published in one go."""

    server: Server
    subscribers: int = 1000
    per_s: float = 100.0
    burst: int = 1
    setup: Setup = field(default_factory=Setup)
    path: str | None = None
    """What subscribers ask for; None: the server's own path."""
    cycle: int = 1
    """Over how many event types the published events are spread."""
    beside: Callable[[Running], AbstractContextManager[Row]] = undisturbed
    """What else goes on while a block is measured; what it says of itself becomes part of the row."""
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or self.server.name


@dataclass(frozen=True)
class OpenLane:
    """A lane whose server runs and whose subscribers are connected."""

    lane: Lane
    running: Running
    load: Subscribers
    opened_s: float


def measure(lanes: Sequence[Lane], *, blocks: int, seconds: float, details: bool = True) -> list[Row]:
    """`blocks` rows of each lane, measured in an order that rotates, and with `details` one more (`detail`)."""
    rows: list[Row] = []
    with opened(lanes) as ready:
        for number in range(blocks):
            turn = number % len(ready)
            rows += [run_block(lane, seconds) | {"block": number} for lane in [*ready[turn:], *ready[:turn]]]
            print(f"block {number + 1} of {blocks}", file=sys.stderr)
        if details:
            rows += [detail(lane) for lane in ready]
    return rows


@contextmanager
def opened(lanes: Sequence[Lane]) -> Iterator[list[OpenLane]]:
    """All servers at once, with their subscribers connected; those that cannot be had are named and left out."""
    with ExitStack() as stack:
        ready = []
        for lane in lanes:
            try:
                host = stack.enter_context(running(lane.server, lane.setup))
            except Unavailable as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            load = stack.enter_context(subscribers(host, path=lane.path))
            began = time.monotonic()
            load.open(lane.subscribers)
            opened_s = time.monotonic() - began
            until_subscribed(host, load, lane.subscribers)
            ready.append(OpenLane(lane, host, load, opened_s))
        yield ready


def run_block(ready: OpenLane, seconds: float) -> Row:
    """Publish to one lane for `seconds`: what that took, and what arrived. Raises `LoadError`."""
    lane, host, load = ready.lane, ready.running, ready.load
    count = max(1, round(lane.per_s * seconds / lane.burst))
    expected = count * lane.burst * lane.subscribers
    publication = lane.server.publication(lane.burst, lane.setup.payload_bytes, types=lane.cycle)
    with lane.beside(host) as noted:
        load.tell("reset")
        spent, busy, before = cpu_us(host.pid), core_busy_us(), ticks(host.pid)
        with publishing(host, publication, count=count, per_s=lane.per_s / lane.burst, cycle=lane.cycle) as publisher:
            said = publisher.wait()
        got = load.tell(f"await {expected} 5000")
        spent, busy, after = cpu_us(host.pid) - spent, core_busy_us() - busy, ticks(host.pid)
    if got["lost"] or got["malformed"]:
        raise LoadError(f"{lane.name} lost connections or sent what is no frame: {got}")
    events = max(1.0, got["events"])
    return {
        "server": lane.name,
        "cpu_us": spent / events,
        "user_us": spent / events * user_share(before, after),
        "server_share": spent / got["elapsed_us"],
        "others_share": max(0.0, (busy - spent) / got["elapsed_us"]),
        "load_share": (got["cpu_us"] + said["cpu_us"]) / got["elapsed_us"],
        "events": got["events"],
        "missing": expected - got["events"],
        "bytes": got["bytes"] / events,
        "late_p99_us": said["late_p99_us"],
        **{name: got[name] for name in ("p50_us", "p90_us", "p99_us", "p999_us", "max_us")},
        **noted,
    }


def detail(ready: OpenLane) -> Row:
    """What would disturb a block: system calls, counted; and what a publish takes that nobody is subscribed to."""
    lane, pid = ready.lane, ready.running.pid
    with counting_system_calls(pid) as counted:
        row = run_block(ready, 1.0)
    ready.load.tell("close")
    time.sleep(QUIET_S)
    publication = lane.server.publication(lane.burst, lane.setup.payload_bytes)
    count = 100
    before = cpu_us(pid)
    publish(ready.running, publication, count=count)
    spent = cpu_us(pid) - before
    with counting_system_calls(pid) as counted_for_nobody:
        publish(ready.running, publication, count=count)
    return {
        "server": lane.name,
        "detail": True,
        "publish_us": spent / count,
        "publish_calls": None if counted_for_nobody.calls is None else counted_for_nobody.calls / count,
        "calls": None if counted.calls is None else counted.calls / row["events"],
        "deliveries_per_publish": lane.subscribers * lane.burst,
    }
