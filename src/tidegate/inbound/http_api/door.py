"""The ASGI middleware around the router: checks host and origin, strips the prefix, and handles CORS and HEAD."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from litestar.response.base import ASGIResponse

from tidegate.errors import AccessRefused, RefusalReason
from tidegate.inbound.http_api.at_once import QuickRoutes
from tidegate.inbound.http_api.common_fields import with_common
from tidegate.inbound.http_api.operation import REQUEST
from tidegate.inbound.http_api.pages import DOCUMENTS, SHARED
from tidegate.inbound.http_api.publishing import PATH as PUBLISH_PATH
from tidegate.inbound.http_api.refusals import REASON, refuse
from tidegate.inbound.http_api.services import ASGIApp
from tidegate.runtime.access import LOCAL_ADDRESS, REQUEST_ID, Request
from tidegate.runtime.admission import Admissions, Transport
from tidegate.runtime.request_counts import OTHER_ROUTE

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID, X-Request-ID",
    "Access-Control-Max-Age": "600",
}

PROBES = frozenset({"/healthz", "/readyz"})
"""Paths that are answered for any Host field: a kubelet, for example, does not know the gateway's name.

Their answers contain nothing that would be worth an attack by DNS rebinding.
"""

FILES = "/{file}"
"""How metrics name the routes of all files."""

NAMED = frozenset({*PROBES, "/metrics", "/ws", *DOCUMENTS})
"""The other routes that metrics name by their paths, in addition to those of the API."""

STREAMS: Mapping[tuple[str, str], Transport] = {
    ("GET", "/api/v1/events"): "sse",
    ("GET", "/ws"): "websocket",
    ("GET", "/ws/"): "websocket",
}
"""Refusals of these are counted as refused streams, all others as plain HTTP."""

log = structlog.get_logger("tidegate.http")


def route_named(template: str | None) -> str:
    """Return how metrics name a route: by its path `template`, all files together; None is no route of ours."""
    if template is None:
        return OTHER_ROUTE
    return template if template.startswith("/api/") or template in NAMED else FILES


class Door:
    """An ASGI application in front of `inside`, the router, and of `publish`, which is called without the router.

    The server passes some requests directly to `at_once`. Refused requests are recorded with `admissions`. `root_path`
    is the path prefix of a proxy, or "".
    """

    def __init__(
        self,
        inside: ASGIApp,
        publish: ASGIApp,
        at_once: QuickRoutes,
        *,
        admissions: Admissions,
        root_path: str,
    ) -> None:
        self.at_once = at_once
        self._inside = inside
        self._publish = publish
        self._admissions = admissions
        self._root_path = root_path

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        began = asyncio.get_running_loop().time()
        peer = (scope.get("client") or ("",))[0]
        state = scope["state"]
        request = Request.read(
            peer,
            scope["scheme"],
            scope["headers"],
            local_address=state[LOCAL_ADDRESS],
            request_id=state[REQUEST_ID],
        )
        inner = self._inner_scope(scope, request)
        reply = _Reply(
            send,
            is_head=scope["method"] == "HEAD",
            state=inner["state"],
            began=lambda status, reason: self._count(status, reason, inner, request),
        )
        is_shared = inner["method"] == "GET" and inner["path"] in SHARED
        try:
            self._admissions.arrive(request, at_any_host=inner["path"] in PROBES, from_any_origin=is_shared)
        except AccessRefused as refused:
            await refuse(refused, inner, receive, reply)
        else:
            if not is_shared:  # shared files say themselves who may read them
                # Only now: a refused origin must not read the answer.
                reply.allowed_origin = request.headers.get("origin")
            await self._route(scope, inner)(inner, receive, reply)
        log.debug(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=reply.status,
            request_id=request.id,
            elapsed_s=round(asyncio.get_running_loop().time() - began, 4),
        )

    def _route(self, scope: dict[str, Any], inner: dict[str, Any]) -> ASGIApp:
        if inner["path"] == PUBLISH_PATH and inner["method"] == "POST":
            inner["path_template"] = PUBLISH_PATH
            return self._publish
        if scope["method"] == "OPTIONS" and "access-control-request-method" in inner["state"][REQUEST].headers:
            return ASGIResponse(status_code=204, headers=PREFLIGHT)
        if self._root_path and scope["path"] == self._root_path:
            # Without the slash, the relative URLs of the dashboard would be wrong.
            return ASGIResponse(status_code=308, headers={"Location": f"{self._root_path}/"})
        return self._inside

    def _count(self, status: int, reason: RefusalReason | None, inner: dict[str, Any], request: Request) -> None:
        self._admissions.note_answered(route_named(inner.get("path_template")), status)
        self._admissions.note_refused(request, STREAMS.get((inner["method"], inner["path"]), "http"), reason)

    def _inner_scope(self, scope: dict[str, Any], request: Request) -> dict[str, Any]:
        path = scope["path"]
        if path.startswith(f"{self._root_path}/"):
            path = path[len(self._root_path) :]
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        # Hide the host from Litestar, which would check it again, by its own rules.
        headers = [field for field in scope["headers"] if field[0] != b"host"]
        state = {**scope["state"], REQUEST: request}
        return {**scope, "method": method, "path": path, "headers": headers, "state": state}


class _Reply:
    """Wraps the server's `send`: adds the common headers, and removes the body of an answer to HEAD.

    Calls `began` before an answer starts, with its status, and with the reason if the request is refused, which is in
    its `state`.
    """

    def __init__(
        self,
        send: Any,
        *,
        is_head: bool,
        state: Mapping[str, Any],
        began: Callable[[int, RefusalReason | None], None],
    ) -> None:
        self._send = send
        self._is_head = is_head
        self._state = state
        self._began = began
        self._ended = False
        self.status = 0
        self.allowed_origin: str | None = None

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._began(self.status, self._state.get(REASON))
            headers = with_common([*message["headers"]], allowed_origin=self.allowed_origin)
            message = {**message, "headers": headers}
        elif self._is_head:
            if self._ended:
                return
            self._ended = True
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)
