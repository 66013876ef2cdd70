"""docs/logs.md names every event of the gateway's log, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tidegate.core.log_events import LimitedEvent

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "tidegate"
OTHER_PROGRAMS = {"engine", "verify", "client", "testing"}
LEVELS = {"debug", "info", "warning", "error", "exception"}


def events_in(tree: ast.AST) -> Iterator[str]:
    """The events that a module logs: those of calls of a logger, of notes, of plug-ins' mistakes, and of ends."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            if keyword.arg == "over":
                yield from literals(keyword.value)
        name = ast.unparse(node.func)
        method = name.rpartition(".")[2]
        is_of_a_logger = method in LEVELS and re.search(r"\b_?log\.\w+$", name)
        if (is_of_a_logger or method in {"_debug", "tell"}) and node.args:
            yield from literals(node.args[0])
            if isinstance(node.args[0], ast.Attribute) and is_of_a_logger and not name.startswith("self."):
                yield ast.unparse(node.args[0])  # no row can describe an event that is made up at run time
        elif name == "Note":
            yield from literals(node.args[1])


def literals(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.Constant(str(text)):
            yield text
        case ast.IfExp():
            yield from literals(value.body)
            yield from literals(value.orelse)


def logged() -> set[str]:
    found = {event.value for event in LimitedEvent}
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] not in OTHER_PROGRAMS:
            found |= set(events_in(ast.parse(path.read_text())))
    return found


def test_every_event_is_described_and_every_described_event_exists() -> None:
    rows = re.findall(
        r"^\| `([^`]+)` \| (debug|info|warning|error)", (ROOT / "docs" / "logs.md").read_text(), re.MULTILINE
    )
    described = [event for event, _ in rows]
    assert len(described) == len(set(described))
    assert set(described) == logged()
