"""Request bodies: received up to a limit, read as what publishers send."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import msgspec
from litestar.types import Receive

from tidegate.core.events import Draft
from tidegate.core.payload import check_utf8, compact, decode, without_bom
from tidegate.core.topics import check_key
from tidegate.errors import AccessRefused, InvalidResponse, PublishError, TopicError
from tidegate.inbound.http_api.answers import Publication

AT_ONCE = 250
"""Events of an array that are read before others have their turn."""

IDENTITY = frozenset({"", "identity"})

_LIST: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_PUBLICATIONS: msgspec.json.Decoder[Publication | list[Publication]] = msgspec.json.Decoder(
    Publication | list[Publication]
)


def check_encoding(headers: Mapping[str, str]) -> None:
    """Raise `PublishError` (415) for a body that is compressed: nobody here would read it."""
    encoding = headers.get("content-encoding")
    if encoding and {coding.strip().lower() for coding in encoding.split(",")} - IDENTITY:
        raise PublishError(f"expected Content-Encoding: identity, or none, got {encoding[:64]!r}", status=415)


async def receive_body(receive: Receive, headers: Mapping[str, str], *, limit_bytes: int, within_s: float) -> bytes:
    """The whole body of a request with `headers`.

    Raises `PublishError`: 415 for one that is compressed, 413 as soon as it is longer than `limit_bytes`, without
    reading on.
    Raises `AccessRefused`: 408 for one that has not arrived after `within_s` seconds, 400 for one that ends early.
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
                    raise AccessRefused(400, "expected a whole body, got the end of the connection")
                body += message["body"]
                if len(body) > limit_bytes:
                    raise _too_long(limit_bytes, "more")
                if not message["more_body"]:
                    return bytes(body)
    except TimeoutError as error:
        raise AccessRefused(408, f"expected the whole body within {within_s:g} s, got {len(body)} bytes") from error


def parse_publications(body: bytes, *, check_count: Callable[[int], None]) -> Iterable[list[Draft]]:
    """One event, or a list of them, some at a time: between them others should have their turn.

    A byte order mark in front is skipped. `check_count` is asked first whether there may be so many. Raises
    `PublishError` (400), now or on the way, saying where and what was expected.
    """
    text = without_bom(body)
    try:
        found = decode(text, _PUBLICATIONS)
    except InvalidResponse as error:
        # An array that is too long is that first, whatever is in it.
        with suppress(InvalidResponse):
            check_count(len(decode(text, _LIST)))
        raise PublishError(_located(text, error), status=400) from error
    if not isinstance(found, list):
        return ([_draft(found, text)],)
    check_count(len(found))
    return ([_draft(one, text) for one in found[at : at + AT_ONCE]] for at in range(0, len(found), AT_ONCE))


def _located(text: bytes, error: InvalidResponse) -> str:
    """What `error`, which may be about one event's data, says of the whole `text`: places count from its beginning."""
    try:
        check_utf8(text)
    except InvalidResponse as whole:
        return str(whole)
    return str(error)


def _draft(publication: Publication, text: bytes) -> Draft:
    """What `publication`, which is all or one of the events in `text`, asks for."""
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
