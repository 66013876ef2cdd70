"""The routes. Each declares its operation, asks the services, and answers with a struct."""

import asyncio
from typing import Annotated

from litestar import Response, delete, get, post
from litestar.params import FromPath, QueryParameter
from litestar.types import ASGIApp

from tidegate.core.envelope import PROTOCOL_VERSION
from tidegate.core.grant import Grant, Role
from tidegate.core.instant import rfc3339
from tidegate.errors import AccessRefused, RefusalReason
from tidegate.inbound.http_api import answers
from tidegate.inbound.http_api.operation import ASKED, Content, Operation, Parameter, documented
from tidegate.inbound.http_api.publishing import PATH as PUBLISH_PATH
from tidegate.inbound.http_api.services import ApiRequest, services
from tidegate.inbound.http_api.snapshots import SnapshotAnswer
from tidegate.runtime.gateway import Gateway

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_EVENT_TYPE = Parameter(name="event_type", place="path", description="An event type", schema=answers.EVENT_TYPE_SCHEMA)
_BREAKER = Parameter(
    name="name", place="path", description="A breaker's name; the slash of `backend/type` may be sent as it is"
)
_TYPES = Parameter(
    name="types",
    place="query",
    description="Patterns, separated by commas; absent: the defaults",
    schema=answers.PATTERNS_SCHEMA,
)
_SINCE = Parameter(
    name="since",
    place="query",
    description="The position to resume from, `EPOCH:SEQ`",
    schema=answers.POSITION_SCHEMA,
)
_LAST_EVENT_ID = Parameter(
    name="Last-Event-ID",
    place="header",
    description="The position, as browsers send it: it wins over the query; what is none gets a `gap` and snapshots",
)
_LAST_EVENT_ID_QUERY = Parameter(
    name="lastEventId",
    place="query",
    description="The same, for an `EventSource` that is made anew; it wins over `since`",
)
_PROTOCOL = Parameter(
    name="protocol",
    place="query",
    description="The protocol's number: another one than is served is refused",
    schema={"enum": ["", str(PROTOCOL_VERSION)]},
)
_SUBPROTOCOL = Parameter(
    name="Sec-WebSocket-Protocol",
    place="header",
    description="`tidegate.v1`, and beside it `tidegate.token.` with a token in base64url, where headers cannot be set:"
    " it wins over `token`",
)
_TOKEN = Parameter(name="token", place="query", description="A token, where headers cannot be set; a header wins")


@get(
    "/healthz",
    opt=documented(
        Operation(
            name="health",
            summary="Whether the process serves",
            answers={200: Content("It does", answers.Health)},
        )
    ),
)
async def health() -> answers.Health:
    return answers.Health()


@get(
    "/readyz",
    opt=documented(
        Operation(
            name="readiness",
            summary="Whether the gateway is ready; a dead backend makes it degraded, not unready",
            answers={
                200: Content("Ready or degraded", answers.Ready),
                503: Content("Starting or draining", answers.NotReady),
            },
        )
    ),
)
async def readiness(request: ApiRequest) -> Response[answers.Ready | answers.NotReady]:
    around = services(request)
    found = around.supervisor.readiness()
    match found.status:
        case "ready":
            return Response(answers.Ready("ready"))
        case "degraded":
            return Response(answers.Ready("degraded", found.stale))
        case "starting":
            return Response(answers.NotReady("starting"), status_code=503, headers={"Retry-After": "1"})
        case _:
            retry_after = {"Retry-After": str(around.gateway.drain_left_s)}
            return Response(answers.NotReady("draining"), status_code=503, headers=retry_after)


@get(
    "/api/v1/session",
    opt=documented(
        Operation(
            name="session",
            summary="What the caller may do, and whether a stream would be let in now; a bad token is no refusal here",
            answers={200: Content("Always, where host and origin are allowed", answers.Session)},
        )
    ),
)
async def session(request: ApiRequest) -> answers.Session:
    around = services(request)
    grant, waits = _introduced(request)
    roles, types, expires_at = answers.what_is_granted(grant)
    return answers.Session(
        version=around.options.version,
        auth=around.options.auth,
        authenticated=None if waits else grant is not None,
        roles=roles,
        types=types,
        expires_at=expires_at,
        status=around.supervisor.readiness().status,
        retry_after_s=max(waits, _room_after_s(around.gateway)) or None,
        now=rfc3339(around.gateway.clock.now().wall),
    )


