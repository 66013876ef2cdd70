"""Every refusal as problem details (RFC 9457), whatever raised it."""

import http
from collections.abc import Collection
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.response.base import ASGIResponse
from litestar.types import ExceptionHandlersMap

from tidegate.core.problem import MEDIA_TYPE, problem
from tidegate.errors import AccessRefused, PublishError, UnknownName

log = structlog.get_logger("tidegate.http")


class Refusal(msgspec.Struct, frozen=True):
    """A problem and the header fields that go with it."""

    status: int
    detail: str
    headers: dict[str, str] = {}

    def answer(self) -> ASGIResponse:
        """As an ASGI application."""
        body = problem(self.status, self.detail)
        return ASGIResponse(body=body, status_code=self.status, media_type=MEDIA_TYPE, headers=self.headers)


def refusal_for(error: Exception, *, method: str, path: str) -> Refusal:
    """The answer to a request that `error` ended. What nobody foresaw is logged."""
    match error:
        case AccessRefused():
            return Refusal(error.status, str(error), _access_headers(error))
        case PublishError():
            return Refusal(error.status, str(error), _publish_headers(error))
        case UnknownName():
            return Refusal(404, str(error))
        case NotFoundException():
            return Refusal(404, f"expected a path that openapi.json lists, got {path[:255]!r}")
        case MethodNotAllowedException():
            listed = allow({*(error.headers or {})["allow"].split(", ")})
            return Refusal(405, f"expected the method {listed}, got {method[:32]}", {"Allow": listed})
        case HTTPException():
            return Refusal(error.status_code, error.detail, {**(error.headers or {})})
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
    body = problem(refusal.status, refusal.detail)
    return Response(body, status_code=refusal.status, media_type=MEDIA_TYPE, headers=refusal.headers)


HANDLERS: ExceptionHandlersMap = {Exception: _handle}
