"""``python -m bench SCENARIO``: run one scenario, print its table, and keep its numbers as JSON."""

import argparse
import json
from pathlib import Path

from bench.comparison import estimate, ratio
from bench.measure import prepare_process
from bench.programs import install_peers
from bench.scenarios import fanout
from bench.servers import Floor, servers_named

FANOUT = "floor,tidegate,tidegate,uws,ws,nchan,nats,broadcast"

DISTURBED = "disturbed: others were on the server's core"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    commands = parser.add_subparsers(dest="scenario", required=True)
    commands.add_parser("install", help="install the peers that are not there yet")
    for name, about in {"cpu": "single events", "burst": "bursts in one publish"}.items():
        command = commands.add_parser(name, help=f"CPU per delivery and latency: {about}")
        command.add_argument("--servers", default=FANOUT)
        command.add_argument("--subscribers", type=int, default=1000)
        command.add_argument("--per-s", type=float, default=100.0, help="events per second")
        command.add_argument("--burst", type=int, default=5 if name == "burst" else 1)
        command.add_argument("--payload-bytes", type=int, default=300)
        command.add_argument("--blocks", type=int, default=10)
        command.add_argument("--seconds", type=float, default=5.0)
        command.add_argument("--json", type=Path)
    given = parser.parse_args()
    prepare_process()
    if given.scenario == "install":
        install_peers()
        return
    plan = fanout.Plan(given.subscribers, given.per_s, given.burst, given.payload_bytes, given.blocks, given.seconds)
    blocks = fanout.measure(
        servers_named(given.servers.split(",")), plan, reference=Floor() if given.scenario == "burst" else None
    )
    if given.json:
        given.json.write_text(json.dumps(blocks, indent=1))
    show(blocks)


def show(blocks: list[fanout.Block]) -> None:
    names = list(dict.fromkeys(block["server"] for block in blocks))
    base = next((name for name in ("floor single", "floor") if name in names), names[0])
    heads = ["server", "µs CPU per delivery", f"× {base}", "calls", "bytes", "p50 µs", "p99 µs", "p99.9 µs", "load", ""]
    print(f"| {' | '.join(heads)} |")
    print(f"|{' --- |' * len(heads)}")
    for name in names:
        print(f"| {' | '.join(row(blocks, name, base))} |")


def row(blocks: list[fanout.Block], name: str, base: str) -> list[str]:
    timed, based = (
        [block for block in blocks if block["server"] == lane and "block" in block] for lane in (name, base)
    )
    calls = next(block["calls"] for block in blocks if block["server"] == name and "calls" in block)
    column = {key: [block[key] for block in timed] for key in timed[0]}
    remarks = [
        *(["void: the load was the limit"] if any(column["void"]) else []),
        *([DISTURBED] if estimate(column["others_share"]).value > 0.1 else []),
        *([f"{sum(column['missing']):.0f} missing"] if any(column["missing"]) else []),
    ]
    return [
        name,
        str(estimate(column["cpu_us"])),
        str(ratio(column["cpu_us"], [block["cpu_us"] for block in based])),
        "–" if calls is None else f"{calls:.2f}",
        *(f"{estimate(column[key]).value:.0f}" for key in ("bytes", "p50_us", "p99_us", "p999_us")),
        f"{100 * max(column['load_share']):.0f} %",
        "; ".join(remarks),
    ]


if __name__ == "__main__":
    main()
