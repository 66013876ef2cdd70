"""Whether it matters that everybody wants something else: one subscription set for all, or one for each.

Rows: those of `bench.lanes.measure`.
"""

from collections.abc import Sequence

from bench.comparison import estimate, ratio
from bench.lanes import Lane, measure
from bench.results import Choice, Row, names, of
from bench.scenario import Scenario, Table
from bench.scenarios.fanout import remarks
from bench.servers import servers_named

SHARED = "one set for all"
DISTINCT = "a set for each"


def run(choice: Choice) -> list[Row]:
    lanes = []
    for label, path in {
        SHARED: "/ws?types=bench.event,bench.other",
        DISTINCT: "/ws?types=bench.event,bench.only{i}",
    }.items():
        (server,) = servers_named(choice.servers)
        lanes.append(Lane(server, choice.subscribers, choice.per_s, path=path, label=label))
    return measure(lanes, blocks=choice.blocks, seconds=choice.seconds, details=False)


def table(rows: Sequence[Row]) -> Table:
    heads = ["subscriptions", "µs CPU per delivery", f"× {SHARED}", "p50 µs", "p99 µs", ""]
    return [heads, *(_line(rows, name) for name in names(rows))]


def _line(rows: Sequence[Row], name: str) -> list[str]:
    return [
        name,
        str(estimate(of(rows, name, "cpu_us"))),
        str(ratio(of(rows, name, "cpu_us"), of(rows, SHARED, "cpu_us"))),
        *(f"{estimate(of(rows, name, field)).value:.0f}" for field in ("p50_us", "p99_us")),
        remarks(rows, name),
    ]


COHORTS = Scenario(
    "cohorts",
    "10,000 distinct subscription sets on 10,000 connections, beside one shared set",
    Choice(("tidegate",), subscribers=10_000, per_s=5.0, blocks=10, seconds=4.0),
    run,
    table,
)
