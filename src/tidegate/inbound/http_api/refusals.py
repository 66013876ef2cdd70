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
from tidegate.inbound.http_api.operation import REQUEST

REASON = "tidegate.refusal_reason"
"""The key in the scope's state for the reason of a refusal. It is set before the answer is sent."""

log = structlog.get_logger("tidegate.http")


def answer_to(error: Exception, *, method: str, path: str, request_id: str) -> ProblemAnswer:
    """Return the answer to a request that `error` ended. Logs an unexpected error.

    A 404 has no reason, and is not counted as a refusal: the request was answered, there is no such thing.
    """
    match error:
        case AccessRefused() | PublishError() | UnknownName() | ConfigError() | ReloadUnderWay() | NothingToReload():
            return refusal(error)
        case NotFoundException():
            return ProblemAnswer(404, f"expected a path that openapi.json lists, got {path[:255]!r}")
        case MethodNotAllowedException():
            listed = allow({*(error.headers or {})["allow"].split(", ")})
            detail = f"expected the method {listed}, got {method[:32]}"
            return ProblemAnswer(405, detail, {"Allow": listed}, RefusalReason.MALFORMED)
        case HTTPException():
            is_the_clients = http.HTTPStatus.BAD_REQUEST <= error.status_code < http.HTTPStatus.INTERNAL_SERVER_ERROR
            reason = RefusalReason.MALFORMED if is_the_clients else None
            return ProblemAnswer(error.status_code, error.detail, {**(error.headers or {})}, reason)
    log.error("a request failed", method=method, path=path, request_id=request_id, exc_info=error)
    return UNFORESEEN


async def refuse(error: Exception, scope: Any, receive: Any, send: Any) -> None:
    """Answer a request that `error` ended outside the router."""
    answer, body = _answer(error, scope)
    response = ASGIResponse(body=body, status_code=answer.status, media_type=MEDIA_TYPE, headers=dict(answer.fields))
    await response(scope, receive, send)


def allow(methods: Collection[str]) -> str:
    """Return the Allow field of a path with routes for `methods`."""
    return ", ".join(sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])}))


def _handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    answer, body = _answer(error, request.scope)
    return Response(body, status_code=answer.status, media_type=MEDIA_TYPE, headers=dict(answer.fields))


def _answer(error: Exception, scope: Any) -> tuple[ProblemAnswer, bytes]:
    """Return the answer and its body. Sets the reason in the state of `scope`."""
    state = scope["state"]
    answer = answer_to(error, method=scope["method"], path=scope["path"], request_id=state[REQUEST].id)
    state[REASON] = answer.reason
    return answer, answer.body(state[REQUEST].id)


HANDLERS: ExceptionHandlersMap = {Exception: _handle}
