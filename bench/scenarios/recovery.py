"""How soon everything is fresh again after an outage: our gateway with default settings beside a plain loop that asks.

Rows: those of `bench.recovering.Case.row`. With `tidegate@PROGRAM` another tree's gateway is measured beside ours.
"""

import asyncio
import itertools
from collections.abc import Sequence

from bench.faults import Outage
from bench.recovering import Cell, lanes_of, measured
from bench.results import Choice, Row
from bench.scenario import Scenario, Table
from bench.servers import servers_named

OUTAGES = (Outage.REFUSED, Outage.HANG, Outage.ERROR, Outage.UNANSWERED)

SOURCES = ((20, 1.0), (5, 60.0))

LENGTHS_S = (5.0, 60.0, 600.0)

PATIENCE_S = 400.0

LANDING_S = 60.0
"""Shorter outages are not shown on the landing page."""


def run(choice: Choice) -> list[Row]:
    """With `choice.seconds` as the longest outage. The shorter ones come `choice.blocks` times, the longest once."""
    *shorter, longest = [length_s for length_s in LENGTHS_S if length_s <= choice.seconds]
    cells = [
        Cell(outage, count, interval_s, lengths_s)
        for outage in OUTAGES
        for count, interval_s in SOURCES
        for lengths_s in (tuple(shorter) * choice.blocks, (longest,))
        if lengths_s
    ]
    lanes = lanes_of(servers_named(choice.servers), cells, loop=True)
    return asyncio.run(measured(lanes, patience_s=PATIENCE_S))


def table(rows: Sequence[Row]) -> Table:
    lanes = list(dict.fromkeys(row["server"] for row in rows))
    whose = f" ({' / '.join(lanes)})"
    heads = [f"first fresh, s{whose}", "last fresh, s", "calls while out", "calls in the busiest second after"]
    cells = dict.fromkeys((row["outage"], row["asked"], row["outage_s"]) for row in rows)
    return [["outage", "sources", "out for", *heads], *(_line(rows, lanes, cell) for cell in cells)]


def _line(rows: Sequence[Row], lanes: Sequence[str], cell: tuple[str, str, float]) -> list[str]:
    own = [row for row in rows if (row["outage"], row["asked"], row["outage_s"]) == cell]
    by_lane = [[row for row in own if row["server"] == lane] for lane in lanes]
    outage, asked, outage_s = cell
    shown = [
        (worst(found, "first_s"), worst(found, "last_s"), _calls(found), str(max(row["busiest"] for row in found)))
        for found in by_lane
    ]
    return [outage, asked, f"{outage_s:g} s", *(" / ".join(column) for column in zip(*shown, strict=True))]


def landing_table(rows: Sequence[Row]) -> Table:
    """The last fresh and the calls of the longer outages, for readers who look at nothing else."""
    lanes = list(dict.fromkeys(row["server"] for row in rows))
    lengths = [length for length in dict.fromkeys(row["outage_s"] for row in rows) if length >= LANDING_S]
    heads = [f"{lane}, after {_minutes(length)}" for length in lengths for lane in lanes]
    heads += [f"{lane}, calls in {_minutes(lengths[-1])}" for lane in lanes]
    table = [["outage", "sources", *heads]]
    for outage, asked in dict.fromkeys((row["outage"], row["asked"]) for row in rows):
        found = [
            [
                row
                for row in rows
                if (row["outage"], row["asked"], row["outage_s"], row["server"]) == (outage, asked, *it)
            ]
            for it in itertools.product(lengths, lanes)
        ]
        after = [f"{worst(own, 'last_s')} s" for own in found]
        table.append([outage, asked, *after, *map(_calls, found[-len(lanes) :])])
    return table


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} min"


def worst(rows: Sequence[Row], field: str) -> str:
    """The largest of a field in seconds, of outages that touched a source."""
    values = [row[field] for row in rows if row["touched"]]
    if not values:
        return "void"
    return f"{max(values):.1f}" if None not in values else "not in time"


def _calls(rows: Sequence[Row]) -> str:
    """The most, knocks apart."""
    row = max(rows, key=lambda row: row["attempts"] + row["knocks"])
    return f"{row['attempts']} + {row['knocks']} knocks" if row["knocks"] else str(row["attempts"])


RECOVERY = Scenario(
    "recovery",
    "how soon everything is fresh again, beside a plain loop; worst of the blocks (--seconds: longest outage)",
    Choice(("tidegate",), blocks=3, seconds=600.0),
    run,
    table,
)
