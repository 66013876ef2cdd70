"""Texts of the configuration with places for secrets, such as ``Bearer {key}``.

A place is the name of a known secret in braces. In a URL the braces may also be percent-encoded. All other text, with
braces too, stands for itself. What is filled in is never searched again: a secret may contain ``{name}``.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from tidegate.secret import MASK

TOKEN = "token"  # noqa: S105 - a name
"""The name of what a login gives, in braces."""

SECRET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""The name of a secret."""

_PLACE = re.compile(rf"(?:\{{|%7B)({SECRET_NAME.pattern})(?:\}}|%7D)", re.IGNORECASE)
_PLACE_IN_BYTES = re.compile(_PLACE.pattern.encode(), re.IGNORECASE)
_SCHEME = re.compile(r"(?:Basic|Bearer|Token|Digest|ApiKey)\s", re.IGNORECASE)
"""The word in front of a credential in a header (RFC 9110 section 11.6.2). It says nothing."""


def names(value: Any) -> Iterator[str]:
    """Yield the names in braces in a text, or in all texts of a JSON value, names of members included."""
    match value:
        case str():
            yield from _PLACE.findall(value)
        case Mapping():
            for name, item in value.items():
                yield from names(name)
                yield from names(item)
        case list() | tuple():
            for item in value:
                yield from names(item)


def filled(text: str, value_of: Callable[[str], str | None]) -> str:
    """Return `text` with each place replaced by the value of its name. Without one (None) it stays as it is."""

    def value(place: re.Match[str]) -> str:
        found = value_of(place[1])
        return place[0] if found is None else found

    return _PLACE.sub(value, text)


def filled_bytes(data: bytes, value_of: Callable[[str], bytes | None]) -> bytes:
    """As `filled`, for text in UTF-8."""

    def value(place: re.Match[bytes]) -> bytes:
        found = value_of(place[1].decode())
        return place[0] if found is None else found

    return _PLACE_IN_BYTES.sub(value, data)


def without_scheme(value: str) -> str:
    """Return the value of a header without the scheme in front of it."""
    return _SCHEME.sub("", value, count=1) if _SCHEME.match(value) else value


def masked(text: str, known: Collection[str]) -> str:
    """Return `text` with everything masked but the places of `known` names, and a scheme such as ``Bearer``."""
    if not any(name in known for name in names(text)):
        return MASK
    scheme = _SCHEME.match(text)
    start = scheme.end() if scheme else 0
    parts, shown = [text[:start]], start
    for place in _PLACE.finditer(text, start):
        if place[1] in known:
            parts += [MASK] * (place.start() > shown) + [f"{{{place[1]}}}"]
            shown = place.end()
    return "".join(parts) + MASK * (len(text) > shown)
