"""``python -m bench SCENARIO``: run one scenario and print its table; ``record`` runs them all and keeps them."""

import argparse
from dataclasses import replace
from pathlib import Path

from bench.catalogue import SCENARIOS
from bench.measure import prepare_process
from bench.programs import install_peers
from bench.record import record, write_readme
from bench.results import Choice, save, taken_now
from bench.scenario import Scenario, markdown


def main() -> None:
    given = parser().parse_args()
    if given.scenario == "install":
        install_peers()
        return
    if given.scenario == "readme":
        write_readme()
        return
    prepare_process()
    if given.scenario == "record":
        raise SystemExit(record(given.scenarios))
    scenario = SCENARIOS[given.scenario]
    choice = chosen(scenario.choice, given)
    rows = scenario.run(choice)
    if given.json:
        save(taken_now(scenario.name, choice, rows), given.json)
    print(markdown(scenario.table(rows)))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="bench", description=__doc__)
    commands = made.add_subparsers(dest="scenario", required=True)
    commands.add_parser("install", help="install the peers that are not there yet")
    recording = commands.add_parser("record", help="run scenarios as README.md shows them, and write it: all, or some")
    recording.add_argument("scenarios", nargs="*", choices=[[], *SCENARIOS], metavar="SCENARIO")
    commands.add_parser("readme", help="write README.md again from what is recorded")
    for scenario in SCENARIOS.values():
        add_scenario(commands.add_parser(scenario.name, help=scenario.about), scenario)
    return made


def add_scenario(command: argparse.ArgumentParser, scenario: Scenario) -> None:
    choice = scenario.choice
    servers = ",".join(choice.servers)
    command.add_argument("--servers", default=servers, help=f"tidegate[@PROGRAM] and peers; {servers}")
    command.add_argument("--subscribers", type=int, default=choice.subscribers)
    command.add_argument("--per-s", type=float, default=choice.per_s, help="events published per second")
    command.add_argument("--payload-bytes", type=int, default=choice.payload_bytes)
    command.add_argument("--blocks", type=int, default=choice.blocks)
    command.add_argument("--seconds", type=float, default=choice.seconds, help="length of a block")
    command.add_argument("--json", type=Path, help="where to keep the rows")


def chosen(choice: Choice, given: argparse.Namespace) -> Choice:
    return replace(
        choice,
        servers=tuple(given.servers.split(",")),
        subscribers=given.subscribers,
        per_s=given.per_s,
        payload_bytes=given.payload_bytes,
        blocks=given.blocks,
        seconds=given.seconds,
    )


if __name__ == "__main__":
    main()
