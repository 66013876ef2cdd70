"""What the delivery of an event costs its server, and how long it takes: single events, or bursts in one publish.

Rows: those of `bench.lanes.measure`.
"""

from collections.abc import Sequence

from bench.comparison import estimate, ratio
from bench.lanes import Lane, measure
from bench.results import Choice, Row, names, of
from bench.scenario import Scenario, Table
from bench.servers import Floor, Setup, servers_named

ALL = ("floor", "tidegate", "tidegate", "uws", "nchan", "nats", "ws", "broadcast")

BURST = 5

SINGLE_FLOOR = "floor, single"

DISTURBED = 0.1
"""Share of the server's core that others may take; the median of all blocks counts."""


def run_single(choice: Choice) -> list[Row]:
    return measure(_lanes(choice, burst=1), blocks=choice.blocks, seconds=choice.seconds)


def run_bursts(choice: Choice) -> list[Row]:
    single = Lane(Floor(), choice.subscribers, choice.per_s, label=SINGLE_FLOOR, setup=_setup(choice))
    return measure([*_lanes(choice, burst=BURST), single], blocks=choice.blocks, seconds=choice.seconds)


def table(rows: Sequence[Row]) -> Table:
    lanes = names(rows)
    base = next((name for name in (SINGLE_FLOOR, "floor") if name in lanes), lanes[0])
    heads = ["server", "µs CPU per delivery", f"× {base}", "of that in user space", "µs CPU per publish to nobody"]
    heads += ["system calls", "bytes", "p50 µs", "p99 µs", "p99.9 µs", "server's core", "load's core", ""]
    return [heads, *(_line(rows, name, base) for name in lanes)]


def remarks(rows: Sequence[Row], name: str) -> str:
    """What makes the numbers of a lane doubtful."""
    missing = sum(of(rows, name, "missing"))
    late_us = estimate(of(rows, name, "late_p99_us")).value
    found = {
        "void: the load was the limit": any(share > 0.85 for share in of(rows, name, "load_share")),
        "disturbed by others": estimate(of(rows, name, "others_share")).value > DISTURBED,
        f"{missing:.0f} not delivered in time": missing > 0,
        f"overloaded: published {late_us / 1000:.0f} ms late": late_us > 100_000,
    }
    return "; ".join(remark for remark, holds in found.items() if holds)


def calls_per_delivery(rows: Sequence[Row], name: str) -> float | None:
    """System calls per delivery, less those that a publish takes by itself; None where they cannot be counted."""
    detail = next((row for row in rows if row["server"] == name and row.get("detail")), None)
    if detail is None or detail["calls"] is None or detail["publish_calls"] is None:
        return None
    return float(detail["calls"] - detail["publish_calls"] / detail["deliveries_per_publish"])


def _line(rows: Sequence[Row], name: str, base: str) -> list[str]:
    detail = next((row for row in rows if row["server"] == name and row.get("detail")), None)
    calls = calls_per_delivery(rows, name)
    return [
        name,
        str(estimate(of(rows, name, "cpu_us"))),
        str(ratio(of(rows, name, "cpu_us"), of(rows, base, "cpu_us"))),
        f"{estimate(of(rows, name, 'user_us')).value:.2f}",
        f"{detail['publish_us']:.0f}" if detail else "–",
        "–" if calls is None else f"{calls:.3f}",
        *(f"{estimate(of(rows, name, field)).value:.0f}" for field in ("bytes", "p50_us", "p99_us", "p999_us")),
        f"{100 * estimate(of(rows, name, 'server_share')).value:.0f} %",
        f"{100 * max(of(rows, name, 'load_share')):.0f} %",
        remarks(rows, name),
    ]


def _lanes(choice: Choice, *, burst: int) -> list[Lane]:
    return [
        Lane(server, choice.subscribers, choice.per_s, burst, _setup(choice))
        for server in servers_named(choice.servers)
    ]


def _setup(choice: Choice) -> Setup:
    return Setup(payload_bytes=choice.payload_bytes)


CPU = Scenario("cpu", "CPU per delivery and latency of single events", Choice(ALL), run_single, table)
BURSTS = Scenario("burst", f"the same with {BURST} events in each publish", Choice(ALL, seconds=4.0), run_bursts, table)
