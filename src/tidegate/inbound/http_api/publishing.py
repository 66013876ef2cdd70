"""Publishing. It is the only route that is called for every event, so it bypasses the router.

With Litestar's router and handlers, a publish would take more than half as long again.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec

from tidegate.core.access.grant import Role
from tidegate.core.events import Draft, Position
from tidegate.inbound.http_api import answers
from tidegate.inbound.http_api.body import check_encoding, parse_publications, receive_body
from tidegate.inbound.http_api.operation import REQUEST
from tidegate.inbound.http_api.refusals import refuse
from tidegate.inbound.http_api.services import ApiOptions
from tidegate.runtime.access import Request
from tidegate.runtime.admission import Admissions
from tidegate.runtime.gateway import Gateway

PATH = "/api/v1/events"

Answered = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, header fields and body of an answer."""


class PublishEndpoint:
    """Publishes the events in a request. An ASGI application, with `begin` as its fast path."""

    def __init__(self, gateway: Gateway, admissions: Admissions, options: ApiOptions) -> None:
        self._publishers = gateway.publishers
        self._admissions = admissions
        self._options = options

    def begin(self, request: Request, body: bytes) -> Position | Coroutine[None, None, Position] | None:
        """Publish the events in `body`, the whole body of `request`.

        Returns the position of the last event, or a coroutine for it. Returns None, and has done nothing, if there are
        so many events that the caller must yield in between. Raises the error that refuses the request.
        """
        if len(body) > self._options.publish_bytes:
            return None
        admission = self._admissions.admit(request, Role.PUBLISHER)
        check_encoding(request.headers)
        pieces = iter(parse_publications(body, check_count=self._publishers.check_count))
        drafts = next(pieces, [])
        return None if next(pieces, None) else self._publishers.start_publish(drafts, admission.grant)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        request = scope["state"][REQUEST]
        try:
            admission = self._admissions.admit(request, Role.PUBLISHER)
            body = await receive_body(
                receive, request.headers, limit_bytes=self._options.publish_bytes, within_s=self._options.body_s
            )
            drafts: list[Draft] = []
            for some in parse_publications(body, check_count=self._publishers.check_count):
                if drafts:
                    await asyncio.sleep(0)
                drafts += some
            if not self._admissions.is_current(admission):  # the body may take long
                admission = self._admissions.admit(request, Role.PUBLISHER)
            begun = self._publishers.start_publish(drafts, admission.grant)
            position = begun if isinstance(begun, Position) else await begun
        except Exception as error:  # noqa: BLE001 - every error becomes an answer
            await refuse(error, scope, receive, send)
        else:
            status, headers, body = published(position)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})


def published(position: Position) -> Answered:
    """Return the answer to a publish. Not one of Litestar's responses: making one takes as long as publishing."""
    return json_answer(202, answers.published(position))


def json_answer(status: int, content: msgspec.Struct) -> Answered:
    """Return an answer with `content` as its JSON body."""
    body = msgspec.json.encode(content)
    return status, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))], body
