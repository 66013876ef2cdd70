"""What is said of a place where no secret is."""

from pathlib import Path

import pytest

from tidegate.errors import Problem
from tidegate.secret_place import SecretPlace, read


@pytest.mark.parametrize(("environ", "got"), [({}, "no such variable"), ({"V": ""}, "an empty variable")])
def test_a_variable_that_is_missing_is_named(environ: dict[str, str], got: str) -> None:
    found = read(SecretPlace(setting="secrets.key_env", variable="V"), environ)
    assert isinstance(found, Problem)
    assert "the environment variable V" in found.expected
    assert found.got == got


@pytest.mark.parametrize(("content", "got"), [("a b", "a space"), ("ä", "not ASCII")])
def test_a_token_has_a_narrower_format(tmp_path: Path, content: str, got: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    found = read(SecretPlace(setting="bearer_token_file", file=path, is_token=True))
    assert isinstance(found, Problem)
    assert got in found.got
