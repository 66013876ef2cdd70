"""Finds the plug-ins that are installed, and imports those that are asked for by name.

What is wrong with a plug-in becomes a `ConfigError` that names it, its distribution and the reason. Other people's code
runs here: whatever it raises is contained.
"""

import functools
import importlib.metadata
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from typing import Any, TypeVar

import msgspec

from tidegate.backends.contract import API, BackendPlugin
from tidegate.errors import ConfigError, Problem

GROUP = "tidegate.backends"
"""The group of entry points that name plug-ins."""

BUILT_IN = ("jsonrpc", "http")
"""The protocols that need no plug-in, and that none may have as its name."""

_T = TypeVar("_T")


class NoOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a plug-in that has none."""


class Plugin(msgspec.Struct, frozen=True, kw_only=True):
    """A plug-in that was imported.

    `label` names it and its distribution in messages, such as ``"nut" of tidegate-nut 1.0``.
    """

    name: str
    label: str
    maker: Any  # a BackendPlugin; a protocol is no type that msgspec knows
    options: type[msgspec.Struct]
    batches: bool


def names() -> list[str]:
    """Return the names of all plug-ins that are installed, in alphabetical order. Imports none of them."""
    return sorted({each.name for each in _entry_points()} - set(BUILT_IN))


def plugin(name: str) -> Plugin:
    """Import the plug-in `name`. Raises `ConfigError` with the path ``protocol`` if there is none that can be used."""
    found = [each for each in _entry_points() if each.name == name]
    if not found:
        listed = ", ".join(f'"{each}"' for each in (*BUILT_IN, *names()))
        raise _refused(f"one of {listed}, or the name of a plug-in that is installed", f'"{name}"')
    if len({(each.value, _distribution(each)) for each in found}) > 1:
        several = ", ".join(sorted(_distribution(each) for each in found))
        raise _refused(f'one plug-in of the name "{name}"', f"several, of {several}: uninstall all but one")
    label = f'"{name}" of {_distribution(found[0])}'
    maker = contained(found[0].load, lambda why: _refused("a plug-in that can be imported", f"{label}: {why}"))
    return _made(name, label, maker)


def refuse_clash(protocol: str) -> None:
    """Raise `ConfigError` with the path ``protocol`` if a plug-in has the name of the built-in `protocol`."""
    for each in _entry_points():
        if each.name == protocol:
            got = f"one of {_distribution(each)} too: uninstall it, or ask its author for another name"
            raise _refused(f'no plug-in of the name "{protocol}", which is built in', got)


def of(maker: BackendPlugin | type[BackendPlugin], *, name: str) -> Plugin:
    """Return `maker`, which a test has at hand, as if it were installed under `name`. Raises as `plugin` does."""
    return _made(name, f'"{name}"', maker)


def contained(act: Callable[[], _T], failed: Callable[[str], Exception]) -> _T:
    """Return `act()`, which runs other people's code. If that raises, raise what `failed` makes of the reason."""
    try:
        return act()
    except (ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise failed(reason(error)) from error


def reason(error: BaseException) -> str:
    """Return what `error` says, and the place in the source where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return told(error) + place


def told(error: BaseException) -> str:
    """Return the type of `error` and what it says."""
    try:
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:  # noqa: BLE001 - its text may be computed, by code that is not ours
        return type(error).__name__


def _made(name: str, label: str, maker: Any) -> Plugin:
    """Return `maker`, or what that class makes, as a plug-in. Raises `ConfigError` if it is none."""
    if isinstance(maker, type):
        maker = contained(maker, lambda why: _refused("a plug-in that can be made", f"{label}: {why}"))

    def examined() -> Plugin:
        for expected, got in _lacks(maker):
            raise _refused(expected, f"{label}, {got}")
        return Plugin(
            name=name,
            label=label,
            maker=maker,
            options=getattr(maker, "Options", NoOptions),
            batches=getattr(maker, "batches", False) is True,
        )

    return contained(examined, lambda why: _refused("a plug-in as `BackendPlugin` describes it", f"{label}: {why}"))


def _lacks(maker: Any) -> Iterator[tuple[str, str]]:
    """Yield what `maker` lacks to be a plug-in: what was expected, and what came."""
    api = getattr(maker, "api", None)
    if api is None:
        yield f"a plug-in for version {API} of the contract (api = {API})", "which says no version"
    elif type(api) is not int or api != API:
        remedy = f"install a version of it for this Tidegate, or a Tidegate that has version {api!r}"
        got = f"which says version {api!r}: {remedy}"
        yield f"a plug-in for version {API} of the contract (api = {API})", got
    if not callable(getattr(maker, "open", None)):
        yield "a plug-in with a method open", "which has none"
    options = getattr(maker, "Options", NoOptions)
    if not (isinstance(options, type) and issubclass(options, msgspec.Struct)):
        yield "a plug-in whose Options are a msgspec.Struct", f"whose are {options!r}"
    else:
        msgspec.structs.fields(options)  # raises for a type that cannot be found by its name


@functools.cache  # what is installed does not change while a gateway runs, and it takes many files to find out
def _entry_points() -> tuple[EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=GROUP))


def _distribution(entry_point: EntryPoint) -> str:
    distribution = entry_point.dist
    return "an unknown distribution" if distribution is None else f"{distribution.name} {distribution.version}"


def _refused(expected: str, got: str) -> ConfigError:
    return ConfigError([Problem("protocol", expected, got)])
