"""What every request passes before it is routed, and every answer after it: host, origin, prefix, CORS, HEAD."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from litestar.response.base import ASGIResponse

from tidegate.errors import AccessRefused, RefusalReason
from tidegate.inbound.http_api.at_once import QuickRoutes
from tidegate.inbound.http_api.common_fields import with_common
from tidegate.inbound.http_api.operation import ASKED
from tidegate.inbound.http_api.publishing import PATH as PUBLISH_PATH
from tidegate.inbound.http_api.refusals import REASON, refuse
from tidegate.inbound.http_api.services import ASGIApp
from tidegate.runtime.access import LOCAL_ADDRESS, Request
from tidegate.runtime.admission import Admissions, Transport

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID",
    "Access-Control-Max-Age": "600",
}

PROBES = frozenset({"/healthz", "/readyz"})
"""Asked by whoever knows no name of ours, such as a kubelet: their answers tell nothing that rebinding is for."""

STREAMS: Mapping[tuple[str, str], Transport] = {
    ("GET", "/api/v1/events"): "sse",
    ("GET", "/ws"): "websocket",
    ("GET", "/ws/"): "websocket",
}
"""What counts as another transport than plain HTTP when it is refused."""

log = structlog.get_logger("tidegate.http")


class Door:
    """An ASGI application in front of `inside` and of `publish`, which needs no router to be found.

    `at_once` answers some requests without it. Each request that is not let in is noted with `admissions`. `root_path`
    is the prefix of a proxy, "" without one.
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
        local_address = scope["state"][LOCAL_ADDRESS]
        asked = Request.read(peer, scope["scheme"], scope["headers"], local_address=local_address)
        inner = self._inner_scope(scope, asked)
        reply = _Reply(
            send,
            is_head=scope["method"] == "HEAD",
            state=inner["state"],
            refused=lambda reason: self._count(reason, inner, asked),
        )
        try:
            self._admissions.arrive(asked, at_any_host=inner["path"] in PROBES)
        except AccessRefused as refused:
            await refuse(refused, inner, receive, reply)
        else:
            reply.allowed_origin = asked.headers.get("origin")
            await self._route(scope, inner)(inner, receive, reply)
        log.debug(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=reply.status,
            elapsed_s=round(asyncio.get_running_loop().time() - began, 4),
        )

    def _route(self, scope: dict[str, Any], inner: dict[str, Any]) -> ASGIApp:
        if inner["path"] == PUBLISH_PATH and inner["method"] == "POST":
            return self._publish
        if scope["method"] == "OPTIONS" and "access-control-request-method" in inner["state"][ASKED].headers:
            return ASGIResponse(status_code=204, headers=PREFLIGHT)
        if self._root_path and scope["path"] == self._root_path:
            # The page's relative addresses need the slash.
            return ASGIResponse(status_code=308, headers={"Location": f"{self._root_path}/"})
        return self._inside

    def _count(self, reason: RefusalReason, inner: dict[str, Any], asked: Request) -> None:
        self._admissions.note_refused(asked, STREAMS.get((inner["method"], inner["path"]), "http"), reason)

    def _inner_scope(self, scope: dict[str, Any], asked: Request) -> dict[str, Any]:
        path = scope["path"]
        if path.startswith(f"{self._root_path}/"):
            path = path[len(self._root_path) :]
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        # Litestar would judge the host once more, by rules of its own.
        headers = [field for field in scope["headers"] if field[0] != b"host"]
        state = {**scope["state"], ASKED: asked}
        return {**scope, "method": method, "path": path, "headers": headers, "state": state}


class _Reply:
    """The server's `send`, with the headers that every answer has, and without a body where HEAD was asked.

    `refused` is called before an answer begins for which the request's `state` has a reason of refusal.
    """

    def __init__(
        self, send: Any, *, is_head: bool, state: Mapping[str, Any], refused: Callable[[RefusalReason], None]
    ) -> None:
        self._send = send
        self._is_head = is_head
        self._state = state
        self._refused = refused
        self._ended = False
        self.status = 0
        self.allowed_origin: str | None = None

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if (reason := self._state.get(REASON)) is not None:
                self._refused(reason)
            headers = with_common([*message["headers"]], allowed_origin=self.allowed_origin)
            message = {**message, "headers": headers}
        elif self._is_head:
            if self._ended:
                return
            self._ended = True
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)
