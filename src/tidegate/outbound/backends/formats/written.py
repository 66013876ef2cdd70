"""What the formats share: what they read, and single values and lists of the JSON that they write.

Knows nothing of how a format is written.
"""

import re

import msgspec

from tidegate.errors import InvalidResponse

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_EXCERPT = 80
_encoder = msgspec.json.Encoder()


class Written(msgspec.Struct, frozen=True):
    """The body of an answer, with its ``Content-Type``. As JSON it may have at most `limit_bytes` bytes."""

    body: bytes | bytearray
    content_type: str | None
    limit_bytes: int


def is_number(text: str) -> bool:
    """Return whether `text` is a number as JSON writes it (RFC 8259 section 6): ``007`` and ``+1`` are none."""
    return _NUMBER.fullmatch(text) is not None


def encoded(value: str | float | dict[str, str] | None) -> bytes:
    """Return `value` as compact JSON."""
    return _encoder.encode(value)


def excerpt(text: str | bytes) -> str:
    """Return the beginning of `text` for a message."""
    return repr(text[:_EXCERPT]) + "…" * (len(text) > _EXCERPT)


class JsonObject:
    """An object that is written member by member."""

    def __init__(self) -> None:
        self._members: list[bytes] = []

    def add(self, name: str, json: bytes) -> None:
        self._members.append(encoded(name) + b":" + json)

    def json(self) -> bytes:
        return b"{" + b",".join(self._members) + b"}"


class JsonList:
    """A list that is written item by item, and has at most `limit_bytes` bytes.

    A few bytes of a table may become very many in JSON, which repeats the name of the column for each value.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._json = bytearray()  # not a list: many short items would take several times their size

    def add(self, item: bytes) -> None:
        """Raises `InvalidResponse` if the list becomes too long."""
        self._json += b"," if self._json else b"["
        self._json += item
        if len(self._json) >= self._limit_bytes:  # the list has yet to be closed
            limit = f"{self._limit_bytes} bytes as JSON (response_bytes)"
            raise InvalidResponse(f"expected an answer of at most {limit}, got more")

    def json(self) -> msgspec.Raw:
        return msgspec.Raw(bytes((self._json or b"[") + b"]"))
