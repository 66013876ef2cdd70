"""Plug-ins for tests, installed for the time of one test: as entry points that Python finds, of a distribution."""

import types
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from tidegate.backends import BackendContext, Secret, installed
from tidegate.ports import Backend, Call


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str
    port: int = 3493
    password: Secret | None = None
    file: Path | None = None


class Echo:
    """Answers each call with its method."""

    def __init__(self, options: Any, context: BackendContext) -> None:
        self.options = options
        self.context = context
        self.is_closed = False

    async def call(self, calls: Any) -> Any:
        return [msgspec.Raw(msgspec.json.encode(call.method)) for call in calls]

    async def aclose(self) -> None:
        self.is_closed = True


class EchoPlugin:
    """A plug-in without fault; tests override what they are about."""

    api: int = 1
    batches: bool = False
    Options: type[msgspec.Struct] = Options
    opened: list[Any]

    def __init__(self) -> None:
        self.opened = []

    def open(self, options: Any, context: BackendContext) -> Backend:
        self.opened.append(Echo(options, context))
        return self.opened[-1]  # type: ignore[no-any-return]


def install(
    monkeypatch: pytest.MonkeyPatch, plugins: Mapping[str, Any], *, distribution: str = "tidegate-test"
) -> None:
    """Let `plugins`, by name, be those that are installed. A function is called to load one: it may raise."""
    found = [_entry_point(name, thing, distribution) for name, thing in plugins.items()]
    monkeypatch.setattr(installed, "_entry_points", lambda: tuple(found))


def _entry_point(name: str, thing: Any, distribution: str) -> EntryPoint:
    class Loaded(EntryPoint):
        dist: ClassVar[Any] = types.SimpleNamespace(name=distribution, version="1.2")

        def load(self) -> Any:
            return thing() if isinstance(thing, types.FunctionType) else thing

    return Loaded(name, f"{distribution}:{name}", installed.GROUP)


def call(method: str = "m") -> list[Call]:
    return [Call(method)]


__all__ = ["Echo", "EchoPlugin", "Options", "call", "install"]
