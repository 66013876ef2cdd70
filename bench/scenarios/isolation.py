"""Whether one bad client is noticed by the others: one that stops reading, one that is slow, one that wants everything.

Rows: those of `bench.lanes.measure`, with `queued_bytes` that the gateway held for that client and what it `skipped`.
The soft limit is set low, so that the client is backlogged after a second of ordinary events already.
"""

import json
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from bench.comparison import estimate, ratio
from bench.lanes import Lane, measure, undisturbed
from bench.load import subscribers
from bench.results import Choice, Row, names, of
from bench.scenario import Scenario, Table
from bench.scenarios.fanout import remarks
from bench.servers import Running, Setup, servers_named

ALONE = "without"

SOFT_BYTES = 16384

SETTINGS = f"send_buffer_soft_bytes = {SOFT_BYTES}\n"

SLOW_BYTES = 150
"""What the slow client reads every 10 ms: half of what it is sent at 100 events of 300 bytes per second."""


def run(choice: Choice) -> list[Row]:
    others = {
        ALONE: undisturbed,
        "one stopped reading": _one(path="/ws?types=bench.event", read_bytes=0),
        "one reads slowly": _one(path="/ws?types=bench.event", read_bytes=SLOW_BYTES),
        "one wants everything": _one(path="/ws?types=*", read_bytes=-1),
    }
    lanes = []
    for label, beside in others.items():
        (server,) = servers_named(choice.servers)
        setup = Setup(settings=SETTINGS)
        lanes.append(Lane(server, choice.subscribers, choice.per_s, setup=setup, beside=beside, label=label))
    return measure(lanes, blocks=choice.blocks, seconds=choice.seconds, details=False)


def table(rows: Sequence[Row]) -> Table:
    heads = ["one more client", "the others' p50 µs", "p99 µs", "p99 × without", "p99.9 µs", "µs CPU per delivery"]
    return [[*heads, "held for it, bytes", "skipped for it", ""], *(_line(rows, name) for name in names(rows))]


def _line(rows: Sequence[Row], name: str) -> list[str]:
    own = [row for row in rows if row["server"] == name and "queued_bytes" in row]
    return [
        name,
        f"{estimate(of(rows, name, 'p50_us')).value:.0f}",
        f"{estimate(of(rows, name, 'p99_us')).value:.0f}",
        str(ratio(of(rows, name, "p99_us"), of(rows, ALONE, "p99_us"))),
        f"{estimate(of(rows, name, 'p999_us')).value:.0f}",
        str(estimate(of(rows, name, "cpu_us"))),
        f"{max(row['queued_bytes'] for row in own):.0f}" if own else "–",
        f"{sum(row['skipped'] for row in own):.0f}" if own else "–",
        remarks(rows, name),
    ]


def _one(*, path: str, read_bytes: int) -> Callable[[Running], AbstractContextManager[Row]]:
    @contextmanager
    def beside(host: Running) -> Iterator[Row]:
        noted: Row = {}
        with subscribers(host, path=path, arguments=["--receive-buffer", "4096"]) as load:
            load.open(1)
            load.tell(f"throttle {read_bytes}")
            yield noted
            noted |= _newest_client(host)

    return beside


def _newest_client(host: Running) -> Row:
    with urllib.request.urlopen(f"http://127.0.0.1:{host.place.port}/api/v1/clients", timeout=10) as answer:
        clients = json.load(answer)["clients"]
    newest = max(clients, key=lambda client: client["connected_at"])
    return {"queued_bytes": newest["queued_bytes"], "skipped": sum(newest["skipped"].values())}


STUCK = Scenario(
    "stuck",
    "999 readers beside one that is stuck, slow or greedy",
    Choice(("tidegate",), subscribers=999, blocks=10, seconds=4.0),
    run,
    table,
)
