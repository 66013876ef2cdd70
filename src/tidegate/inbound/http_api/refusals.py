"""Every refusal as problem details (RFC 9457), whatever raised it."""

import http
from collections.abc import Collection
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.response.base import ASGIResponse
from litestar.types import ExceptionHandlersMap, Receive, Scope, Send

from tidegate.core.problem import MEDIA_TYPE, problem
from tidegate.errors import AccessRefused, PublishError, RefusalReason, UnknownName

REASON = "tidegate.refusal_reason"
"""Where a refusal leaves its reason in the scope's state, before its answer is sent."""

PUBLISHING_REASONS = {400: RefusalReason.MALFORMED, 403: RefusalReason.PATTERN, 413: RefusalReason.TOO_LARGE}

log = structlog.get_logger("tidegate.http")


class Refusal(msgspec.Struct, frozen=True):
    """A problem and the header fields that go with it; `reason` is what it is counted under, None where it is not."""

    status: int
    detail: str
    headers: dict[str, str] = {}
    reason: RefusalReason | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application."""
        self.give_reason(scope)
        body = problem(self.status, self.detail)
        answer = ASGIResponse(body=body, status_code=self.status, media_type=MEDIA_TYPE, headers=self.headers)
        await answer(scope, receive, send)

    def give_reason(self, scope: Scope) -> None:
        """Have it counted, if it is to be, when the answer to the request of `scope` is sent."""
        scope["state"][REASON] = self.reason


def refusal_for(error: Exception, *, method: str, path: str) -> Refusal:
    """The answer to a request that `error` ended. What nobody foresaw is logged."""
    match error:
        case AccessRefused():
            return Refusal(error.status, str(error), _access_headers(error), error.reason)
        case PublishError():
            reason = PUBLISHING_REASONS.get(error.status)
            return Refusal(error.status, str(error), _publish_headers(error), reason)
        case UnknownName():
            return Refusal(404, str(error))
        case NotFoundException():
            return Refusal(404, f"expected a path that openapi.json lists, got {path[:255]!r}")
        case MethodNotAllowedException():
            listed = allow({*(error.headers or {})["allow"].split(", ")})
            return Refusal(405, f"expected the method {listed}, got {method[:32]}", {"Allow": listed})
        case HTTPException():
            reason = RefusalReason.MALFORMED if error.status_code == http.HTTPStatus.BAD_REQUEST else None
            return Refusal(error.status_code, error.detail, {**(error.headers or {})}, reason)
    log.error("a request failed", method=method, path=path, exc_info=error)
    return Refusal(500, "the request failed for a reason that only the server's log tells")


def allow(methods: Collection[str]) -> str:
    """The Allow field of a path that has routes for `methods`."""
    return ", ".join(sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])}))


def _access_headers(error: AccessRefused) -> dict[str, str]:
    """Host, origin, token, role, room or query."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == http.HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == http.HTTPStatus.UPGRADE_REQUIRED:
        headers["Upgrade"] = "websocket"
    return headers


def _publish_headers(error: PublishError) -> dict[str, str]:
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == http.HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        headers["Accept-Encoding"] = "identity"
    return headers


def _handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    refusal = refusal_for(error, method=request.method, path=request.scope["path"])
    refusal.give_reason(request.scope)
    body = problem(refusal.status, refusal.detail)
    return Response(body, status_code=refusal.status, media_type=MEDIA_TYPE, headers=refusal.headers)


HANDLERS: ExceptionHandlersMap = {Exception: _handle}
