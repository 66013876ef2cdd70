"""Reads CSV: a list of objects, whose names are in the first line. All values are text.

Whether ``007`` is a number or a name, only its reader knows. Python's csv says how a line is taken apart (RFC 4180, and
what programs make of it). Some write a comment sign before the first name, or a delimiter after the last; the name is
taken as it is, and a column without a name is left out.
"""

import csv
import re
from collections.abc import Generator, Iterator, Sequence

import msgspec

from tidegate.errors import InvalidResponse
from tidegate.outbound.backends.formats.decoding import lines_of
from tidegate.outbound.backends.formats.written import JsonList, JsonObject, Written, encoded, excerpt

ROW_CHARACTERS = 65_536
"""Longest row. In quotes, it may go on over many lines."""

_STEP_CHARACTERS = 16_384
"""About how much is read between two yields."""

_NO_TABLE = re.compile(r"text/html|application/xhtml\+xml|[a-z]+/(?:[^;]*\+)?json", re.IGNORECASE)
"""Content types of pages, and of JSON."""

_NO_NAMES = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<!doctype|<html|\{\s*[\"}]|\[\s*[\[{\]])", re.IGNORECASE)
"""How pages and JSON begin. On one line they would be names without rows, and there would be no items any more."""


def rows(written: Written, delimiter: str) -> Generator[None, None, msgspec.Raw]:
    """Return the rows below the first one, as objects. See `formats.reading`."""
    _check_kind(written)
    lines = _Lines(lines_of(written.body, written.content_type, most_characters=ROW_CHARACTERS + 1))
    reader = csv.reader(lines, delimiter=delimiter)
    names: list[str] | None = None
    found = JsonList(written.limit_bytes)
    read = 0
    while (row := _next(reader)) is not None:
        if row and names is None:
            names = _checked(row)
        elif row and names is not None:
            found.add(_json(names, row, reader.line_num))
        read += lines.take() + len(row)
        if read >= _STEP_CHARACTERS:
            read = 0
            yield
    if names is None:
        raise InvalidResponse("expected CSV with a line of names, got nothing at all")
    return found.json()


def _check_kind(written: Written) -> None:
    """Refuse what says that it is no CSV: a page, or JSON that tells of an error with a status of success."""
    said = _NO_TABLE.match((written.content_type or "").strip())
    if said is not None:
        raise InvalidResponse(f"expected CSV, got something else (Content-Type: {said[0].lower()})")
    if _NO_NAMES.match(written.body):
        raise InvalidResponse(f"expected CSV, got a page or JSON: {excerpt(bytes(written.body[:128]))}")


class _Lines:
    """The lines of one row after another. Counts the characters of the row that is being read."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._characters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._characters += len(line)
        if self._characters > ROW_CHARACTERS:
            raise InvalidResponse(f"expected CSV with rows of at most {ROW_CHARACTERS} characters, got more")
        return line

    def take(self) -> int:
        """Return how many characters the row had. The next one begins."""
        characters, self._characters = self._characters, 0
        return characters


def _next(reader: "Iterator[list[str]]") -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as exc:
        raise InvalidResponse(f"expected CSV, got something else ({exc})") from exc


def _checked(names: list[str]) -> list[str]:
    given = [name for name in names if name]
    if not given:
        raise InvalidResponse("expected CSV with names in the first line, got empty ones")
    seen: set[str] = set()
    for name in given:
        if name in seen:
            raise InvalidResponse(f"expected CSV with a different name for each column, got {excerpt(name)} twice")
        seen.add(name)
    return names


def _json(names: Sequence[str], row: Sequence[str], line: int) -> bytes:
    beyond = row[len(names) :]
    if len(row) < len(names) or any(beyond):
        raise InvalidResponse(f"expected CSV with {len(names)} values in each line, got {len(row)} in line {line}")
    item = JsonObject()
    for name, value in zip(names, row, strict=False):
        if name:
            item.add(name, encoded(value))
    return item.json()
