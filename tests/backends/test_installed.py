"""A plug-in is found by its name and imported; what is wrong with one names it, its distribution and the reason."""

import sys
from typing import Any

import msgspec
import pytest
from plugins import EchoPlugin, install

from tidegate.backends import installed
from tidegate.errors import ConfigError

LABEL = '"echo" of tidegate-test 1.2'


def no_such_library() -> object:
    import no_such_library_at_all  # type: ignore[import-not-found]  # noqa: F401

    raise AssertionError("unreachable")


def leaves() -> object:
    sys.exit("no licence")


class Spiteful:
    @property
    def api(self) -> int:
        raise KeyError("no")


IMPORTED = "expected a plug-in that can be imported, got {}: "
CONTRACT = "expected a plug-in for version 1 of the contract (api = 1), got {}, which says "
Nameless = msgspec.defstruct("Nameless", [("at", "Nowhere", None)])


NEEDS = type("Needs", (), {"__init__": lambda self, x: None})


@pytest.mark.parametrize(
    ("thing", "told"),
    [
        (no_such_library, f"{IMPORTED}ModuleNotFoundError: No module named"),
        (leaves, f"{IMPORTED}SystemExit: no licence (" + __file__),
        (NEEDS, "expected a plug-in that can be made, got {}: TypeError"),
        (type("P", (EchoPlugin,), {"api": 2}), f"{CONTRACT}version 2: install a version of it for this Tidegate, or a"),
        (type("P", (EchoPlugin,), {"api": True}), f"{CONTRACT}version True"),
        (object(), f"{CONTRACT}no version"),
        (type("P", (), {"api": 1}), "expected a plug-in with a method open, got {}, which has none"),
        (type("P", (EchoPlugin,), {"Options": dict}), "whose Options are a msgspec.Struct, got {}, whose are <class"),
        (type("P", (EchoPlugin,), {"Options": Nameless}), "describes it, got {}: NameError: name 'Nowhere' is not"),
        (Spiteful, "expected a plug-in as `BackendPlugin` describes it, got {}: KeyError: 'no'"),
    ],
    ids=str,
)
def test_a_plug_in_that_cannot_be_used_is_a_problem_that_names_it(
    thing: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, {"echo": thing})
    with pytest.raises(ConfigError) as refused:
        installed.plugin("echo")
    (found,) = refused.value.problems
    assert found.path == "protocol"
    assert told.format(LABEL) in str(found)


def test_a_plug_in_is_what_its_entry_point_names(monkeypatch: pytest.MonkeyPatch) -> None:
    maker = EchoPlugin()
    install(monkeypatch, {"echo": maker})
    found = installed.plugin("echo")
    assert (found.name, found.label, found.maker, found.options) == ("echo", LABEL, maker, EchoPlugin.Options)
    assert found.batches is False


def test_a_plug_in_without_options_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"bare": type("Bare", (), {"api": 1, "open": lambda self, options, context: None})})
    assert msgspec.structs.fields(installed.plugin("bare").options) == ()


def test_two_distributions_with_a_plug_in_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"echo": EchoPlugin})
    [first] = installed._entry_points()
    install(monkeypatch, {"echo": EchoPlugin}, distribution="another")
    [second] = installed._entry_points()
    monkeypatch.setattr(installed, "_entry_points", lambda: (first, second))
    with pytest.raises(ConfigError, match=r"several, of another 1\.2, tidegate-test 1\.2: uninstall all but one"):
        installed.plugin("echo")
    monkeypatch.setattr(installed, "_entry_points", lambda: (first, first))  # one package, found by way of two paths
    assert installed.plugin("echo").label == LABEL


def test_a_plug_in_with_the_name_of_a_built_in_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"http": EchoPlugin, "echo": EchoPlugin})
    installed.refuse_clash("jsonrpc")
    with pytest.raises(ConfigError, match=r"which is built in, got one of tidegate-test 1\.2 too: uninstall it"):
        installed.refuse_clash("http")
    assert installed.names() == ["echo"]


def test_what_is_not_installed_is_answered_with_what_is(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"nut": EchoPlugin, "echo": EchoPlugin})
    with pytest.raises(ConfigError, match='expected one of "jsonrpc", "http", "echo", "nut", or the name of a plug-in'):
        installed.plugin("ecko")


def test_a_plug_in_of_a_test_needs_no_installation() -> None:
    assert installed.of(EchoPlugin(), name="echo").label == '"echo"'


def test_entry_points_are_read_from_what_is_installed() -> None:
    assert all(each.group == installed.GROUP for each in installed._entry_points())
