"""The facts on docs/architecture.md that a machine can hold. The layers are import-linter's, in pyproject.toml.

Each list of exceptions may only get shorter: what no longer needs to be on it fails the test.
"""

import ast
import graphlib
import importlib
import inspect
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import grimp
import pytest

PACKAGE = Path(__file__).parents[1] / "src/tidegate"
SOURCES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}

MODULE_LINES = 300

FUNCTION_LINES = 40
"""From its first line to its last, but for the docstring, which may say much about little."""

LONG_FUNCTIONS = {
    "inbound/http_api/documents/asyncapi.py: asyncapi_document",
}

LEAVES = (
    "codes",
    "errors",
    "secret",
    "files",
    "database",
    "token_file",
    "secret_place",
    "backoff",
    "loopback",
    "signals",
    "hangup",
    "printable",
    "extras",
    "standard_streams",
)
ROOMS: dict[str, tuple[str, ...]] = {
    "the gateway": (
        *("app", "plan", "parts", "backends", "payload", "ports", "core", "runtime", "inbound", "outbound", "config"),
        *("testing", "cli", "pytest_plugin"),
    ),
    "the client": ("client",),
    "the engine": ("engine",),
    "verify": ("verify", "client"),
}
"""What one file could import together, beside the leaves: the engine, the client and verify stand alone."""

SHARED_NAMES = {
    "the client: Disconnected",  # what a stream yields, and an error of a backend: both are public
    "verify: Disconnected",
}

PUBLIC_MODULES = (
    "tidegate",
    "tidegate.backends",
    "tidegate.client",
    "tidegate.errors",
    "tidegate.payload",
    "tidegate.ports",
    "tidegate.pytest_plugin",
    "tidegate.testing",
)


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("tidegate")
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which names the cycle


def test_modules_are_short_enough_to_hold_in_the_head() -> None:
    assert [name for name, path in SOURCES.items() if _lines(path) > MODULE_LINES] == []


def test_the_whole_gateway_is_put_together_on_one_screen() -> None:
    assert _lines(SOURCES["app.py"]) <= 80


def test_functions_are_short() -> None:
    found = {
        f"{name}: {function.name}"
        for name, tree in TREES.items()
        for function in _functions(tree)
        if _length(function) > FUNCTION_LINES
    }
    assert found == LONG_FUNCTIONS


def test_no_class_name_stands_for_two_things_where_one_file_could_import_both() -> None:
    found = set()
    for room, parts in ROOMS.items():
        places: dict[str, list[str]] = defaultdict(list)
        for name in SOURCES:
            if name.partition("/")[0].removesuffix(".py") in (*parts, *LEAVES):
                for kind in _public_classes(TREES[name]):
                    places[kind].append(name)
        found |= {f"{room}: {kind}" for kind, where in places.items() if len(where) > 1}
    assert found == SHARED_NAMES


def test_every_module_says_what_it_is_for() -> None:
    assert [name for name, tree in TREES.items() if ast.get_docstring(tree) is None] == []


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_everything_public_has_a_docstring(module: str) -> None:
    assert [name for name, thing in _public(importlib.import_module(module)) if not _documentation(thing)] == []


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def _public_classes(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def _public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The functions and classes that a module offers, and what these classes add of their own."""
    offered = getattr(module, "__all__", None)
    for name, thing in vars(module).items():
        if not (inspect.isfunction(thing) or inspect.isclass(thing)):
            continue
        if name not in offered if offered is not None else name.startswith("_") or thing.__module__ != module.__name__:
            continue
        yield name, thing
        if inspect.isclass(thing):
            for member, value in vars(thing).items():
                if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                    yield f"{name}.{member}", value


def _documentation(thing: object) -> str | None:
    """A method may have that of the one it overrides; a class has one of its own."""
    return thing.__doc__ if inspect.isclass(thing) else inspect.getdoc(thing)
