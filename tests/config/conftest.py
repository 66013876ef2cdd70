import tomllib
from collections.abc import Callable, Mapping

import pytest

from tidegate.config import from_document
from tidegate.errors import ConfigError


def _problems(
    document: Mapping[str, object] | str = "",
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> dict[str, str]:
    tables = tomllib.loads(document) if isinstance(document, str) else document
    with pytest.raises(ConfigError) as caught:
        from_document(tables, environ=environ or {}, overrides=overrides)
    found = {problem.path: f"expected {problem.expected}, got {problem.got}" for problem in caught.value.problems}
    assert len(found) == len(caught.value.problems)
    return found


@pytest.fixture
def problems() -> Callable[..., dict[str, str]]:
    """What is wrong with a document (tables, or TOML) under an environment and overrides: messages by path."""
    return _problems