@get(
    "/api/v1/status",
    opt=documented(
        Operation(
            name="status",
            summary="The gateway, its sources and its breakers, as far as the token covers them",
            role=Role.SUBSCRIBER,
            answers={200: Content("The status", answers.Status)},
        )
    ),
)
async def status(request: ApiRequest) -> answers.Status:
    around, allowed = services(request), request.auth.grant.allowed
    gateway = around.gateway
    position, now = gateway.position, gateway.clock.now()
    return answers.Status(
        version=around.options.version,
        epoch=position.epoch,
        seq=position.seq,
        started_at=rfc3339(gateway.started.seen_at(now).wall),
        uptime_s=round(now.mono - gateway.started.mono, 3),
        clients=len(gateway.connections),
        sources=[answers.source_status(view) for view in around.supervisor.sources(allowed)],
        breakers=[answers.breaker_record(view) for view in around.supervisor.breakers(allowed)],
    )


@get(
    "/api/v1/status/circuit-breaker",
    opt=documented(
        Operation(
            name="breakers",
            summary="All circuit breakers, and the worst of their states",
            role=Role.SUBSCRIBER,
            answers={200: Content("The breakers", answers.Breakers)},
        )
    ),
)
async def breakers(request: ApiRequest) -> answers.Breakers:
    views = services(request).supervisor.breakers(request.auth.grant.allowed)
    return answers.Breakers(answers.worst(views), [answers.breaker_status(view) for view in views])


@get(
    "/api/v1/status/circuit-breaker/{name:path}",
    opt=documented(
        Operation(
            name="breaker",
            summary="One circuit breaker",
            role=Role.SUBSCRIBER,
            answers={200: Content("The breaker", answers.BreakerStatus)},
            refusals={404: "There is no breaker of that name"},
            parameters=(_BREAKER,),
        )
    ),
)
async def breaker(request: ApiRequest, name: FromPath[str]) -> answers.BreakerStatus:
    view = services(request).supervisor.breaker(name.removeprefix("/"), request.auth.grant.allowed)
    return answers.breaker_status(view)


@post(
    "/api/v1/circuit-breaker/{command:path}",
    status_code=200,
    opt=documented(
        Operation(
            name="command_breaker",
            summary="Force a breaker open or closed until it is reset; reset closes it and zeroes its counts",
            role=Role.ADMIN,
            answers={200: Content("The breaker afterwards", answers.BreakerStatus)},
            refusals={
                403: "The token does not cover every source of the breaker",
                404: "There is no breaker, or no action, of that name",
            },
            parameters=(
                _BREAKER,
                Parameter(
                    name="action",
                    place="path",
                    description="What to do",
                    schema={"enum": list(answers.Action.__args__)},  # type: ignore[attr-defined]
                ),
            ),
            path="/api/v1/circuit-breaker/{name}/{action}",
        )
    ),
)
async def command_breaker(request: ApiRequest, command: FromPath[str]) -> answers.BreakerStatus:
    name, _, action = command.removeprefix("/").rpartition("/")
    grant = request.auth.grant
    by = f"{grant.name} at {request.auth.address}"
    view = await services(request).supervisor.command(name, action, by=by, allowed=grant.allowed)
    return answers.breaker_status(view)


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
            summary="The retained events of one type; none if it is known and has no value yet",
            role=Role.SUBSCRIBER,
            answers={200: Content("The same events as a new subscriber's snapshots", answers.Snapshot)},
            refusals={404: "The type was never retained, or the token does not cover it"},
            parameters=(_EVENT_TYPE,),
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
            summary="Forget a published retained value; one event says that it is gone",
            role=Role.PUBLISHER,
            answers={200: Content("The position of that event", answers.Published)},
            refusals={
                400: "That is no event type",
                403: "The type is built in or polled, or the token does not cover it",
                404: "There is no such value",
                429: "More events than the publisher may send now; `Retry-After` says when to come back",
            },
            parameters=(
                _EVENT_TYPE,
                Parameter(name="key", place="query", description="The value's key, where the type has keys"),
            ),
        )
    ),
)
async def forget(
    request: ApiRequest, event_type: FromPath[str], value_key: Annotated[str, QueryParameter(name="key")] = ""
) -> answers.Published:
    position = await services(request).gateway.forget(event_type, value_key, request.auth.grant)
    return answers.published(position)


