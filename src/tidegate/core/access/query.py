"""Parses the query of a stream request, over WebSocket or SSE. Unknown parameters are ignored."""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

import msgspec

from tidegate.core.envelope import PROTOCOL_VERSION
from tidegate.core.events import NOT_OURS, Position
from tidegate.core.topics import PatternSet
from tidegate.errors import AccessRefused, PositionError, RefusalReason, TopicError

MAX_PARAMETERS = 64
"""How many parameters a query may have. Far more than there are, but few enough to parse quickly."""

CACHED = 512
CACHED_CHARACTERS = 256
"""How many parsed queries are cached, and how long their texts may be. Most clients send one of a few short queries."""


class StreamQuery(msgspec.Struct, frozen=True):
    """A parsed query. `types` is None if the parameter is absent: the default types. An empty set means no types."""

    types: PatternSet | None = None
    since: Position | None = None
    token: str | None = None


class _ParsedQuery(msgspec.Struct, frozen=True):
    """A parsed query, before the rules of WebSocket or SSE are applied.

    `wrong_since` says what is wrong with ``since``; "" if nothing is. It is no error yet, because an event stream that
    has another position ignores ``since``.
    """

    query: StreamQuery
    wrong_since: str
    last_event_id: str


def parse_stream_query(query: str) -> StreamQuery:
    """Parse a query string. Raises `AccessRefused` (400), which names the part that is malformed."""
    parsed = _parsed(query)
    if parsed.wrong_since:
        raise _malformed(parsed.wrong_since)
    return parsed.query


def parse_event_stream_query(query: str, last_event_id: str) -> StreamQuery:
    """Parse the query of an event stream. `last_event_id` is its header field Last-Event-ID, "" if absent.

    The position to resume from is that field, or else ``lastEventId``, or else ``since``. Raises the same errors as
    `parse_stream_query`, but not for the first two: `EventSource` sends them, and it would not reconnect after a 400.
    If the one that is used is malformed, the position is `NOT_OURS`.
    """
    parsed = _parsed(query)
    sent = last_event_id or parsed.last_event_id
    if not sent:
        return parse_stream_query(query)
    return StreamQuery(parsed.query.types, _position_or_not_ours(sent), parsed.query.token)


def parse_query_token(query: str) -> str | None:
    """Return the token of a query string, or None. Raises `AccessRefused` (400), but not for a malformed ``since``."""
    return _parsed(query).query.token


def _parsed(query: str) -> _ParsedQuery:
    found = _cache.get(query)
    if found is None:
        found = _parse(query)
        if found.query.token is None and len(query) <= CACHED_CHARACTERS:
            # Empty the whole cache: that is rare, and keeping track of the oldest entry would cost at each connect.
            if len(_cache) >= CACHED:
                _cache.clear()
            _cache[query] = found
    return found


def _parse(query: str) -> _ParsedQuery:
    if not query.isascii():
        raise _malformed("expected a query in ASCII, other characters percent-encoded in UTF-8")
    try:
        fields = parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise _malformed(f"expected a query of at most {MAX_PARAMETERS} parameters in UTF-8: {error}") from error
    _check_protocol(_last(fields, "protocol"))
    since, wrong_since = None, ""
    if text := _last(fields, "since"):
        try:
            since = Position.parse(text)
        except PositionError as error:
            wrong_since = f"since: {error}"
    types = _types(fields["types"]) if "types" in fields else None
    token = fields.get("token", [None])[-1]
    return _ParsedQuery(StreamQuery(types, since, token), wrong_since, _last(fields, "lastEventId"))


_cache: dict[str, _ParsedQuery] = {}
"""Parsed queries by their text. Queries with a token are never kept, so that no secret stays in memory."""


def _last(fields: Mapping[str, Sequence[str]], name: str) -> str:
    return fields.get(name, [""])[-1]


def _check_protocol(text: str) -> None:
    if text not in {"", str(PROTOCOL_VERSION)}:
        raise _malformed(f"protocol: expected {PROTOCOL_VERSION}, the only one that is served, got {text[:80]!r}")


def _position_or_not_ours(text: str) -> Position:
    try:
        return Position.parse(text)
    except PositionError:
        return NOT_OURS


def _types(values: list[str]) -> PatternSet:
    try:
        return PatternSet.parse(text for value in values for text in value.split(",") if text)
    except TopicError as error:
        raise _malformed(f"types: {error}") from error


def _malformed(message: str) -> AccessRefused:
    return AccessRefused(400, message, reason=RefusalReason.MALFORMED)
