"""`docs/verify.md` says of scenarios, faults and the control API what there is."""

import re
from pathlib import Path

import msgspec

from tidegate.verify.faultproxy import FAULTS, FaultProxy, control_app
from tidegate.verify.scenarios import SCENARIOS

PAGE = (Path(__file__).parents[2] / "docs/verify.md").read_text(encoding="utf-8")
DRAWN = {"name", "probability", "count", "methods"}


def rows(head: str) -> list[list[str]]:
    """The rows of the table whose first column is called `head`."""
    table = PAGE.split(f"\n| {head} |")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_scenarios_and_their_promises() -> None:
    assert rows("scenario") == [[scenario.title, scenario.promise] for scenario in SCENARIOS]


def test_routes_of_the_control_api() -> None:
    routes = {
        (route.method, route.resource.canonical)
        for route in control_app(FaultProxy(upstream="http://x:1")).router.routes()
        if route.resource
    }
    told = {tuple(row[0].strip("`").split()) for row in rows("request")}
    assert told == {(method, path) for method, path in routes if method != "HEAD"}


def test_every_fault_with_its_parameters() -> None:
    told = {row[0].strip("`"): re.findall(r"`(\w+)`(?: \(([^)]*)\))?", row[1]) for row in rows("fault")}
    assert set(told) == set(FAULTS)
    for name, kind in FAULTS.items():
        defaults = {key: value for key, value in msgspec.to_builtins(kind()).items() if key not in DRAWN}
        assert [key for key, _ in told[name]] == list(defaults)
        numbers = {key: float(default) for key, default in told[name] if re.fullmatch(r"-?[0-9.]+", default)}
        assert numbers == {key: value for key, value in defaults.items() if isinstance(value, int | float)}
