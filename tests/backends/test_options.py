"""Options of a plug-in are read from a table, with paths and secrets, and can be written down again."""

from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tidegate.backends import Secret
from tidegate.backends.options import NotYet, as_table, converted


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str = "h"
    password: Secret | None = None
    state: Path | None = None
    since: date | None = None
    passwords: list[Secret] = []


def of(value: dict[str, Any], **more: Any) -> Options:
    found: Options = converted(Options, value, **{"secrets": {"pw": None}, **more})
    return found


def test_a_secret_is_what_its_places_stand_for_when_it_is_revealed() -> None:
    texts = {"pw": "one"}
    options = of({"password": "<{pw}{other}>", "passwords": ["{pw}"]}, value_of=texts.get)
    assert options.password is not None
    assert options.password.reveal() == "<one{other}>"
    texts["pw"] = "two"
    assert [options.password.reveal(), options.passwords[0].reveal()] == ["<two{other}>", "two"]
    assert "two" not in f"{options!r} {options.password} {options.password!r}"


def test_a_secret_that_was_not_read_cannot_be_revealed() -> None:
    options = of({"password": "{pw}"})
    assert options.password is not None
    with pytest.raises(NotYet, match="expected nobody to need the secret 'pw' before the first call"):
        options.password.reveal()


@pytest.mark.parametrize("text", ["literal", "{other}", "", 7])
def test_a_secret_without_a_place_is_refused(text: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        of({"password": text})


def test_a_path_is_relative_to_the_file_of_the_configuration(tmp_path: Path) -> None:
    assert of({"state": "a/b"}, directory=tmp_path).state == tmp_path / "a/b"
    assert of({"state": "/a"}, directory=tmp_path).state == Path("/a")
    assert of({"state": "~/a"}, directory=tmp_path).state == Path.home() / "a"
    for wrong in ("", "a\0b", 7):
        with pytest.raises(msgspec.ValidationError, match="Expected a path"):
            of({"state": wrong})


def test_options_survive_being_written_down() -> None:
    options = of({"password": "{pw}", "state": "/a", "since": date(2026, 1, 2)})
    table = as_table(options)
    assert table == {"host": "h", "password": "{pw}", "state": "/a", "since": "2026-01-02", "passwords": []}
    assert as_table(of(table)) == table


def test_a_type_that_no_file_can_hold_is_refused() -> None:
    class Odd(msgspec.Struct):
        thing: frozenset[complex]

    with pytest.raises(NotImplementedError, match="options of the type complex are not supported"):
        converted(Odd, {"thing": ["1"]}, secrets={})
