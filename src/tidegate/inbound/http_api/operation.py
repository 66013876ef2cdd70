"""What a route says of itself: who may call it, and what the OpenAPI document tells of it.

Routes carry their operation in Litestar's `opt`, so the guard and the document read the same declaration.
"""

from typing import Any, cast

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from tidegate.core.grant import Role
from tidegate.inbound.http_api.body import check_encoding
from tidegate.inbound.http_api.services import SERVICES, Services
from tidegate.runtime.access import Request
from tidegate.runtime.admission import Transport

ASKED = "tidegate.request"
"""Where the door leaves the `tidegate.runtime.access.Request` in the scope's state."""

OPERATION = "operation"


class Content(msgspec.Struct, frozen=True):
    """An answer or a body: what it is, its type (None: no schema describes it) and its media type."""

    description: str
    type: Any = None
    media_type: str = "application/json"


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter, as text. `schema` adds to its JSON schema."""

    name: str
    place: str
    description: str
    schema: dict[str, Any] = {}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One route.

    `role` is what a token must have, None where none is asked for. `answers` are by status; `refusals` says what
    leads to a problem, by status, beyond what every route of its kind has. `unrestricted`: the token must cover
    everything, since what the route tells cannot be cut down to less. `path` replaces Litestar's path in the
    document. `transport` is what a request for it counts as; a stream's token may come in the query.
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
    """The `opt` of a route."""
    return {OPERATION: operation}


async def authorize(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Litestar's guard: raises `AccessRefused` unless the caller is let in to the route.

    It never waits; a guard that is no coroutine would be run in a thread.
    """
    operation: Operation | None = handler.opt.get(OPERATION)
    if operation is None or operation.role is None:
        return
    admissions = cast("Services", connection.app.state[SERVICES]).admissions
    asked: Request = connection.scope["state"][ASKED]
    admission = admissions.admit(
        asked,
        operation.role,
        operation.transport,
        query=connection.scope["query_string"].decode("latin-1"),
        is_unrestricted=operation.unrestricted,
    )
    if connection.scope.get("method") == "POST":
        check_encoding(asked.headers)
    connection.scope["auth"] = admission