@post(
    PUBLISH_PATH,
    status_code=202,
    opt=documented(
        Operation(
            name="publish",
            summary="Publish one event or several in one go: all of them or none",
            role=Role.PUBLISHER,
            answers={202: Content("The position of the last one", answers.Published)},
            refusals={
                400: "The body is not what it should be",
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
                503: "There is no room, or the gateway drains; `Retry-After` says when to come back",
            },
            parameters=(_TYPES, _SINCE, _TOKEN, _PROTOCOL, _LAST_EVENT_ID, _LAST_EVENT_ID_QUERY),
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
            summary="Something changed at a backend: poll its sources now, as far as the token covers them",
            role=Role.PUBLISHER,
            answers={202: Content("They are polled, its breaker permitting", answers.Polled)},
            refusals={404: "There is no backend of that name with a source that the token covers"},
            parameters=(Parameter(name="name", place="path", description="A backend's name"),),
        )
    ),
)
async def poll(request: ApiRequest, name: FromPath[str]) -> answers.Polled:
    await services(request).supervisor.poll(name, request.auth.grant.allowed)
    return answers.Polled(name)


@get(
    "/api/v1/clients",
    opt=documented(
        Operation(
            name="clients",
            summary="Who is connected",
            role=Role.ADMIN,
            answers={200: Content("The clients, oldest first", answers.Clients)},
            refusals={403: "The token lacks the role, or has types"},
            unrestricted=True,
        )
    ),
)
async def clients(request: ApiRequest) -> answers.Clients:
    gateway = services(request).gateway
    now = gateway.clock.now()
    return answers.Clients([answers.client(connection, now) for connection in gateway.connections])


@get(
    "/metrics",
    opt=documented(
        Operation(
            name="metrics",
            summary="Metrics in Prometheus' text format, of what the token covers",
            role=Role.SUBSCRIBER,
            answers={200: Content("The metrics", media_type="text/plain")},
        )
    ),
)
async def metrics(request: ApiRequest) -> Response[bytes]:
    around = services(request)
    coverage = around.supervisor.coverage(request.auth.grant.allowed)
    text = await asyncio.to_thread(around.render_metrics, coverage)
    return Response(text, headers={"Content-Type": METRICS_MEDIA_TYPE})


@get(
    "/ws",
    opt=documented(
        Operation(
            name="websocket",
            summary="The WebSocket, for the role `subscriber`; asyncapi.json describes what it carries",
            answers={101: Content("The connection is a WebSocket from here on", media_type="")},
            refusals={
                400: "The query or the handshake is malformed",
                401: "The token is missing or not valid",
                403: "The token lacks the role, or does not cover a pattern",
                426: "The request is no WebSocket handshake",
                503: "There is no room, the gateway drains, or nobody can check tokens yet; `Retry-After` says when to"
                " come back",
            },
            parameters=(_TYPES, _SINCE, _TOKEN, _PROTOCOL, _SUBPROTOCOL),
        )
    ),
)
async def websocket() -> None:
    message = "expected a WebSocket handshake (RFC 6455), got a plain request"
    raise AccessRefused(426, message, reason=RefusalReason.MALFORMED)


ROUTES = (
    health,
    readiness,
    session,
    status,
    breakers,
    breaker,
    command_breaker,
    snapshots,
    snapshot,
    forget,
    publish,
    event_stream,
    poll,
    clients,
    metrics,
    websocket,
)


def _introduced(request: ApiRequest) -> tuple[Grant | None, int]:
    """What the caller is granted, None without a valid token, and in how many seconds that can be told; 0: now."""
    try:
        return services(request).admissions.identify(request.scope["state"][ASKED]), 0
    except AccessRefused as refused:
        return None, refused.retry_after_s or 0


def _room_after_s(gateway: Gateway) -> int:
    """In how many seconds a stream may be let in again; 0: now."""
    try:
        gateway.check_room()
    except AccessRefused as refused:
        return refused.retry_after_s or 0
    return 0


def _snapshot(request: ApiRequest, event_type: str | None) -> ASGIApp:
    around = services(request)
    return SnapshotAnswer(
        around.gateway.position,
        around.gateway.snapshot_pieces(event_type, allowed=request.auth.grant.allowed),
        transport_of=around.transport_of,
        grace_s=around.gateway.options.send_limits.grace_s,
    )
