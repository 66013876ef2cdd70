"""Request bodies: received up to a limit, read as what publishers send."""

import asyncio
from collections.abc import Mapping

import msgspec
from litestar.types import Receive

from tidegate.adapters.http_api.answers import Publication
from tidegate.core.events import Draft
from tidegate.core.payload import check_utf8, compact, decode, without_bom
from tidegate.core.topics import check_key
from tidegate.errors import AccessRefused, InvalidResponse, PublishError, TopicError

_PUBLICATIONS: msgspec.json.Decoder[Publication | list[Publication]] = msgspec.json.Decoder(
    Publication | list[Publication]
)


async def receive_body(receive: Receive, headers: Mapping[str, str], *, limit_bytes: int, within_s: float) -> bytes:
    """The whole body of a request with `headers`.

    Raises `PublishError` (413) as soon as it is longer than `limit_bytes`, without reading on.
    Raises `AccessRefused`: 408 for one that has not arrived after `within_s` seconds, 400 for one that ends early.
    """
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


def parse_publications(body: bytes) -> list[Draft]:
    """One event, or a list of them; a byte order mark in front is skipped.

    Raises `PublishError` (400), saying where and what was expected.
    """
    text = without_bom(body)
    try:
        found = decode(text, _PUBLICATIONS)
        return [_draft(one) for one in (found if isinstance(found, list) else [found])]
    except InvalidResponse as error:
        raise PublishError(_located(text, error), status=400) from error
    except TopicError as error:
        raise PublishError(str(error), status=400) from error


def _located(text: bytes, error: InvalidResponse) -> str:
    """What `error`, which may be about one event's data, says of the whole `text`: places count from its beginning."""
    try:
        check_utf8(text)
    except InvalidResponse as whole:
        return str(whole)
    return str(error)


def _draft(publication: Publication) -> Draft:
    return Draft(
        type=publication.type,
        data=compact(publication.data),
        key=publication.key if publication.key is None else check_key(publication.key),
        retain=publication.retain,
        ttl_s=publication.ttl_s,
    )


def _too_long(limit_bytes: int, came: str) -> PublishError:
    return PublishError(
        f"expected a body of at most {limit_bytes} bytes (limits.publish_bytes), got {came}", status=413
    )
