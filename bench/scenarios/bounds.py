"""The bounds within which every source is fresh again after an outage, with default settings: do they hold?

Rows: those of `bench.recovering.Case.row`, and `bound_s`.
"""

import asyncio
from collections.abc import Sequence

from bench.faults import Outage
from bench.recovering import Cell, lanes_of, measured
from bench.results import Choice, Row
from bench.scenario import Scenario, Table
from bench.scenarios.recovery import worst
from bench.servers import servers_named

PATIENCE_S = 90.0

BOUNDS = (
    (Outage.REFUSED, 20, 1.0, 60.0, 8.0),
    (Outage.REFUSED, 20, 1.0, 50.0, 3.0),
    (Outage.REFUSED, 5, 60.0, 60.0, 8.0),
    (Outage.REFUSED, 5, 60.0, 50.0, 3.0),
    (Outage.UNANSWERED, 5, 1.0, 60.0, 9.0),
    (Outage.HANG, 20, 1.0, 60.0, 20.0),
    (Outage.ERROR, 20, 1.0, 60.0, 20.0),
    (Outage.HANG, 5, 60.0, 60.0, 20.0),
    (Outage.ERROR, 5, 60.0, 60.0, 20.0),
    (Outage.ONE_POLL, 5, 20.0, 1.0, 2.0),
)
"""How it is out, how many sources with which interval, for how long, and seconds until the last of them is fresh."""


def run(choice: Choice) -> list[Row]:
    """Each outage `choice.blocks` times."""
    cells = {
        Cell(outage, count, interval_s, (length_s,) * choice.blocks): bound_s
        for outage, count, interval_s, length_s, bound_s in BOUNDS
    }
    lanes = lanes_of(servers_named(choice.servers), list(cells), loop=False)
    rows = asyncio.run(measured(lanes, patience_s=PATIENCE_S))
    bounds = {(cell.outage.value, cell.asked, cell.lengths_s[0]): bound_s for cell, bound_s in cells.items()}
    return [row | {"bound_s": bounds[_key(row)]} for row in rows]


def table(rows: Sequence[Row]) -> Table:
    heads = ["server", "outage", "sources", "out for", "last fresh by, s", "bound, s", "held", "each, s"]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["server"], *map(str, _key(row))), []).append(row)
    return [heads, *map(_line, groups.values())]


def _line(rows: Sequence[Row]) -> list[str]:
    row = rows[0]
    held = all(row["last_s"] is not None and row["last_s"] <= row["bound_s"] for row in rows if row["touched"])
    each = ", ".join(worst([row], "last_s") for row in rows)
    lasting = "–" if row["outage"] == Outage.ONE_POLL.value else f"{row['outage_s']:g} s"
    seen = [worst(rows, "last_s"), f"{row['bound_s']:g}", "yes" if held else "**no**", each]
    return [row["server"], row["outage"], row["asked"], lasting, *seen]


def _key(row: Row) -> tuple[str, str, float]:
    return row["outage"], row["asked"], row["outage_s"]


BOUNDS_HELD = Scenario(
    "bounds",
    "the last source is fresh again within the bounds, each outage three times",
    Choice(("tidegate",), blocks=3),
    run,
    table,
)
