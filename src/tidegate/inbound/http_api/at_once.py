"""The fast path for publishes and probes: answers them without a router, a task or an ASGI scope.

It can only be used if the whole request has arrived. Otherwise the application answers it, with the same rules and the
same result.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tidegate.core.events import Position
from tidegate.core.problem import MEDIA_TYPE
from tidegate.inbound.http_api.common_fields import with_common
from tidegate.inbound.http_api.probes import health, readiness
from tidegate.inbound.http_api.publishing import PATH, Answered, PublishEndpoint, published
from tidegate.inbound.http_api.refusals import answer_to
from tidegate.inbound.http_api.services import Steering
from tidegate.runtime.access import Request
from tidegate.runtime.admission import Admissions
from tidegate.runtime.gateway import Gateway

log = structlog.get_logger("tidegate.http")


class QuickRoutes:
    """Implements `tidegate.inbound.server.AtOnce`. `root_path` is the path prefix of a proxy, or ""."""

    def __init__(
        self,
        publish: PublishEndpoint,
        gateway: Gateway,
        supervisor: Steering,
        admissions: Admissions,
        *,
        root_path: str,
    ) -> None:
        self._publish = publish
        self._admissions = admissions
        self._answered = gateway.requests.note
        self._debug = log.debug  # looked up once: structlog takes as long to find it as the rest of the answer takes
        probes = {"/healthz": health, "/readyz": lambda: readiness(supervisor, gateway)}
        self._probes: dict[bytes, Callable[[], Answered]] = {}
        self._publishing: set[bytes] = set()
        self._routes: dict[bytes, str] = {}
        for prefix in {"", root_path}:
            self._publishing.add(f"{prefix}{PATH}".encode())
            self._probes.update({f"{prefix}{path}".encode(): probe for path, probe in probes.items()})
            self._routes.update({f"{prefix}{path}".encode(): path for path in (PATH, *probes)})

    def wants(self, method: str, path: bytes) -> bool:
        """Whether a request is a publish or a probe."""
        return path in self._publishing if method == "POST" else method == "GET" and path in self._probes

    def answer(self, request: Request, method: str, path: bytes, body: bytes) -> Answered | Awaitable[Answered] | None:
        """Answer a whole request. Returns the answer, or an awaitable for it.

        Returns None, and has done nothing, if the request is too large to be handled in one step.
        """
        began = asyncio.get_running_loop().time()
        origin, probe = None, self._probes.get(path)
        try:
            self._admissions.arrive(request, at_any_host=probe is not None)
            origin = request.headers.get("origin")  # only now: a page of a refused origin must not read the answer
            if probe is not None:
                answered = probe()
            else:
                outcome = self._publish.begin(request, body)
                if outcome is None:
                    return None
                if not isinstance(outcome, Position):
                    return self._later(asyncio.ensure_future(outcome), request, origin, began)
                answered = published(outcome)
        except Exception as error:  # noqa: BLE001 - every error becomes an answer
            answered = self._refused(error, request, method, path)
        return self._finished(answered, request, method, path, origin, began)

    async def _later(
        self, outcome: asyncio.Future[Position], request: Request, origin: str | None, began: float
    ) -> Answered:
        try:
            answered = published(await asyncio.shield(outcome))  # the publish goes on if the client leaves
        except Exception as error:  # noqa: BLE001 - every error is answered
            answered = self._refused(error, request, "POST", PATH.encode())
        return self._finished(answered, request, "POST", PATH.encode(), origin, began)

    def _refused(self, error: Exception, request: Request, method: str, path: bytes) -> Answered:
        answer = answer_to(error, method=method, path=path.decode("ascii"), request_id=request.id)
        self._admissions.note_refused(request, "http", answer.reason)
        body = answer.body(request.id)
        fields = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **answer.fields}
        return answer.status, [(name.encode(), value.encode("latin-1")) for name, value in fields.items()], body

    def _finished(
        self, answered: Answered, request: Request, method: str, path: bytes, origin: str | None, began: float
    ) -> Answered:
        status, fields, body = answered
        elapsed_s = round(asyncio.get_running_loop().time() - began, 4)
        self._answered(self._routes[path], status)
        self._debug(
            "request",
            method=method,
            path=path.decode("ascii"),
            status=status,
            request_id=request.id,
            elapsed_s=elapsed_s,
        )
        return status, with_common(fields, allowed_origin=origin), body
