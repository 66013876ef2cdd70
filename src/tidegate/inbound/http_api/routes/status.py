"""Routes for operators: status, circuit breakers and commands for them, clients, and metrics."""

from litestar import Response, get, post
from litestar.params import FromPath
from msgspec import UNSET

from tidegate.core.access.grant import Role
from tidegate.core.instant import rfc3339
from tidegate.core.problem import MEDIA_TYPE, RefusedConfiguration
from tidegate.core.reloads import Reloaded
from tidegate.errors import AccessRefused, NothingToReload, RefusalReason
from tidegate.inbound.http_api import shown
from tidegate.inbound.http_api.operation import Content, Operation, Parameter, documented
from tidegate.inbound.http_api.routes.parameters import BREAKER
from tidegate.inbound.http_api.scraping import OPENMETRICS, TEXT, accepts_gzip, gathered, wants_openmetrics
from tidegate.inbound.http_api.services import ApiRequest, services
from tidegate.runtime.supervisor import COMMANDS


@get(
    "/api/v1/status",
    opt=documented(
        Operation(
            name="status",
            summary="The gateway, its sources and its breakers, as far as the token covers them",
            role=Role.SUBSCRIBER,
            answers={200: Content("The status", shown.Status)},
        )
    ),
)
async def status(request: ApiRequest) -> shown.Status:
    context, allowed = services(request), request.auth.grant.allowed
    gateway = context.gateway
    position, now = gateway.position, gateway.clock.now()
    shows_all = allowed.is_everything
    return shown.Status(
        version=context.options.version,
        epoch=position.epoch,
        seq=position.seq,
        started_at=rfc3339(gateway.started.seen_at(now).wall),
        uptime_s=round(now.mono - gateway.started.mono, 3),
        clients=len(gateway.clients.connections),
        sources=[shown.source_status(view) for view in context.supervisor.sources(allowed)],
        breakers=[shown.breaker_record(view) for view in context.supervisor.breakers(allowed)],
        config=shown.config_status(context.reloads, now) if context.reloads and shows_all else UNSET,
        refusals={reason.value: count for reason, count in gateway.refusals.counts.items()} if shows_all else UNSET,
        resumes=dict(gateway.traffic.resumes) if shows_all else UNSET,
        store=shown.store_status(context.read_store) if shows_all else UNSET,
    )


@get(
    "/api/v1/status/circuit-breaker",
    opt=documented(
        Operation(
            name="breakers",
            summary="All circuit breakers, and the worst of their states",
            role=Role.SUBSCRIBER,
            answers={200: Content("The breakers", shown.Breakers)},
        )
    ),
)
async def breakers(request: ApiRequest) -> shown.Breakers:
    views = services(request).supervisor.breakers(request.auth.grant.allowed)
    return shown.Breakers(shown.worst(views), [shown.breaker_status(view) for view in views])


@get(
    "/api/v1/status/circuit-breaker/{name:path}",
    opt=documented(
        Operation(
            name="breaker",
            summary="One circuit breaker",
            role=Role.SUBSCRIBER,
            answers={200: Content("The breaker", shown.BreakerStatus)},
            refusals={404: "There is no breaker with this name"},
            parameters=(BREAKER,),
        )
    ),
)
async def breaker(request: ApiRequest, name: FromPath[str]) -> shown.BreakerStatus:
    view = services(request).supervisor.breaker(name.removeprefix("/"), request.auth.grant.allowed)
    return shown.breaker_status(view)


@post(
    "/api/v1/circuit-breaker/{command:path}",
    status_code=200,
    opt=documented(
        Operation(
            name="command_breaker",
            summary="Force a breaker open or closed until it is reset; a reset closes it and clears its counts",
            role=Role.ADMIN,
            answers={200: Content("The breaker afterwards", shown.BreakerStatus)},
            refusals={
                403: "The token does not cover every source of the breaker",
                404: "There is no breaker or no action with this name",
            },
            parameters=(
                BREAKER,
                Parameter(
                    name="action",
                    place="path",
                    description="What to do",
                    schema={"enum": list(COMMANDS)},
                ),
            ),
            path="/api/v1/circuit-breaker/{name}/{action}",
        )
    ),
)
async def command_breaker(request: ApiRequest, command: FromPath[str]) -> shown.BreakerStatus:
    name, _, action = command.removeprefix("/").rpartition("/")
    grant = request.auth.grant
    by = f"{grant.name} at {request.auth.address}"
    view = await services(request).supervisor.command(name, action, by=by, allowed=grant.allowed)
    return shown.breaker_status(view)


@post(
    "/api/v1/reload",
    status_code=200,
    opt=documented(
        Operation(
            name="reload",
            summary="Read the configuration file again and put it in force, all of it or nothing; there is no body",
            role=Role.ADMIN,
            answers={
                200: Content("What has changed, if anything", Reloaded),
                422: Content("The file has problems: nothing is changed", RefusedConfiguration, MEDIA_TYPE),
            },
            refusals={
                400: "The request has a body",
                403: "The token is limited to some types",
                409: "The configuration is being reloaded already (then there is a `Retry-After`), the gateway is"
                " draining, or it was started without a file",
            },
            unrestricted=True,
        )
    ),
)
async def reload(request: ApiRequest) -> Reloaded:
    context = services(request)
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        message = "expected no body: the gateway reads its own file again, and takes no configuration from a request"
        raise AccessRefused(400, message, reason=RefusalReason.MALFORMED)
    if context.gateway.clients.draining:
        raise AccessRefused(409, "expected a gateway that goes on, got one that is draining")
    if context.reloads is None:
        raise NothingToReload
    return await context.reloads.reload()


@get(
    "/api/v1/clients",
    opt=documented(
        Operation(
            name="clients",
            summary="The connected clients",
            role=Role.ADMIN,
            answers={200: Content("The clients, oldest first", shown.Clients)},
            refusals={403: "The token lacks the role, or is limited to some types"},
            unrestricted=True,
        )
    ),
)
async def clients(request: ApiRequest) -> shown.Clients:
    gateway = services(request).gateway
    now = gateway.clock.now()
    return shown.Clients([shown.client(connection, now) for connection in gateway.clients.connections])


@get(
    "/metrics",
    opt=documented(
        Operation(
            name="metrics",
            summary="Metrics that the token covers, in Prometheus' text format or as OpenMetrics",
            role=Role.SUBSCRIBER,
            answers={200: Content("The metrics", media_type="text/plain")},
        )
    ),
)
async def metrics(request: ApiRequest) -> Response[bytes]:
    context = services(request)
    coverage = context.supervisor.coverage(request.auth.grant.allowed)
    openmetrics = wants_openmetrics(request.headers.get("accept", ""))
    gzip = accepts_gzip(request.headers.get("accept-encoding", ""))
    headers = {"Content-Type": OPENMETRICS if openmetrics else TEXT, "Vary": "Accept, Accept-Encoding"}
    body = await gathered(context.render_metrics(coverage, openmetrics=openmetrics), gzip=gzip)
    return Response(body, headers=headers | ({"Content-Encoding": "gzip"} if gzip else {}))
