"""Declarations of routes: who may call them, and how the OpenAPI document describes them.

Routes have their `Operation` in Litestar's `opt`. The guard and the document both read it, so they cannot disagree.
"""

from typing import Any, cast

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from tidegate.core.access.grant import Role
from tidegate.inbound.http_api.body import check_encoding
from tidegate.inbound.http_api.services import SERVICES, Services
from tidegate.runtime.access import Request
from tidegate.runtime.admission import Transport

REQUEST = "tidegate.request"
"""The key in the scope's state under which the door stores the `tidegate.runtime.access.Request`."""

OPERATION = "operation"


class Content(msgspec.Struct, frozen=True):
    """A response or request body: its description, its type (None if it has no schema) and its media type."""

    description: str
    type: Any = None
    media_type: str = "application/json"


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A text parameter. `schema` is added to its JSON schema, and may say that it is a list of texts."""

    name: str
    place: str
    description: str
    schema: dict[str, Any] = {}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One route.

    `role` is what the token must have, None if no token is needed. `answers` are by status; `refusals` describe errors
    by status, in addition to those of every route. If `unrestricted`, the token must cover everything, because the
    answer cannot be limited to some types. `path` replaces Litestar's path in the document. `transport` is how requests
    are counted; the token of a stream may be in the query.
    """

    name: str
    summary: str
    role: Role | None = None
    answers: dict[int, Content]
    refusals: dict[int, str] = {}
    parameters: tuple[Parameter, ...] = ()
    body: Content | None = None
    path: str | None = None
    transport: Transport = "http"
    unrestricted: bool = False


def documented(operation: Operation) -> dict[str, Any]:
    """Make the `opt` of a route."""
    return {OPERATION: operation}


async def authorize(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard for Litestar: raises `AccessRefused` unless the client may call the route.

    It awaits nothing, but is a coroutine, because Litestar runs other guards in a thread.
    """
    operation: Operation | None = handler.opt.get(OPERATION)
    if operation is None or operation.role is None:
        return
    admissions = cast("Services", connection.app.state[SERVICES]).admissions
    request: Request = connection.scope["state"][REQUEST]
    admission = admissions.admit(
        request,
        operation.role,
        operation.transport,
        query=connection.scope["query_string"].decode("latin-1"),
        is_unrestricted=operation.unrestricted,
    )
    if connection.scope.get("method") == "POST":
        check_encoding(request.headers)
    connection.scope["auth"] = admission
