"""Admission: makes all checks of a request, in one fixed order for each transport, and records refusals.

The rules themselves are elsewhere: host, origin and token in `runtime/access.py`, capacity and patterns in the gateway,
the query in `core/access/query.py`. `core/problem.py` turns an `AccessRefused` into an answer. Knows no server and no
route.
"""

from typing import Literal

import msgspec

from tidegate.core.access import subprotocol
from tidegate.core.access.grant import Grant, Role
from tidegate.core.access.query import parse_event_stream_query, parse_query_token, parse_stream_query
from tidegate.core.events import Position
from tidegate.core.topics import PatternSet
from tidegate.errors import AccessRefused, RefusalReason
from tidegate.runtime.access import Gate, Request, bearer_token, presented_token
from tidegate.runtime.authentication import Revision
from tidegate.runtime.clients import NO_TOKEN
from tidegate.runtime.gateway import Gateway
from tidegate.runtime.request_ids import new_id
from tidegate.secret import Secret

Transport = Literal["websocket", "sse", "http"]
"""What a request is for, as metrics and logs name it: a stream over WebSocket or SSE, or a plain HTTP answer."""

NO_PATTERNS = PatternSet()


class Admission(msgspec.Struct, frozen=True):
    """An admitted request: what its client may do, the client's address (as trusted proxies report it), its id.

    `revision` says which tokens were accepted then. The other fields are for streams: the patterns, whether they are
    the default ones, the position to resume from, and the token itself.
    """

    grant: Grant
    address: str
    patterns: PatternSet = NO_PATTERNS
    by_default: bool = False
    since: Position | None = None
    token: Secret = NO_TOKEN
    revision: Revision = (0, 0)
    request_id: str = ""


class Admissions:
    """Admits or refuses requests to one gateway. Call `arrive` first for every request, then `admit` when routed."""

    def __init__(self, gateway: Gateway, gate: Gate) -> None:
        self._gateway = gateway
        self.gate = gate
        """The rules, which may be replaced at any time: what was admitted by those before stays."""

    def arrive(self, request: Request, *, at_any_host: bool = False, from_any_origin: bool = False) -> None:
        """Make the checks that every request needs, whatever its path.

        Raises `AccessRefused`: 421 for a Host that is not allowed, unless `at_any_host`; 403 for an Origin that is not,
        unless `from_any_origin`.
        """
        if not at_any_host:
            self.gate.check_host(request)
        if not from_any_origin:
            self.gate.check_origin(request)

    def admit(
        self,
        request: Request,
        role: Role,
        transport: Transport = "http",
        *,
        query: str = "",
        is_unrestricted: bool = False,
    ) -> Admission:
        """Make the checks that depend on the route. The first check that fails refuses the request.

        `query` is only used for streams. If `is_unrestricted`, the token must cover everything. Raises `AccessRefused`:
        400 for a malformed query or too many patterns, 401 without a valid token, 403 if the token lacks the role or
        does not cover a pattern, 503 if no more clients can be admitted now (too many, or a drain), or if tokens cannot
        be checked.
        """
        match transport:
            case "websocket":
                # Check capacity first: after a restart all clients connect at once, and refusing one must be cheap.
                self._gateway.clients.check_room()
                wanted = parse_stream_query(query)
                token = presented_token(request, _offered_token(request, wanted.token))
                grant = self.gate.grant_of(token, role)
            case "sse":
                # An event stream is an HTTP route: like all of them, it checks the token first.
                token = presented_token(request, parse_query_token(query))
                grant = self.gate.grant_of(token, role)
                wanted = parse_event_stream_query(query, request.headers.get("last-event-id", ""))
                self._gateway.clients.check_room()
            case "http":
                grant = self.gate.authenticate(request, None, role)
                if is_unrestricted and not grant.allowed.is_everything:
                    raise _needs_full_coverage()
                address, revision = self.gate.address(request), self._gateway.authentication.revision
                return Admission(grant, address, revision=revision, request_id=request.id)
        return Admission(
            grant,
            self.gate.address(request),
            self._gateway.clients.patterns_for(wanted.types, grant),
            by_default=wanted.types is None,
            since=wanted.since,
            token=Secret(token) if token else NO_TOKEN,
            revision=self._gateway.authentication.revision,
            request_id=request.id,
        )

    def is_current(self, admission: Admission) -> bool:
        """Whether the same tokens are accepted still. If not, its request must be admitted again before it has effect.

        The registry of clients does that itself for a stream: see `ClientRegistry.connect`.
        """
        return admission.revision == self._gateway.authentication.revision

    def request_id(self, peer: str, sent: bytes | None) -> str:
        """See `Gate.request_id`."""
        return new_id() if sent is None else self.gate.request_id(peer, sent)  # nearly no request has an id

    def still_holds(self, admission: Admission, request: Request) -> bool:
        """Whether `request`, which is answered for long and not for a stream, would be granted as much as before."""
        if self.is_current(admission):
            return True
        try:
            grant = self.admit(request, Role.SUBSCRIBER).grant
        except AccessRefused:
            return False
        return all(map(grant.allowed.covers, admission.grant.allowed.patterns))

    def identify(self, request: Request) -> Grant:
        """Return what the bearer of the request's token may do; no role is needed. Raises `AccessRefused`: 401, 503."""
        return self.gate.identify(request, None)

    def note_answered(self, route: str, status: int) -> None:
        """Count a request to `route`, which is answered with `status`."""
        self._gateway.requests.note(route, status)

    def note_refused(self, request: Request, transport: Transport, reason: RefusalReason | None) -> None:
        """Count and log the refusal of `request`, unless `reason` is None."""
        if reason is not None:
            self._gateway.refusals.note(transport, reason, self.gate.address(request), request.id)


def _offered_token(request: Request, query_token: str | None) -> str | None:
    """Return the token among the subprotocols, or else that of the query. A bearer header makes both irrelevant."""
    if subprotocol.FIELD not in request.headers or bearer_token(request) is not None:
        return query_token
    offered = subprotocol.offered_token(request.headers)
    return query_token if offered is None else offered


def _needs_full_coverage() -> AccessRefused:
    message = "expected a token without types: this cannot be cut down to what it covers"
    return AccessRefused(403, message, reason=RefusalReason.PATTERN)
