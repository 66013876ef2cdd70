"""`docs/public-api.txt` lists what is public, and `docs/api.md` explains it."""

import importlib
import inspect
import re

import pytest

import tidegate.ports
from public_api import MODULES, RECORD, ROOT, recorded

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_what_is_public_is_what_the_record_says() -> None:
    """Where it is meant: ``.venv/bin/python tests/support/public_api.py``, and a line in CHANGELOG.md."""
    assert recorded().splitlines() == RECORD.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_exports_what_it_has_and_says_what_it_is(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert [exported for exported in module.__all__ if not hasattr(module, exported)] == []


@pytest.mark.parametrize("name", ["tidegate.errors", "tidegate.ports", "tidegate.core.measurements"])
def test_modules_that_are_public_as_a_whole_export_each_of_their_classes(name: str) -> None:
    module = importlib.import_module(name)
    own = {name for name, thing in inspect.getmembers(module, inspect.isclass) if thing.__module__ == module.__name__}
    assert {name for name in own if not name.startswith("_")} <= set(module.__all__)


def test_the_page_has_every_public_module_and_every_exported_name() -> None:
    assert set(re.findall(r"^\| \[`([a-z_.]+)`\]", PAGE, re.MULTILINE)) == set(MODULES) - {"tidegate"}
    words = set(re.findall(r"\w+", PAGE))
    explained_elsewhere = {
        *importlib.import_module("tidegate.testing").__all__,  # docs/testing.md
        *importlib.import_module("tidegate.pytest_plugin").__all__,
        *importlib.import_module("tidegate.errors").__all__,  # the tree in its docstring
        *importlib.import_module("tidegate.core.measurements").__all__,
        "__version__",
    }
    missing = {name for module in MODULES for name in importlib.import_module(module).__all__} - words
    assert missing - explained_elsewhere == set()


def test_the_contracts_of_the_ports_are_written_down() -> None:
    classes = [thing for thing in map(vars(tidegate.ports).get, tidegate.ports.__all__) if inspect.isclass(thing)]
    assert [each.__name__ for each in classes if not inspect.getdoc(each)] == []
