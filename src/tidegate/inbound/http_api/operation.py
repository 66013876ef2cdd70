"""What a route says of itself: who may call it, and what the OpenAPI document tells of it.

Routes carry their operation in Litestar's `opt`, so the guard and the document read the same declaration.
"""

from typing import Any, cast

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from tidegate.core.grant import Role
from tidegate.core.query import parse_query_token
from tidegate.errors import AccessRefused, RefusalReason
from tidegate.inbound.http_api.body import check_encoding
from tidegate.inbound.http_api.services import SERVICES, Services
from tidegate.runtime.access import Request

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
    document. `reads_query_token` is for clients that cannot set headers.
    """

    name: str
    summary: str
    role: Role | None = None
    answers: dict[int, Content]
    refusals: dict[int, str] = {}
    parameters: tuple[Parameter, ...] = ()
    body: Content | None = None
    path: str | None = None
    reads_query_token: bool = False
    unrestricted: bool = False


def documented(operation: Operation) -> dict[str, Any]:
    """The `opt` of a route."""
    return {OPERATION: operation}


async def authorize(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Litestar's guard: raises `AccessRefused` unless the caller has the route's role.

    It never waits; a guard that is no coroutine would be run in a thread.
    """
    operation: Operation | None = handler.opt.get(OPERATION)
    if operation is None or operation.role is None:
        return
    gate = cast("Services", connection.app.state[SERVICES]).gate
    asked: Request = connection.scope["state"][ASKED]
    token = None
    if operation.reads_query_token:
        token = parse_query_token(connection.scope["query_string"].decode("latin-1"))
    admission = gate.authenticate(asked, token, operation.role)
    if operation.unrestricted and not admission.grant.allowed.is_everything:
        raise AccessRefused(
            403,
            "expected a token without types: this cannot be cut down to what it covers",
            reason=RefusalReason.PATTERN,
        )
    if connection.scope.get("method") == "POST":
        check_encoding(asked.headers)
    connection.scope["auth"] = admission
