"""Every refusal as problem details (RFC 9457), whatever raised it."""

import http
from collections.abc import Collection, Mapping
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.types import ExceptionHandlersMap

from tidegate.core.problem import MEDIA_TYPE, problem
from tidegate.errors import AccessRefused, PublishError, UnknownName

AnyRequest = Request[Any, Any, Any]

log = structlog.get_logger("tidegate.http")


def answer_with(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """The problem as a response."""
    return Response(problem(status, detail), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def allow(methods: Collection[str]) -> str:
    """The Allow field of a path that has routes for `methods`."""
    return ", ".join(sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])}))


def _access_refused(_: AnyRequest, refused: AccessRefused) -> Response[bytes]:
    """Host, origin, token, role, room or query."""
    headers = {}
    if refused.retry_after_s is not None:
        headers["Retry-After"] = str(refused.retry_after_s)
    if refused.status == http.HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if refused.status == http.HTTPStatus.UPGRADE_REQUIRED:
        headers["Upgrade"] = "websocket"
    return answer_with(refused.status, str(refused), headers)


def _publish_error(_: AnyRequest, error: PublishError) -> Response[bytes]:
    return answer_with(error.status, str(error))


def _unknown_name(_: AnyRequest, error: UnknownName) -> Response[bytes]:
    return answer_with(404, str(error))


def _no_such_path(request: AnyRequest, _: NotFoundException) -> Response[bytes]:
    return answer_with(404, f"expected a path that openapi.json lists, got {request.scope['path'][:255]!r}")


def _no_such_method(request: AnyRequest, error: MethodNotAllowedException) -> Response[bytes]:
    listed = allow({*(error.headers or {})["allow"].split(", ")})
    return answer_with(405, f"expected the method {listed}, got {request.method[:32]}", {"Allow": listed})


def _litestar(_: AnyRequest, error: HTTPException) -> Response[bytes]:
    return answer_with(error.status_code, error.detail, error.headers)


def _unforeseen(request: AnyRequest, error: Exception) -> Response[bytes]:
    log.error("a request failed", method=request.method, path=request.scope["path"], exc_info=error)
    return answer_with(500, "the request failed for a reason that only the server's log tells")


HANDLERS: ExceptionHandlersMap = {
    AccessRefused: _access_refused,
    PublishError: _publish_error,
    UnknownName: _unknown_name,
    NotFoundException: _no_such_path,
    MethodNotAllowedException: _no_such_method,
    HTTPException: _litestar,
    Exception: _unforeseen,
}
