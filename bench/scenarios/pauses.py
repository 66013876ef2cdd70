"""How long Python's garbage collector stops the gateway, while clients connect and while events go out.

Rows: `server`, `phase`, `generation`, `count`, `p50_us`, `max_us`, `share` of the phase's time.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.load import publish, subscribers, until_subscribed
from bench.programs import HERE
from bench.results import Choice, Row
from bench.scenario import Scenario, Table
from bench.servers import Server, Setup, running, servers_named


@dataclass(frozen=True)
class Pause:
    """One run of the collector."""

    ended_s: float
    generation: int
    took_us: float


def run(choice: Choice) -> list[Row]:
    rows: list[Row] = []
    for server in servers_named(choice.servers):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            log = Path(folder, "pauses")
            environment = {"PYTHONPATH": str(HERE / "peers" / "gc_log"), "BENCH_GC_LOG": str(log)}
            marks = _phases(server, Setup(environment=environment), choice)
            pauses = [_pause(line) for line in log.read_text().splitlines()]
        for phase, begin, end in zip(("connecting", "settling", "fan-out"), marks, marks[1:], strict=False):
            own = [pause for pause in pauses if begin <= pause.ended_s < end]
            rows += [row | {"server": server.name, "phase": phase} for row in _generations(own, end - begin)]
    return rows


def table(rows: Sequence[Row]) -> Table:
    heads = ["server", "phase", "generation", "collections", "p50 µs", "longest µs", "share of the time"]
    return [
        heads,
        *(
            [
                row["server"],
                row["phase"],
                str(row["generation"]),
                str(row["count"]),
                f"{row['p50_us']:.0f}",
                f"{row['max_us']:.0f}",
                f"{100 * row['share']:.2f} %",
            ]
            for row in rows
        ),
    ]


def _phases(server: Server, setup: Setup, choice: Choice) -> list[float]:
    """Go through the phases; when the first began, and each ended."""
    with running(server, setup) as host, subscribers(host) as load:
        marks = [time.monotonic()]
        load.open(choice.subscribers)
        marks.append(time.monotonic())
        until_subscribed(host, load, choice.subscribers)
        publication = server.publication(1, choice.payload_bytes)
        marks.append(time.monotonic())
        publish(host, publication, count=round(choice.per_s * choice.seconds), per_s=choice.per_s)
        return [*marks, time.monotonic()]


def _pause(line: str) -> Pause:
    ended_s, generation, took_us = line.split()
    return Pause(float(ended_s), int(generation), float(took_us))


def _generations(pauses: Sequence[Pause], seconds: float) -> Iterator[Row]:
    for generation in range(3):
        took = [pause.took_us for pause in pauses if pause.generation == generation]
        yield {
            "generation": generation,
            "count": len(took),
            "p50_us": statistics.median(took) if took else 0.0,
            "max_us": max(took, default=0.0),
            "share": sum(took) / seconds / 1e6,
        }


PAUSES = Scenario(
    "pauses",
    "pauses of the garbage collector",
    Choice(("tidegate",), subscribers=8000, per_s=8.0, seconds=15.0),
    run,
    table,
)
