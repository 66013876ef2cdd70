"""Receives request bodies up to a limit, and parses the events in them."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import msgspec
from litestar.types import Receive

from tidegate.core.events import Draft
from tidegate.core.payload import check_utf8, compact, decode, without_bom
from tidegate.core.topics import check_key
from tidegate.errors import AccessRefused, InvalidResponse, PublishError, RefusalReason, TopicError
from tidegate.inbound.http_api.answers import Publication

AT_ONCE = 250
"""How many events of an array are parsed before yielding to the event loop: a few milliseconds of work."""

IDENTITY = frozenset({"", "identity"})

_LIST: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_PUBLICATIONS: msgspec.json.Decoder[Publication | list[Publication]] = msgspec.json.Decoder(
    Publication | list[Publication]
)


def check_encoding(headers: Mapping[str, str]) -> None:
    """Raise `PublishError` (415) for a compressed body, which is not supported."""
    encoding = headers.get("content-encoding")
    if encoding and {coding.strip().lower() for coding in encoding.split(",")} - IDENTITY:
        raise PublishError(f"expected Content-Encoding: identity, or none, got {encoding[:64]!r}", status=415)


async def receive_body(receive: Receive, headers: Mapping[str, str], *, limit_bytes: int, within_s: float) -> bytes:
    """Receive the whole body of a request with `headers`.

    Raises `PublishError`: 415 if the body is compressed, and 413 as soon as it is longer than `limit_bytes`.
    Raises `AccessRefused`: 408 if it has not arrived within `within_s` seconds, and 400 if it ends early.
    """
    check_encoding(headers)
    announced = headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit_bytes:
        raise _too_long(limit_bytes, announced)
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    # Without a reason, so that it is not counted: nobody is there who could be answered.
                    raise AccessRefused(400, "expected a whole body, got the end of the connection")
                body += message["body"]
                if len(body) > limit_bytes:
                    raise _too_long(limit_bytes, "more")
                if not message["more_body"]:
                    return bytes(body)
    except TimeoutError as error:
        late = f"expected the whole body within {within_s:g} s, got {len(body)} bytes"
        raise AccessRefused(408, late, reason=RefusalReason.HEAD_TIMEOUT) from error


def parse_publications(body: bytes, *, check_count: Callable[[int], None]) -> Iterable[list[Draft]]:
    """Parse one event or a list of events. Returns them in pieces, between which the caller should yield.

    Ignores a byte order mark. Calls `check_count` first, which raises if there are too many events. Raises
    `PublishError` (400), at once or while iterating; it says what was expected, and where.
    """
    text = without_bom(body)
    try:
        found = decode(text, _PUBLICATIONS)
    except InvalidResponse as error:
        # If the array is too long, report that, and not the error in one of its events.
        with suppress(InvalidResponse):
            check_count(len(decode(text, _LIST)))
        raise PublishError(_located(text, error), status=400) from error
    if not isinstance(found, list):
        return ([_draft(found, text)],)
    check_count(len(found))
    return ([_draft(one, text) for one in found[at : at + AT_ONCE]] for at in range(0, len(found), AT_ONCE))


def _located(text: bytes, error: InvalidResponse) -> str:
    """Return the message of `error`, with positions counted from the beginning of the whole `text`.

    `error` may be about the data of a single event, and count from there.
    """
    try:
        check_utf8(text)
    except InvalidResponse as whole:
        return str(whole)
    return str(error)


def _draft(publication: Publication, text: bytes) -> Draft:
    """Make a draft of `publication`, which is one of the events in `text`, or the only one."""
    try:
        return Draft(
            type=publication.type,
            data=compact(publication.data),
            key=publication.key if publication.key is None else check_key(publication.key),
            retain=publication.retain,
            ttl_s=publication.ttl_s,
        )
    except InvalidResponse as error:
        raise PublishError(_located(text, error), status=400) from error
    except TopicError as error:
        raise PublishError(str(error), status=400) from error


def _too_long(limit_bytes: int, came: str) -> PublishError:
    return PublishError(
        f"expected a body of at most {limit_bytes} bytes (limits.publish_bytes), got {came}", status=413
    )
