"""Who is let in: every question that a request is asked, in one order for each transport, and who was turned away.

The rules are elsewhere: host, origin and token in `runtime/access.py`, room and patterns in the gateway, the query in
`core/query.py`. What an `AccessRefused` looks like on the wire is `core/problem.py`. Knows no server and no route.
"""

from typing import Literal

import msgspec

from tidegate.core import subprotocol
from tidegate.core.events import Position
from tidegate.core.grant import Grant, Role
from tidegate.core.query import parse_event_stream_query, parse_query_token, parse_stream_query
from tidegate.core.topics import PatternSet
from tidegate.errors import AccessRefused, RefusalReason
from tidegate.runtime.access import Gate, Request, bearer_token
from tidegate.runtime.gateway import Gateway

Transport = Literal["websocket", "sse", "http"]
"""What a request is for, as metrics and logs name it: a stream over either, or one answer."""

NO_PATTERNS = PatternSet()


class Admission(msgspec.Struct, frozen=True):
    """Who came in: what it may do, and its address (behind a trusted proxy, the one that the proxy names).

    The others are what a stream begins with: its patterns, whether those are the defaults, and the position to resume
    from.
    """

    grant: Grant
    address: str
    patterns: PatternSet = NO_PATTERNS
    by_default: bool = False
    since: Position | None = None


class Admissions:
    """Lets requests into one gateway, or refuses them. Call `arrive` for a request first, `admit` once it is routed."""

    def __init__(self, gateway: Gateway, gate: Gate) -> None:
        self._gateway = gateway
        self._gate = gate

    def arrive(self, request: Request, *, at_any_host: bool = False) -> None:
        """Ask what every request is asked, wherever it goes.

        Raises `AccessRefused`: 421 for a host that is not ours, unless `at_any_host`; 403 for a page of another origin.
        """
        if not at_any_host:
            self._gate.check_host(request)
        self._gate.check_origin(request)

    def admit(
        self,
        request: Request,
        role: Role,
        transport: Transport = "http",
        *,
        query: str = "",
        is_unrestricted: bool = False,
    ) -> Admission:
        """Ask what is asked of a request that has arrived and knows where to; the first question that fails answers.

        `query` is read for streams alone. `is_unrestricted`: the token must cover everything. Raises `AccessRefused`:
        400 for a malformed query or too many patterns, 401 without a valid token, 403 if it lacks the role or does not
        cover a pattern, 503 without room or while nobody can check tokens.
        """
        match transport:
            case "websocket":
                # Room first: after a restart everybody comes at once, and a client that has to wait should cost little.
                self._gateway.clients.check_room()
                wanted = parse_stream_query(query)
                grant = self._gate.authenticate(request, _offered_token(request, wanted.token), role)
            case "sse":
                # A route like any other: the token is asked for first.
                grant = self._gate.authenticate(request, parse_query_token(query), role)
                wanted = parse_event_stream_query(query, request.headers.get("last-event-id", ""))
                self._gateway.clients.check_room()
            case "http":
                grant = self._gate.authenticate(request, None, role)
                if is_unrestricted and not grant.allowed.is_everything:
                    raise _cannot_be_cut_down()
                return Admission(grant, self._gate.address(request))
        patterns = self._gateway.clients.patterns_for(wanted.types, grant)
        return Admission(grant, self._gate.address(request), patterns, wanted.types is None, wanted.since)

    def identify(self, request: Request) -> Grant:
        """What the bearer of the request's token may do, whatever that is. Raises `AccessRefused`: 401 or 503."""
        return self._gate.identify(request, None)

    def note_refused(self, request: Request, transport: Transport, reason: RefusalReason | None) -> None:
        """Count and log that `request` was refused, unless `reason` is None."""
        if reason is not None:
            self._gateway.refusals.note(transport, reason, self._gate.address(request))


def _offered_token(request: Request, query_token: str | None) -> str | None:
    """The token that a browser offers as a subprotocol, else that of the query. A bearer header wins over both."""
    if subprotocol.FIELD not in request.headers or bearer_token(request) is not None:
        return query_token
    offered = subprotocol.offered_token(request.headers)
    return query_token if offered is None else offered


def _cannot_be_cut_down() -> AccessRefused:
    message = "expected a token without types: this cannot be cut down to what it covers"
    return AccessRefused(403, message, reason=RefusalReason.PATTERN)
