"""What Tidegate promises to keep: the names that its public modules export, with their members and parameters.

``.venv/bin/python tests/support/public_api.py`` writes `docs/public-api.txt` anew.
"""

import enum
import importlib
import inspect
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import Any

import msgspec

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "docs" / "public-api.txt"

MODULES = (
    "tidegate",
    "tidegate.app",
    "tidegate.backends",
    "tidegate.client",
    "tidegate.config",
    "tidegate.core.measurements",
    "tidegate.errors",
    "tidegate.payload",
    "tidegate.ports",
    "tidegate.pytest_plugin",
    "tidegate.testing",
    "tidegate.testing.contracts",
)
"""The modules that `docs/api.md` calls public. Of `core` only this one, and only what it exports."""


def recorded() -> str:
    """The text of `docs/public-api.txt` as it should be: one name a line."""
    return "".join(f"{line}\n" for module in MODULES for line in _exported(module))


def _exported(module_name: str) -> Iterator[str]:
    module = importlib.import_module(module_name)
    for name in sorted(module.__all__):
        thing, path = getattr(module, name), f"{module_name}.{name}"
        if isinstance(thing, type):
            yield from _of_class(thing, path)
        elif isinstance(thing, FunctionType):
            yield path + _parameters(thing)
        else:
            yield path


def _of_class(cls: type, path: str) -> Iterator[str]:
    """The class with how it is made, where that is its own affair; then its members, also those of our ancestors.

    The tests of a contract are left out: nobody calls them by name.
    """
    yield path + (_parameters(cls) if _is_made_its_own_way(cls) else "")
    if issubclass(cls, enum.Enum):
        yield from (f"{path}.{member.name}" for member in cls)
        return
    members = {name: thing for owner in reversed(cls.__mro__) if _is_ours(owner) for name, thing in vars(owner).items()}
    for name, thing in sorted(members.items()):
        function = getattr(thing, "__func__", thing)
        if isinstance(function, FunctionType) and not name.startswith(("_", "test_")):
            yield f"{path}.{name}{_parameters(function)}"
        elif isinstance(thing, property | cached_property) or name in _declared(cls):
            yield f"{path}.{name}"


def _declared(cls: type) -> set[str]:
    """The attributes with a value that an ordinary class and its ancestors declare."""
    owners = [] if issubclass(cls, msgspec.Struct) else filter(_is_ours, cls.__mro__)
    return {name for owner in owners for name in inspect.get_annotations(owner) if not name.startswith("_")}


def _is_made_its_own_way(cls: type) -> bool:
    if issubclass(cls, msgspec.Struct):  # the fields are the parameters
        return True
    return "__init__" in vars(cls) and not getattr(cls, "_is_protocol", False)


def _is_ours(owner: type) -> bool:
    return owner.__module__.startswith("tidegate")


def _parameters(function: Callable[..., Any]) -> str:
    """The names of the parameters, and which of them are passed by name only or may be left out."""
    shown: list[str] = []
    by_name = False
    for name, parameter in inspect.signature(function).parameters.items():
        if name in {"self", "cls"}:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not by_name:
            shown.append("*")
        by_name = by_name or parameter.kind in {parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL}
        shown.append(str(parameter.replace(annotation=parameter.empty, default=parameter.empty)))
        if parameter.default is not parameter.empty:
            shown[-1] += "=…"
    return f"({', '.join(shown)})"


if __name__ == "__main__":
    RECORD.write_text(recorded(), encoding="utf-8")
