"""The query of a stream request, WebSocket or SSE: ``types``, ``since`` and ``token``. Others are ignored."""

from urllib.parse import parse_qs

import msgspec

from tidegate.core.events import Position
from tidegate.core.topics import PatternSet
from tidegate.errors import AccessRefused, PositionError, TopicError

MAX_PARAMETERS = 64

REMEMBERED = 512
REMEMBERED_CHARACTERS = 256
"""How many queries are read only once, since most clients ask for the same, and how long they are at the most."""


class StreamQuery(msgspec.Struct, frozen=True):
    """`types` is None where the parameter is absent, which asks for the defaults; empty asks for nothing."""

    types: PatternSet | None = None
    since: Position | None = None
    token: str | None = None


def parse_stream_query(query: str) -> StreamQuery:
    """Read a query string. Raises `AccessRefused` (400) for one that is malformed, saying which part."""
    found = _remembered.get(query)
    if found is None:
        found = _read(query)
        if found.token is None and len(query) <= REMEMBERED_CHARACTERS:
            if len(_remembered) >= REMEMBERED:
                _remembered.clear()
            _remembered[query] = found
    return found


def parse_since(text: str) -> Position:
    """Read ``EPOCH:SEQ``. Raises `AccessRefused` (400)."""
    try:
        return Position.parse(text)
    except PositionError as error:
        raise AccessRefused(400, f"since: {error}") from error


def _read(query: str) -> StreamQuery:
    if not query.isascii():
        raise AccessRefused(400, "expected a query in ASCII, other characters percent-encoded in UTF-8")
    try:
        fields = parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise AccessRefused(
            400, f"expected a query of at most {MAX_PARAMETERS} parameters in UTF-8: {error}"
        ) from error
    return StreamQuery(
        types=_types(fields["types"]) if "types" in fields else None,
        since=parse_since(fields["since"][-1]) if fields.get("since", [""])[-1] else None,
        token=fields.get("token", [None])[-1],
    )


_remembered: dict[str, StreamQuery] = {}
"""None with a token: what is secret is kept nowhere."""


def _types(values: list[str]) -> PatternSet:
    try:
        return PatternSet.parse(text for value in values for text in value.split(",") if text)
    except TopicError as error:
        raise AccessRefused(400, f"types: {error}") from error
