"""Turns errors into answers, including Litestar's own errors."""

import http
from collections.abc import Collection
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.response.base import ASGIResponse
from litestar.types import ExceptionHandlersMap

from tidegate.core.problem import MEDIA_TYPE, UNFORESEEN, ProblemAnswer, refusal
from tidegate.errors import (
    AccessRefused,
    ConfigError,
    NothingToReload,
    PublishError,
    RefusalReason,
    ReloadUnderWay,
    UnknownName,
)

REASON = "tidegate.refusal_reason"
"""The key in the scope's state for the reason of a refusal. It is set before the answer is sent."""

log = structlog.get_logger("tidegate.http")


def answer_to(error: Exception, *, method: str, path: str) -> ProblemAnswer:
    """Return the answer to a request that `error` ended. Logs an unexpected error."""
    match error:
        case AccessRefused() | PublishError() | UnknownName() | ConfigError() | ReloadUnderWay() | NothingToReload():
            return refusal(error)
        case NotFoundException():
            return ProblemAnswer(404, f"expected a path that openapi.json lists, got {path[:255]!r}")
        case MethodNotAllowedException():
            listed = allow({*(error.headers or {})["allow"].split(", ")})
            return ProblemAnswer(405, f"expected the method {listed}, got {method[:32]}", {"Allow": listed})
        case HTTPException():
            reason = RefusalReason.MALFORMED if error.status_code == http.HTTPStatus.BAD_REQUEST else None
            return ProblemAnswer(error.status_code, error.detail, {**(error.headers or {})}, reason)
    log.error("a request failed", method=method, path=path, exc_info=error)
    return UNFORESEEN


async def refuse(error: Exception, scope: Any, receive: Any, send: Any) -> None:
    """Answer a request that `error` ended outside the router."""
    answer = answer_to(error, method=scope["method"], path=scope["path"])
    scope["state"][REASON] = answer.reason
    response = ASGIResponse(
        body=answer.body, status_code=answer.status, media_type=MEDIA_TYPE, headers=dict(answer.fields)
    )
    await response(scope, receive, send)


def allow(methods: Collection[str]) -> str:
    """Return the Allow field of a path with routes for `methods`."""
    return ", ".join(sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])}))


def _handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    answer = answer_to(error, method=request.method, path=request.scope["path"])
    request.scope["state"][REASON] = answer.reason
    return Response(answer.body, status_code=answer.status, media_type=MEDIA_TYPE, headers=dict(answer.fields))


HANDLERS: ExceptionHandlersMap = {Exception: _handle}
