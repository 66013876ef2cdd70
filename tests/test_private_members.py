"""No member of a dependency is used or overridden that its documentation does not offer, as far as the syntax tells.

A release of the dependency may change such a member without a word. What is checked: imports of names with a leading
underscore; attributes with one that this package does not define; and, in a class that derives from a foreign one,
every member of that one that is overridden, set or read.
"""

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import tidegate

SOURCE = Path(tidegate.__file__).parent

LANGUAGE = {"builtins", "typing", "abc", "enum", "msgspec", "collections", "contextlib"}
"""Bases out of these modules are made to be derived from, in any way."""

DOCUMENTED = {"_asdict", "_exit", "_fields", "_make", "_replace"}
"""Those of named tuples, and of `os`: with an underscore, and documented all the same."""

OFFERED = {
    "asyncio.protocols.BaseProtocol": {"connection_made", "connection_lost", "pause_writing", "resume_writing"},
    "asyncio.protocols.Protocol": {"data_received", "eof_received"},
    "logging.Handler": {"emit"},
    "pjrpc.server.validators.base.BaseValidator": {"validate_params"},
    "pjrpc.server.validators.base.BaseValidatorFactory": {"build"},
    # Told of in its docstring alone, so the version has an upper bound in pyproject.toml.
    "websockets.asyncio.client.connect": {"process_redirect"},
}
"""By foreign class: what its documentation tells to override or to use."""


class Module:
    """A module: its syntax tree, and itself."""

    def __init__(self, source: str, imported: ModuleType) -> None:
        self.tree = ast.parse(source)
        self.imported = imported
        self.classes = [node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)]

    def misuses(self) -> Iterator[str]:
        """What it does with other people's private members."""
        yield from self._imports()
        yield from self._attributes()
        for node in self.classes:
            found = getattr(self.imported, node.name, None)
            if isinstance(found, type):
                yield from _overridden(node, found)

    def _imports(self) -> Iterator[str]:
        for node in ast.walk(self.tree):
            paths: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.module:
                paths = [f"{node.module}.{name.name}" for name in node.names]
            elif isinstance(node, ast.Import):
                paths = [name.name for name in node.names]
            for path in paths:
                if not path.startswith(("tidegate.", "__future__.")) and any(map(_is_private, path.split("."))):
                    yield f"imports {path}"

    def _attributes(self) -> Iterator[str]:
        defined = {name for node in self.classes for name in _defined(node)} | DOCUMENTED
        for node in ast.walk(self.tree):
            match node:
                case ast.Attribute(attr=name, value=value) if _is_private(name) and not _is_own(value):
                    if name not in defined:
                        yield f"uses {ast.unparse(node)}"


def _overridden(node: ast.ClassDef, found: type) -> Iterator[str]:
    """What the class does with members of foreign bases."""
    foreign = [base for base in found.__mro__ if base.__module__.split(".")[0] not in LANGUAGE | {"tidegate", PLANTED}]
    own = _defined(node)
    for base in found.__mro__[1:]:
        if base not in foreign and base.__module__.split(".")[0] not in LANGUAGE:
            own |= set(vars(base))
    for name in sorted(_defined(node) | _read(node)):
        if name.startswith("__"):
            continue
        for base in foreign:
            if name in vars(base) and name not in OFFERED.get(f"{base.__module__}.{base.__qualname__}", ()):
                yield f"{node.name} overrides or uses {base.__module__}.{base.__qualname__}.{name}"
        if foreign and name not in own and not any(hasattr(base, name) for base in foreign):
            yield f"{node.name} uses {name}, which some base must have set"


def _defined(node: ast.ClassDef) -> set[str]:
    """The members that a class defines: methods, annotations, slots, and what it assigns to `self`."""
    names = set()
    for inner in ast.walk(node):
        match inner:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.Attribute(attr=name, value=value, ctx=ast.Store()) if _is_own(value):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id="__slots__")], value=ast.Tuple(elts=slots)):
                names |= {
                    slot.value for slot in slots if isinstance(slot, ast.Constant) and isinstance(slot.value, str)
                }
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
    return names


def _read(node: ast.ClassDef) -> set[str]:
    """The members of itself, or of its bases, that a class uses."""
    return {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute) and _is_own(inner.value)}


def _is_own(value: ast.expr) -> bool:
    return ast.unparse(value) in {"self", "cls", "super()"}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


PATHS = [path for path in sorted(SOURCE.rglob("*.py")) if path.name != "__main__.py"]


@pytest.mark.parametrize("path", PATHS, ids=[str(path.relative_to(SOURCE)) for path in PATHS])
def test_no_private_member_of_a_dependency_is_used(path: Path) -> None:
    name = ".".join(["tidegate", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")
    assert list(Module(path.read_text(), importlib.import_module(name)).misuses()) == []


PLANTED = "planted"

MISUSES = {
    "from asyncio import _set_running_loop": "imports asyncio._set_running_loop",
    "import websockets._nothing": "imports websockets._nothing",
    "def f(loop):\n    return loop._ready": "uses loop._ready",
    "from websockets.protocol import Protocol\nclass P(Protocol):\n    def recv_frame(self, frame): ...": (
        "P overrides or uses websockets.protocol.Protocol.recv_frame"
    ),
    "from websockets.protocol import Protocol\nclass P(Protocol):\n    def f(self):\n        self.parser.close()": (
        "P uses parser, which some base must have set"
    ),
    "import asyncio\nclass P(asyncio.StreamReaderProtocol):\n    def f(self):\n        return self._stream_reader": (
        "P overrides or uses asyncio.streams.StreamReaderProtocol._stream_reader"
    ),
    "import logging\nclass H(logging.Handler):\n    def emit(self, record):\n        self.acquire()": (
        "H overrides or uses logging.Handler.acquire"
    ),
}


@pytest.mark.parametrize("source", MISUSES)
def test_what_is_planted_is_found(source: str) -> None:
    module = ModuleType(PLANTED)
    found = ast.parse(source)
    found.body = [node for node in found.body if _is_importable(node)]
    exec(compile(found, PLANTED, "exec"), vars(module))
    assert MISUSES[source] in list(Module(source, module).misuses())


def _is_importable(node: ast.stmt) -> bool:
    return not (isinstance(node, ast.Import | ast.ImportFrom) and "._" in ast.unparse(node))


def test_what_is_offered_is_there() -> None:
    for path, names in OFFERED.items():
        module, _, name = path.rpartition(".")
        importlib.import_module(module)
        assert names <= set(vars(getattr(sys.modules[module], name)))
