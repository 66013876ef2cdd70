"""Publishing, the one route that is called for every event: an ASGI application of its own, in front of the router.

Found by the router and answered by a handler of Litestar's, a publish would take more than half as long again.
"""

import asyncio
from typing import Any

import msgspec

from tidegate.core.events import Draft, Position
from tidegate.core.grant import Role
from tidegate.inbound.http_api import answers
from tidegate.inbound.http_api.body import parse_publications, receive_body
from tidegate.inbound.http_api.operation import ASKED
from tidegate.inbound.http_api.refusals import refuse
from tidegate.inbound.http_api.services import HttpOptions
from tidegate.runtime.admission import Admissions
from tidegate.runtime.gateway import Gateway

PATH = "/api/v1/events"


class PublishEndpoint:
    """Takes an event or several for whoever may publish."""

    def __init__(self, gateway: Gateway, admissions: Admissions, options: HttpOptions) -> None:
        self._gateway = gateway
        self._admissions = admissions
        self._options = options

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        asked = scope["state"][ASKED]
        try:
            admission = self._admissions.admit(asked, Role.PUBLISHER)
            body = await receive_body(
                receive, asked.headers, limit_bytes=self._options.publish_bytes, within_s=self._options.body_s
            )
            drafts: list[Draft] = []
            for some in parse_publications(body, check_count=self._gateway.check_count):
                if drafts:
                    await asyncio.sleep(0)
                drafts += some
            position = await self._gateway.publish_from_outside(drafts, admission.grant)
        except Exception as error:  # noqa: BLE001 - every error is answered
            await refuse(error, scope, receive, send)
        else:
            await _tell(position, send)


async def _tell(position: Position, send: Any) -> None:
    """Answer with `position`: by hand, for making a response of Litestar's takes as long as publishing the event."""
    body = msgspec.json.encode(answers.published(position))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
