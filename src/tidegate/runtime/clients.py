"""The connected clients: whether another may connect, who is connected, and closing those that are too slow.

Knows nothing of how one client's stream works (`tidegate.runtime.connection`), nor of what is published.
"""

import asyncio
import math
from collections.abc import Callable

import msgspec

from tidegate.core.access.grant import Grant
from tidegate.core.delivery.channel import ClosableChannel
from tidegate.core.delivery.framing import Framing
from tidegate.core.measurements import ClientConnected, ClientLeft
from tidegate.core.rate import NOTHING_OWED, Rate
from tidegate.core.topics import PatternSet
from tidegate.errors import AccessRefused, CloseCode, LeaveReason, RefusalReason
from tidegate.ports import Clock, Metrics
from tidegate.runtime.authentication import CurrentAuthenticator, Revision
from tidegate.runtime.client_log import ClientLog
from tidegate.runtime.connection import Connection
from tidegate.runtime.conversation import ConnectionContext
from tidegate.runtime.gateway_options import GatewayOptions
from tidegate.runtime.rechecking import Rechecks
from tidegate.secret import Secret

RETRY_SPREAD_S = 5
"""Refused clients get a `Retry-After` of 1 to this many seconds, in turn, so that they do not all retry at once."""

NO_TOKEN = Secret("")


