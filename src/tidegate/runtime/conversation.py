"""What one client is told: the welcome, the answers to its requests, and the values that follow each of them.

Owns the client's session and its subscriber, and keeps their subscriptions the same. Knows nothing of when a request
may be answered, or of how a connection ends: `runtime/connection.py` decides both.
"""

from collections.abc import Callable, Iterable

import msgspec
import structlog
from msgspec import Raw, UnsetType

from tidegate.core.access.grant import Grant
from tidegate.core.delivery import replies
from tidegate.core.delivery.channel import Channel
from tidegate.core.delivery.cohort import Interest
from tidegate.core.delivery.framing import Framing
from tidegate.core.delivery.retained import Name
from tidegate.core.delivery.session import AddPatterns, Effect, RemovePatterns, SessionLimits, StreamSession
from tidegate.core.delivery.stream import Stream
from tidegate.core.delivery.subscriber import SendLimits, Subscriber
from tidegate.core.envelope import Message
from tidegate.core.events import Position
from tidegate.core.instant import Instant
from tidegate.core.topics import PatternSet
from tidegate.errors import CloseCode, MessageError
from tidegate.ports import Clock

log = structlog.get_logger("tidegate.connection")


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What all connections of a gateway share.

    `position` gives the newest one; `authenticate` turns a token into a grant or raises `MessageError`.
    `defaults_since` is the position at which the default subscriptions became what they are.
    """

    stream: Stream
    clock: Clock
    position: Callable[[], Position]
    authenticate: Callable[[str], Grant]
    server: str
    heartbeat_interval_s: float
    session_limits: SessionLimits
    send_limits: SendLimits
    defaults_since: int = 0


class Conversation:
    """The gateway's half of the conversation with one client. Its methods send at once.

    `too_slow` and `broken` are the subscriber's: see there. `start` needs a subscriber that is new, the answers one
    that is live, and `tell` and `explain_end` one that is not closed; else they raise `PhaseError`.
    """

    __slots__ = ("_around", "_client_id", "_framing", "_session", "subscriber")

    def __init__(
        self,
        channel: Channel,
        *,
        client_id: str,
        framing: Framing,
        allowed: PatternSet,
        patterns: PatternSet,
        now: Instant,
        around: Surroundings,
        too_slow: Callable[[str], None],
        broken: Callable[[Exception], None],
    ) -> None:
        self._around = around
        self._client_id = client_id
        self._framing = framing
        self._session = StreamSession(patterns, allowed=allowed, limits=around.session_limits, now=now.mono)
        self.subscriber = Subscriber(
            channel,
            stream=around.stream,
            interest=self._interest(),
            limits=around.send_limits,
            too_slow=too_slow,
            broken=broken,
        )

    @property
    def patterns(self) -> PatternSet:
        """What the client is subscribed to."""
        return self._session.patterns

    def start(self, since: Position | None, *, by_default: bool, preamble: bytes) -> None:
        """Welcome the client, then replay what it missed since `since`, or send it the current values.

        For `by_default` and `preamble` see `Connection.start`.
        """
        now, newest = self._around.clock.now(), self._around.position()
        refused = None
        if since is not None:
            not_before = self._around.defaults_since if by_default else 0
            refused = self._around.stream.history.gap_reason(since, newest, not_before=not_before)
        resumed = since is not None and refused is None
        begin = since if since is not None and resumed else newest
        head = preamble + replies.welcome(
            self._framing,
            wall=now.wall,
            client_id=self._client_id,
            server=self._around.server,
            begin=begin,
            resumed=resumed,
            patterns=self.patterns,
            heartbeat_interval_s=self._around.heartbeat_interval_s,
        )
        if refused is not None:
            head += replies.cannot_resume(self._framing, refused, wall=now.wall, requested=since)
        interest = self.subscriber.interest
        names = () if resumed else self._names(interest, without=None)
        self._feed(head, interest, names=names, position=begin, synced_from=newest.seq, now=now, has_position=resumed)

    def judge(self, text: bytes | None, arrived: float) -> Effect:
        """What a request leads to that came at `arrived` (monotonic); None is a binary message."""
        return self._session.receive_binary(arrived) if text is None else self._session.receive(text, arrived)

    def subscribe(self, effect: AddPatterns, now: Instant) -> None:
        """Acknowledge, then send the current values of what was added."""
        before, position = self.subscriber.interest, self._around.position()
        head = replies.subscribed(self._framing, effect, wall=now.wall, position=position)
        if not effect.added:
            self.subscriber.send(head + replies.synced(self._framing, position, wall=now.wall))
            return
        interest = self._interest()
        names = self._names(interest, without=before)
        self._feed(head, interest, names=names, position=position, synced_from=position.seq, now=now)
        log.debug(
            "subscribed", client_id=self._client_id, added=effect.added.sorted(), patterns=effect.patterns.sorted()
        )

    def unsubscribe(self, effect: RemovePatterns, now: Instant) -> None:
        """Acknowledge; nothing that only the removed patterns matched is sent after that."""
        head = replies.unsubscribed(self._framing, effect, wall=now.wall)
        position = self._around.position()
        self._feed(head, self._interest(), names=(), position=position, synced_from=None, now=now)
        log.debug("unsubscribed", client_id=self._client_id, removed=effect.removed.sorted())

    def renew(self, request_id: Raw | UnsetType, *, allowed: PatternSet, now: Instant) -> None:
        """Acknowledge a new token, which covers `allowed`, then send the current values that it lets the client see."""
        before, position = self.subscriber.interest, self._around.position()
        left = self._session.renew(allowed)
        head = replies.authenticated(self._framing, request_id, wall=now.wall, left=left)
        interest = self._interest()
        names = self._names(interest, without=before)
        self._feed(head, interest, names=names, position=position, synced_from=position.seq, now=now)

    def pong(self, request_id: Raw | UnsetType, now: Instant) -> None:
        """Answer a ping message."""
        self.subscriber.send(replies.pong(self._framing, request_id, wall=now.wall))

    def refuse(self, request_id: Raw | UnsetType, error: MessageError, now: Instant) -> None:
        """Answer a request with an error."""
        self.subscriber.send(replies.error(self._framing, request_id, error, wall=now.wall))

    def tell(self, name: str, message: Message, *, retry_ms: int | None) -> None:
        """Send a message that concerns this client alone; `retry_ms`: when it is to come back."""
        preamble = b"" if retry_ms is None else self._framing.retry(retry_ms)
        self.subscriber.send(preamble + replies.message(self._framing, name, message))

    def explain_end(self, code: CloseCode, reason: str) -> None:
        """Tell the client why its connection is about to be closed with `code`."""
        wall = self._around.clock.now().wall
        self.subscriber.send(replies.connection_error(self._framing, code, reason, wall=wall))

    def _feed(
        self,
        head: bytes,
        interest: Interest,
        *,
        names: Iterable[Name],
        position: Position,
        synced_from: int | None,
        now: Instant,
        has_position: bool = True,
    ) -> None:
        self.subscriber.feed(
            head,
            interest=interest,
            names=names,
            position=position,
            synced_from=synced_from,
            now=now,
            has_position=has_position,
        )
        # Of a cohort's equal interests only one is kept, and only its patterns.
        self._session.patterns = self.subscriber.interest.wanted

    def _names(self, interest: Interest, *, without: Interest | None) -> list[Name]:
        """The retained values that a change of interest adds: their snapshots are due."""
        names = self._around.stream.retained.names
        if without is None:
            return names(interest.matches)
        return names(lambda *event: interest.matches(*event) and not without.matches(*event))

    def _interest(self) -> Interest:
        return Interest(self._session.patterns, allowed=self._session.allowed, framing=self._framing)
