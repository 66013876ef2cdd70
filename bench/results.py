"""What a run has found, kept as JSON with the commit and the machine that it was taken at."""

import json
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.programs import HERE

RESULTS = HERE / "results"

Row = dict[str, Any]
"""One measurement: what each scenario's module says it holds."""


@dataclass(frozen=True)
class Choice:
    """What the command line may choose of a scenario; a scenario without use for one of these ignores it."""

    servers: tuple[str, ...] = ()
    subscribers: int = 1000
    per_s: float = 100.0
    payload_bytes: int = 300
    blocks: int = 10
    seconds: float = 5.0


@dataclass(frozen=True)
class Result:
    """The rows of one run of a scenario."""

    scenario: str
    commit: str
    taken: str
    machine: str
    choice: dict[str, Any]
    rows: list[Row]


def taken_now(scenario: str, choice: Choice, rows: list[Row]) -> Result:
    """`rows`, with where and when they were measured."""
    taken = datetime.now(UTC).strftime("%Y-%m-%d")
    return Result(scenario, commit(), taken, machine(), asdict(choice), rows)


def save(result: Result, path: Path | None = None) -> None:
    path = path or RESULTS / f"{result.scenario}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(rounded(asdict(result)), indent=1, ensure_ascii=False) + "\n")


def load(scenario: str) -> Result | None:
    """The recorded run of `scenario`; None if there is none."""
    path = RESULTS / f"{scenario}.json"
    return Result(**json.loads(path.read_text())) if path.exists() else None


def rounded(value: Any) -> Any:
    """`value` with five significant digits: no measurement here has more."""
    match value:
        case float():
            return float(f"{value:.5g}")
        case dict():
            return {name: rounded(part) for name, part in value.items()}
        case list() | tuple():
            return [rounded(part) for part in value]
    return value


def of(rows: Sequence[Row], server: str, field: str) -> list[float]:
    """A field of all timed rows of one server, in the order of their blocks."""
    own = sorted((row for row in rows if row["server"] == server and "block" in row), key=lambda row: row["block"])
    return [row[field] for row in own]


def names(rows: Sequence[Row]) -> list[str]:
    """The servers in `rows`, in the order in which they were asked for."""
    first = [row["server"] for row in rows if row.get("block", 0) == 0]
    return list(dict.fromkeys(first))


def commit() -> str:
    """The commit of the tree; with a plus where something that is measured is not committed."""
    measured = ["--", "src", "bench", ":!bench/results", ":!bench/README.md"]
    changed = _git("status", "--porcelain", *measured)
    return (_git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False).stdout.strip()


def machine() -> str:
    """The machine in words."""
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cores = len(list(Path("/sys/devices/system/cpu").glob("cpu[0-9]*")))
    virtual = "virtual machine" if "hypervisor" in Path("/proc/cpuinfo").read_text() else "machine"
    parts = [
        f"{cores}-core {virtual}",
        processor[1] if processor else platform.machine(),
        f"Linux {'.'.join(platform.release().split('.')[:2])}",
        f"Python {platform.python_version()}",
        f"uvloop {version('uvloop')}",
    ]
    return ", ".join(parts)
