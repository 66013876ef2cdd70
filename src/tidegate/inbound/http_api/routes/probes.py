"""Health, readiness, and what the client may do. These routes need no token, and accept an invalid one."""

from litestar import Response, get

from tidegate.core.access.grant import Grant
from tidegate.core.instant import rfc3339
from tidegate.errors import AccessRefused
from tidegate.inbound.http_api import answers
from tidegate.inbound.http_api.operation import REQUEST, Content, Operation, documented
from tidegate.inbound.http_api.probes import readiness_content
from tidegate.inbound.http_api.services import ApiRequest, services
from tidegate.runtime.gateway import Gateway


@get(
    "/healthz",
    opt=documented(
        Operation(
            name="health",
            summary="Whether the process answers requests",
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
                503: Content("Starting, stalled or draining", answers.NotReady),
            },
        )
    ),
)
async def readiness(request: ApiRequest) -> Response[answers.Ready | answers.NotReady]:
    context = services(request)
    status, content, fields = readiness_content(context.supervisor, context.gateway)
    return Response(content, status_code=status, headers=fields)


@get(
    "/api/v1/session",
    opt=documented(
        Operation(
            name="session",
            summary="What the client may do, and whether a stream would be admitted now; an invalid token is accepted",
            answers={200: Content("Always, if host and origin are allowed", answers.Session)},
        )
    ),
)
async def session(request: ApiRequest) -> answers.Session:
    context = services(request)
    grant, waits = _introduced(request)
    roles, types, expires_at = answers.what_is_granted(grant)
    return answers.Session(
        version=context.options.version,
        auth=context.options.auth,
        authenticated=None if waits else grant is not None,
        roles=roles,
        types=types,
        expires_at=expires_at,
        status=context.supervisor.readiness().status,
        retry_after_s=max(waits, _room_after_s(context.gateway)) or None,
        now=rfc3339(context.gateway.clock.now().wall),
    )


def _introduced(request: ApiRequest) -> tuple[Grant | None, int]:
    """Return the client's grant, None without a valid token, and after how many seconds to retry; 0: no need to."""
    try:
        return services(request).admissions.identify(request.scope["state"][REQUEST]), 0
    except AccessRefused as refused:
        return None, refused.retry_after_s or 0


def _room_after_s(gateway: Gateway) -> int:
    """Return after how many seconds a stream may be admitted; 0: now."""
    try:
        gateway.clients.check_room()
    except AccessRefused as refused:
        return refused.retry_after_s or 0
    return 0
