"""Events: snapshots, publishing, and the streams that carry them."""

from functools import partial
from typing import Annotated

from litestar import delete, get, post
from litestar.params import FromPath, QueryParameter
from litestar.types import ASGIApp

from tidegate.core.access.grant import Role
from tidegate.errors import AccessRefused, RefusalReason
from tidegate.inbound.http_api import answers
from tidegate.inbound.http_api.operation import REQUEST, Content, Operation, Parameter, documented
from tidegate.inbound.http_api.publishing import PATH as PUBLISH_PATH
from tidegate.inbound.http_api.routes.parameters import (
    EVENT_TYPE,
    LAST_EVENT_ID,
    LAST_EVENT_ID_QUERY,
    PROTOCOL,
    SINCE,
    SOURCES,
    SUBPROTOCOL,
    TOKEN,
    TYPES,
)
from tidegate.inbound.http_api.services import ApiRequest, services
from tidegate.inbound.http_api.snapshots import SnapshotAnswer


@get(
    "/api/v1/snapshot",
    opt=documented(
        Operation(
            name="snapshots",
            summary="All retained events that the token covers",
            role=Role.SUBSCRIBER,
            answers={200: Content("The same events as a new subscriber's snapshots", answers.Snapshot)},
        )
    ),
)
async def snapshots(request: ApiRequest) -> ASGIApp:
    return _snapshot(request, None)


@get(
    "/api/v1/snapshot/{event_type:str}",
    opt=documented(
        Operation(
            name="snapshot",
            summary="The retained events of one type; an empty list if the type is known but has no value yet",
            role=Role.SUBSCRIBER,
            answers={200: Content("The same events as a new subscriber's snapshots", answers.Snapshot)},
            refusals={404: "The type was never retained, or the token does not cover it"},
            parameters=(EVENT_TYPE,),
        )
    ),
)
async def snapshot(request: ApiRequest, event_type: FromPath[str]) -> ASGIApp:
    return _snapshot(request, event_type)


@delete(
    "/api/v1/snapshot/{event_type:str}",
    status_code=200,
    opt=documented(
        Operation(
            name="forget",
            summary="Delete a retained value that was published; an event announces this",
            role=Role.PUBLISHER,
            answers={200: Content("The position of that event", answers.Published)},
            refusals={
                400: "Not an event type",
                403: "The type is built in or polled, or the token does not cover it",
                404: "There is no such value",
                429: "More events than the publisher may send now; `Retry-After` says when to retry",
            },
            parameters=(
                EVENT_TYPE,
                Parameter(name="key", place="query", description="The value's key, if the type has keys"),
            ),
        )
    ),
)
async def forget(
    request: ApiRequest, event_type: FromPath[str], value_key: Annotated[str, QueryParameter(name="key")] = ""
) -> answers.Published:
    position = await services(request).gateway.publishers.forget(event_type, value_key, request.auth.grant)
    return answers.published(position)


@post(
    PUBLISH_PATH,
    status_code=202,
    opt=documented(
        Operation(
            name="publish",
            summary="Publish one or more events: all of them or none",
            role=Role.PUBLISHER,
            answers={202: Content("The position of the last one", answers.Published)},
            refusals={
                400: "The body is malformed",
                403: "The type is built in or polled, or the token does not cover it",
                408: "The body did not arrive in time",
                413: "The body, the list, or an event's data is too long",
                415: "The body is compressed",
                429: "More events than the publisher may send now; `Retry-After` says when all of them would be taken",
                507: "More would be retained than `limits.retained_keys` or `limits.retained_bytes` allow",
            },
            body=Content("An event, or a list of events", answers.Publication | list[answers.Publication]),
        )
    ),
)
async def publish(request: ApiRequest) -> ASGIApp:
    return services(request).publish


@get(
    "/api/v1/events",
    opt=documented(
        Operation(
            name="event_stream",
            summary="Follow events as server-sent events, beginning with `welcome`; asyncapi.json describes them",
            role=Role.SUBSCRIBER,
            answers={200: Content("The stream", media_type="text/event-stream")},
            refusals={
                400: "The query is malformed",
                403: "The token does not cover a pattern",
                503: "There are too many clients, or the gateway is draining; `Retry-After` says when to retry",
            },
            parameters=(
                TYPES,
                SINCE,
                TOKEN,
                PROTOCOL,
                LAST_EVENT_ID,
                LAST_EVENT_ID_QUERY,
            ),
            transport="sse",
        )
    ),
)
async def event_stream(request: ApiRequest) -> ASGIApp:
    return services(request).open_stream(request.auth)


@post(
    "/api/v1/backends/{name:str}/poll",
    status_code=202,
    opt=documented(
        Operation(
            name="poll",
            summary="Something changed at a backend: poll its sources now, or those that are named, as far as the token"
            " covers them. While the breaker of one of them is open, its probe goes now, unless the breaker is forced"
            " or the backend asked for a pause: at most once in 10 s per breaker",
            role=Role.PUBLISHER,
            answers={
                202: Content("They are polled now, as far as the breaker permits; else nothing changes", answers.Polled)
            },
            refusals={
                404: "There is no backend with this name and a source that the token covers, or a `source` is not one"
                " of these: then nothing is polled"
            },
            parameters=(Parameter(name="name", place="path", description="A backend's name"), SOURCES),
        )
    ),
)
async def poll(
    request: ApiRequest,
    name: FromPath[str],
    event_types: Annotated[list[str] | None, QueryParameter(name="source")] = None,
) -> answers.Polled:
    await services(request).supervisor.poll(name, request.auth.grant.allowed, only=event_types or ())
    return answers.Polled(name)


@get(
    "/ws",
    opt=documented(
        Operation(
            name="websocket",
            summary="The WebSocket, for the role `subscriber`; asyncapi.json describes what it carries",
            answers={101: Content("From here on, the connection is a WebSocket", media_type="")},
            refusals={
                400: "The query or the handshake is malformed",
                401: "The token is missing or not valid",
                403: "The token lacks the role, or does not cover a pattern",
                426: "The request is not a WebSocket handshake",
                503: "There are too many clients, the gateway is draining, or tokens cannot be checked yet;"
                " `Retry-After` says when to retry",
            },
            parameters=(
                TYPES,
                SINCE,
                TOKEN,
                PROTOCOL,
                SUBPROTOCOL,
            ),
        )
    ),
)
async def websocket() -> None:
    message = "expected a WebSocket handshake (RFC 6455), got a plain request"
    raise AccessRefused(426, message, reason=RefusalReason.MALFORMED)


def _snapshot(request: ApiRequest, event_type: str | None) -> ASGIApp:
    context = services(request)
    return SnapshotAnswer(
        context.gateway.position,
        context.gateway.snapshot_pieces(event_type, allowed=request.auth.grant.allowed),
        transport_of=context.transport_of,
        grace_s=context.gateway.options.send_limits.grace_s,
        is_allowed=partial(context.admissions.still_holds, request.auth, request.scope["state"][REQUEST]),
    )
