"""The configurations in ``docs/recipes.md`` are those that the program writes."""

import re
import tomllib
from pathlib import Path

import pytest
from real_services import SERVICES

ROOT = Path(__file__).parents[2]
RECIPES = {file.stem: file.read_text() for file in (ROOT / "src/tidegate/config/recipes").glob("*.toml")}
PAGE = (ROOT / "docs/recipes.md").read_text()
SECTION = re.compile(r"^`tidegate config init --for ([a-z0-9-]+)`;.*?^```toml\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_the_page_has_each_recipe_as_it_is() -> None:
    assert dict(SECTION.findall(PAGE)) == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_the_table_names_each_recipe(name: str) -> None:
    assert f"| `{name}` |" in PAGE


def test_those_are_tested_of_which_the_page_says_so() -> None:
    tested = {name for name in RECIPES if re.search(rf"^\| `{name}` \|.*\| tested with", PAGE, re.MULTILINE)}
    assert tested == {service.recipe for service in SERVICES}


@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
def test_a_recipe_begins_with_what_one_gets(text: str) -> None:
    assert re.match(r"# \S[^\n]*: [^\n]+\.\n", text)


@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
def test_no_secret_stands_in_a_recipe(text: str) -> None:
    for backend in tomllib.loads(text)["backends"].values():
        assert all(key.endswith("_file") for key in backend.get("secrets", {}))
        assert not re.search(r"://[^/@]*:[^{/@][^/@]*@", backend["url"])
