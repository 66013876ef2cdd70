"""The recipes that the program writes: they can be found, and are configurations without a problem."""

import tomllib
from pathlib import Path

import pytest

from tidegate.config import from_document
from tidegate.config.recipes import recipe, recipes


def test_each_has_its_first_line_and_its_text() -> None:
    found = recipes()
    assert list(found) == sorted(found)
    assert len(found) >= 20
    assert found["aria2"].startswith("aria2: ")
    assert recipe("aria2").startswith(f"# {found['aria2']}\n")


@pytest.mark.parametrize("name", ["nosuch", "../recipes/aria2", "", "aria2.toml", "__init__"])
def test_an_unknown_name_has_none(name: str) -> None:
    with pytest.raises(KeyError):
        recipe(name)


@pytest.mark.parametrize("name", recipes())
def test_each_passes_the_check(name: str, tmp_path: Path) -> None:
    document = tomllib.loads(recipe(name))
    for backend in document["backends"].values():
        for file in backend.get("secrets", {}).values():
            (tmp_path / file).write_text("sesame")
    config = from_document(document, environ={}, directory=tmp_path)
    assert config.sources.keys() == document["sources"].keys()
