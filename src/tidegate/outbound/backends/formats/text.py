"""Reads text that a pattern takes apart: one object, with what the named groups of the pattern matched.

A group that matched a number as JSON writes it is that number, digit for digit. Any other is text, and one that took no
part is null.
"""

import functools
from collections.abc import Generator
from typing import TYPE_CHECKING

import msgspec

from tidegate.errors import InvalidResponse, MappingFailed
from tidegate.outbound.backends.formats.decoding import text_of
from tidegate.outbound.backends.formats.written import JsonObject, Written, encoded, excerpt, is_number
from tidegate.text_pattern import compiled

if TYPE_CHECKING:
    import regex

TEXT_BYTES = 65_536
"""Longest text. Pages that are read in this way have a few kilobytes."""

SEARCH_S = 0.025
"""How long a search may take. Nothing else happens meanwhile. Usually it takes some microseconds."""


def groups(written: Written, pattern: str) -> Generator[None, None, msgspec.Raw]:
    """Return what the named groups of `pattern` matched at the first place where it matches. See `formats.reading`."""
    if len(written.body) > TEXT_BYTES:
        raise InvalidResponse(f"expected text of at most {TEXT_BYTES} bytes, got {len(written.body)}")
    text = text_of(written.body, written.content_type)
    found = _searched(_compiled(pattern), text)
    if found is None:
        raise MappingFailed(
            f"expected text that the pattern matches, got {excerpt(text) if text else 'nothing at all'}"
        )
    answer = JsonObject()
    matched = found.groupdict()
    for name in sorted(matched, key=found.re.groupindex.__getitem__):
        value = matched[name]
        answer.add(name, value.encode() if value is not None and is_number(value) else encoded(value))
    yield from ()
    return msgspec.Raw(answer.json())


_compiled = functools.lru_cache(maxsize=256)(compiled)


def _searched(pattern: "regex.Pattern[str]", text: str) -> "regex.Match[str] | None":
    try:
        return pattern.search(text, timeout=SEARCH_S)
    except TimeoutError:
        raise MappingFailed(
            f"expected a pattern that is found or not found within {SEARCH_S * 1000:.0f} ms, got one that goes back"
            " and forth in the text for longer: let no part of it match what its neighbour can match"
        ) from None
