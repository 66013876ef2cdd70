import json

import pytest

from tidegate.printable import printable, printable_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 🙂 \xa0", "plain é 🙂 \xa0"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("\x9b", "\\x9b"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202e\u200f\u2028\ufeff", "\\u202e\\u200f\\u2028\\ufeff"),
        ("\udc9b\U000e0041", "\\udc9b\\U000e0041"),
    ],
)
def test_what_steers_is_shown_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_line_breaks_stay_where_they_are_wanted() -> None:
    assert printable("a\n\x1b\tb", keep="\n\t") == "a\n\\x1b\tb"


def test_json_keeps_its_value_on_one_line() -> None:
    value = {"a\x7f": "\x9b \u202e \U000e0041 é"}
    text = json.dumps(value, indent=1, ensure_ascii=False)
    shown = printable_json(text)
    assert shown.isprintable()
    assert "é" in shown
    assert json.loads(shown) == value
