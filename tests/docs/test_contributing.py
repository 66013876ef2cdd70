"""`CONTRIBUTING.md` names files that are there, and its examples begin from lines that are in them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

PARTS = re.findall(r"^\+\+\+ (\S+)\n(.*?)(?=^\+\+\+|^```)", PAGE, flags=re.MULTILINE | re.DOTALL)
"""What the examples change: a file, and its lines with ``+``, ``-`` or a blank in front."""


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"`((?:src|tests|docs|tools|bench)/[\w./-]+)`", PAGE))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(("file", "change"), PARTS, ids=[file for file, _ in PARTS])
def test_an_example_begins_from_what_is_there(file: str, change: str) -> None:
    begun = [line[1:] for line in change.splitlines() if line[:1] in {" ", "-"} and line.strip()]
    if not (ROOT / file).exists():
        assert begun == [], "a new file has no old lines"
        return
    text = (ROOT / file).read_text(encoding="utf-8").splitlines()
    assert [line for line in begun if line not in text] == []
