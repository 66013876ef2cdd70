"""What the delivery of an event costs its server, and how long it takes: single events, or bursts in one publish."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from bench.load import LoadError, Subscribers, publishing, settle, subscribers
from bench.measure import core_busy_us, counting_system_calls, cpu_us
from bench.servers import Running, Server, Setup, Unavailable, running

LOAD_LIMIT = 0.85
"""Share of its core above which the load, not the server, may be what was measured."""


@dataclass(frozen=True)
class Plan:
    """How a fan-out is measured. `per_s` counts events, also where `burst` of them are published in one go."""

    subscribers: int = 1000
    per_s: float = 100.0
    burst: int = 1
    payload_bytes: int = 300
    blocks: int = 10
    seconds: float = 5.0


@dataclass(frozen=True)
class Lane:
    """A server with its subscribers, and how many events are published to it in one go."""

    name: str
    running: Running
    load: Subscribers
    burst: int


Block = dict[str, Any]


def measure(servers: Sequence[Server], plan: Plan, *, reference: Server | None = None) -> list[Block]:
    """All blocks of all servers: each server once per block, in an order that rotates.

    `reference` is measured with single events beside the bursts of the others.
    """
    blocks: list[Block] = []
    with lanes(servers, plan, reference) as ready:
        for number in range(plan.blocks):
            turn = number % len(ready)
            for lane in [*ready[turn:], *ready[:turn]]:
                blocks += [run_block(lane, plan) | {"block": number}]
            print(f"block {number + 1} of {plan.blocks}", file=sys.stderr)
        blocks += [count_calls(lane, plan) for lane in ready]
    return blocks


@contextmanager
def lanes(servers: Sequence[Server], plan: Plan, reference: Server | None = None) -> Iterator[list[Lane]]:
    """All servers at once, with their subscribers connected; those that cannot be had are named and left out."""
    with ExitStack() as stack:
        ready = []
        for server in [*servers, *([reference] if reference else [])]:
            try:
                host = stack.enter_context(running(server, Setup(payload_bytes=plan.payload_bytes)))
            except Unavailable as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            load = stack.enter_context(subscribers(host))
            load.open(plan.subscribers)
            settle(host, load, plan.subscribers)
            single = server is reference
            ready.append(
                Lane(f"{server.name} single" if single else server.name, host, load, 1 if single else plan.burst)
            )
        yield ready


def run_block(lane: Lane, plan: Plan) -> Block:
    """Publish to one lane for the length of a block."""
    count = max(1, int(plan.per_s * plan.seconds / lane.burst))
    expected = count * lane.burst * plan.subscribers
    publication = lane.running.server.publication(lane.burst, plan.payload_bytes)
    lane.load.tell("reset")
    before, busy = cpu_us(lane.running.pid), core_busy_us()
    with publishing(lane.running, publication, count=count, per_s=plan.per_s / lane.burst) as publisher:
        said = publisher.wait()
    got = lane.load.tell(f"await {expected} 3000")
    spent, busy = cpu_us(lane.running.pid) - before, core_busy_us() - busy
    if got["lost"]:
        raise LoadError(f"{lane.name} lost connections: {got}")
    load_share = (got["cpu_us"] + said["cpu_us"]) / got["elapsed_us"]
    return {
        "server": lane.name,
        "cpu_us": spent / max(1.0, got["events"]),
        "server_share": spent / got["elapsed_us"],
        "others_share": max(0.0, (busy - spent) / got["elapsed_us"]),
        "load_share": load_share,
        "void": load_share > LOAD_LIMIT,
        "events": got["events"],
        "missing": expected - got["events"],
        "bytes": got["bytes"] / max(1.0, got["events"]),
        "late_p99_us": said["late_p99_us"],
        **{name: got[name] for name in ("p50_us", "p99_us", "p999_us", "max_us")},
    }


def count_calls(lane: Lane, plan: Plan) -> Block:
    """System calls per delivered event, over a second of its own since counting costs the server."""
    with counting_system_calls(lane.running.pid) as counted:
        block = run_block(lane, Plan(plan.subscribers, plan.per_s, lane.burst, plan.payload_bytes, 1, 1.0))
    calls = None if counted.calls is None else counted.calls / max(1.0, block["events"])
    return {"server": lane.name, "calls": calls}
