"""The recipes: whole configurations for well-known services, one file for each, as `tidegate config init --for` writes.

A recipe is TOML whose first line is a comment: the name of the service, a colon, and what one gets. Knows nothing of
what its keys mean.
"""

from collections.abc import Mapping
from importlib.resources import files

_SUFFIX = ".toml"


def recipe(name: str) -> str:
    """Return the text of the recipe `name`. Raises `KeyError` if there is none of that name."""
    if name not in recipes():  # so that no name is a path to somewhere else
        raise KeyError(name)
    return (files(__name__) / f"{name}{_SUFFIX}").read_text(encoding="utf-8")


def recipes() -> Mapping[str, str]:
    """Return the names of all recipes, sorted, each with its first line without the mark of the comment."""
    texts = {
        file.name.removesuffix(_SUFFIX): file.read_text(encoding="utf-8")
        for file in files(__name__).iterdir()
        if file.name.endswith(_SUFFIX)
    }
    return {name: texts[name].partition("\n")[0].removeprefix("#").strip() for name in sorted(texts)}
