"""User-space instructions per delivery, counted by callgrind: they repeat exactly where times do not.

The difference between two numbers of subscribers is taken, so that the cost of the publish itself falls out.
Rows: `server`, `subscribers`, `publishes`, `instructions`.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.load import LoadError, Subscribers, publish, subscribers, until_subscribed
from bench.results import Choice, Row
from bench.scenario import Scenario, Table
from bench.servers import Running, Server, Setup, Unavailable, running, servers_named

PUBLISHES = 20

AWAIT_MS = 60_000


def run(choice: Choice) -> list[Row]:
    rows: list[Row] = []
    for server in servers_named(choice.servers):
        try:
            rows += _counted(server, [choice.subscribers // 5, choice.subscribers])
        except Unavailable as error:
            print(f"left out: {error}", file=sys.stderr)
    return rows


def per_delivery(rows: Sequence[Row], server: str) -> float:
    few, many = (row for row in rows if row["server"] == server)
    deliveries = (many["subscribers"] - few["subscribers"]) * many["publishes"]
    return float((many["instructions"] - few["instructions"]) / deliveries)


def table(rows: Sequence[Row]) -> Table:
    servers = dict.fromkeys(row["server"] for row in rows)
    heads = ["server", "user instructions per delivery"]
    return [heads, *([server, f"{per_delivery(rows, server):.0f}"] for server in servers)]


def _counted(server: Server, counts: list[int]) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out = Path(folder, "callgrind")
        valgrind = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}")
        with running(server, Setup(prefix=valgrind)) as host, subscribers(host) as load:
            _control(host, "-i", "on")
            for number, total in enumerate(counts):
                load.open(total)
                until_subscribed(host, load, total)
                _control(host, "-d")
                _deliver(host, load, total)
                _control(host, "-d")
                instructions = _total(out.with_name(f"callgrind.{2 * number + 2}"))
                rows.append(
                    {
                        "server": server.name,
                        "subscribers": total,
                        "publishes": PUBLISHES,
                        "instructions": instructions,
                    }
                )
    return rows


def _deliver(host: Running, load: Subscribers, total: int) -> None:
    """One event after the other, each once the last has reached everybody."""
    publication = host.server.publication(1, host.place.setup.payload_bytes)
    load.tell("reset")
    for number in range(PUBLISHES):
        publish(host, publication)
        if load.tell(f"await {total * (number + 1)} {AWAIT_MS}")["events"] != total * (number + 1):
            raise LoadError(f"{host.server.name} did not deliver within {AWAIT_MS} ms")


def _control(host: Running, *arguments: str) -> None:
    subprocess.run(["callgrind_control", *arguments, str(host.pid)], check=True, capture_output=True)


def _total(dump: Path) -> int:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE) if dump.exists() else None
        if found:
            return int(found[1])
        time.sleep(0.1)
    raise LoadError(f"callgrind wrote no {dump.name}")


INSTRUCTIONS = Scenario(
    "instructions",
    "user instructions per delivery, by callgrind",
    Choice(("floor", "tidegate", "broadcast"), subscribers=1000),
    run,
    table,
)