class ClientRegistry:
    """The connected clients of a gateway: at most `max_clients`, and at most `connects` new ones per second.

    `interested` is called after clients may have subscribed to types that nobody watched before, at most once in a turn
    of the loop.
    """

    def __init__(
        self,
        *,
        max_clients: int,
        connects: Rate,
        context: ConnectionContext,
        authentication: CurrentAuthenticator,
        clock: Clock,
        metrics: Metrics,
        interested: Callable[[], None],
    ) -> None:
        self.draining = False
        self.drain_ends = 0.0  # monotonic, while draining
        self.empty = asyncio.Event()
        """Set while nobody is connected."""
        self.empty.set()
        self._max_clients = max_clients
        self._connects = connects
        self._context = context
        self._clock = clock
        self._metrics = metrics
        self._interested = interested
        self.log = ClientLog(metrics, clock)
        self._connections: dict[str, Connection] = {}
        self._numbered = 0  # how many clients have connected so far: each gets a number of its own
        self._connects_owed_until = NOTHING_OWED
        self._turned_away = 0
        self._too_slow: dict[Connection, str] = {}
        self._interest_noted = False
        self._authentication = authentication
        self._rechecks = Rechecks(authentication, clock)

    @property
    def connections(self) -> list[Connection]:
        """All open connections, oldest first."""
        return list(self._connections.values())

    def __len__(self) -> int:
        return len(self._connections)

    def __contains__(self, connection: Connection) -> bool:
        return connection.id in self._connections

    @property
    def drain_left_s(self) -> int:
        """Seconds until the drain ends at the latest, rounded up, at least 1. Only meaningful while draining."""
        return max(1, math.ceil(self.drain_ends - self._clock.now().mono))

    def check_room(self) -> None:
        """Raise `AccessRefused` (503) if no further client may connect now."""
        if self.draining:
            raise AccessRefused(
                503,
                "the gateway is draining: come back in a moment",
                reason=RefusalReason.DRAINING,
                retry_after_s=self.drain_left_s,
            )
        if len(self._connections) >= self._max_clients:
            message = f"all {self._max_clients} places (server.max_clients) are taken"
            raise self._turn_away(message, RefusalReason.MAX_CLIENTS)
        now = self._clock.now().mono
        if self._connects.is_over(self._connects_charged(now), now):
            message = "too many clients came at once (limits.connects_per_s)"
            raise self._turn_away(message, RefusalReason.CONNECTS_RATE)

    def patterns_for(self, wanted: PatternSet | None, grant: Grant) -> PatternSet:
        """Return a client's first subscriptions. `wanted` None means those defaults that the token covers.

        Raises `AccessRefused`: 403 for a pattern that the token does not cover, 400 for too many.
        """
        if wanted is None:
            return self._context.defaults.covered_by(grant.allowed)
        if refused := [pattern for pattern in wanted.patterns if not grant.covers(pattern)]:
            message = f"types: the token does not cover {', '.join(sorted(refused))}"
            raise AccessRefused(403, message, reason=RefusalReason.PATTERN)
        most = self._context.session_limits.patterns
        if len(wanted) > most:
            message = f"types: expected at most {most} patterns, got {len(wanted)}"
            raise AccessRefused(400, message, reason=RefusalReason.MALFORMED)
        return wanted

    def connect(
        self,
        channel: ClosableChannel,
        *,
        transport: str,
        address: str,
        request_id: str = "",
        framing: Framing,
        grant: Grant,
        patterns: PatternSet,
        token: Secret = NO_TOKEN,
        revision: Revision | None = None,
    ) -> Connection:
        """Add a client. Call `Connection.start` next, and `disconnect` once its stream has ended for any reason.

        `token` is what it was admitted with. If other tokens have come to be accepted since it was admitted, in
        `revision`, the token is verified again: then the connection may be closed already when this returns.
        """
        now, self._numbered = self._clock.now(), self._numbered + 1
        self._connects_owed_until = self._connects_charged(now.mono)
        client_id = f"c{self._numbered}-{self._context.stream.history.epoch[:4]}"
        connection = Connection(
            channel,
            client_id=client_id,
            transport=transport,
            address=address,
            request_id=request_id,
            framing=framing,
            grant=grant,
            token=token,
            patterns=patterns,
            now=now,
            context=self._context,
            too_slow=self._note_too_slow,
            interested=self._notice_interest,
        )
        self._connections[client_id] = connection
        self.empty.clear()
        self._metrics.observe(ClientConnected(transport))
        if connection.subscriber.interest not in self._context.stream.hub:
            self._notice_interest()
        self.log.came(connection)
        if revision is not None and revision != self._authentication.revision:
            self._rechecks.check(connection)
        return connection

    def disconnect(self, connection: Connection, reason: LeaveReason, detail: str = "") -> None:
        """Remove a client whose stream has ended. `detail` is for the log alone. May be called again."""
        connection.detach()
        if self._connections.pop(connection.id, None) is not None:
            self._metrics.observe(ClientLeft(connection.transport, reason))
            self._context.defaults.ended(connection, newest=self._context.position().seq)
            if not self._connections:
                self.empty.set()
            self.log.left(connection, reason, detail, self._clock.now())

    def apply(self, options: GatewayOptions) -> None:
        """Take over `options` for those who connect from now on. Nobody who is connected is thrown out."""
        self._max_clients = options.max_clients
        self._connects = options.connects
        self._context = msgspec.structs.replace(
            self._context,
            server=options.server,
            heartbeat_interval_s=options.heartbeat_interval_s,
            session_limits=options.session_limits,
            send_limits=options.send_limits,
        )
        streams = [each for each in self._connections.values() if each.by_default]
        self._context.defaults.change(options.default_types, newest=self._context.position().seq, streams=streams)

    def recheck(self) -> None:
        """Verify the tokens of all open connections again, in pieces. See `tidegate.runtime.rechecking`."""
        self._rechecks.begin(self._connections.values())

    def review_tokens(self) -> None:
        """Do that if other tokens have come to be accepted since, as when a file was changed. Call once a second."""
        if self._rechecks.is_due:
            self.recheck()
        self._rechecks.review()

    @property
    def heartbeat_interval_s(self) -> float:
        """The shortest interval of heartbeats that a connected client was told, or that the next one is told."""
        told = [connection.heartbeat_interval_s for connection in self._connections.values()]
        return min([*told, self._context.heartbeat_interval_s])

    def end_the_slow(self) -> None:
        """Close the clients that were found too slow (4408). Not while the hub sends: no member may leave it then."""
        slow, self._too_slow = self._too_slow, {}
        for connection, reason in slow.items():
            connection.abort(CloseCode.TOO_SLOW, reason)

    def _note_too_slow(self, connection: Connection, reason: str) -> None:
        # The hub may be sending right now, and this client is one of its members: close it in the next turn.
        if not self._too_slow:
            asyncio.get_running_loop().call_soon(self.end_the_slow)
        self._too_slow[connection] = reason

    def _notice_interest(self) -> None:
        # Once for all clients that reconnect in this turn: looking through all sources for each would cost too much.
        if not self._interest_noted:
            self._interest_noted = True
            asyncio.get_running_loop().call_soon(self._tell_of_interest)

    def _tell_of_interest(self) -> None:
        self._interest_noted = False
        self._interested()

    def _connects_charged(self, now: float) -> float:
        return self._connects.charged(self._connects_owed_until, now)

    def _turn_away(self, message: str, reason: RefusalReason) -> AccessRefused:
        self._turned_away += 1
        retry_after_s = 1 + self._turned_away % RETRY_SPREAD_S
        return AccessRefused(503, message, reason=reason, retry_after_s=retry_after_s)
