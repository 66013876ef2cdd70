"""What one client is sent: the welcome, the answers to its requests, and the current values that follow an answer.

Owns the client's session (its patterns and what it may do) and its subscriber (its stream of events), and keeps the
subscriptions of both the same. `runtime/connection.py` decides when a request may be answered, and how a connection
ends.
"""

from collections.abc import Callable, Iterable

import msgspec
import structlog
from msgspec import UNSET, Raw, UnsetType

from tidegate.core.access.grant import Grant
from tidegate.core.delivery import replies
from tidegate.core.delivery.channel import Channel
from tidegate.core.delivery.cohort import Interest
from tidegate.core.delivery.framing import Framing
from tidegate.core.delivery.retained import Name
from tidegate.core.delivery.session import AddPatterns, Effect, RemovePatterns, SessionLimits, StreamSession
from tidegate.core.delivery.slowness import SendLimits
from tidegate.core.delivery.stream import Stream
from tidegate.core.delivery.subscriber import Subscriber
from tidegate.core.envelope import Message
from tidegate.core.events import Position
from tidegate.core.instant import Instant
from tidegate.core.topics import PatternSet
from tidegate.errors import CloseCode, MessageError
from tidegate.ports import Clock
from tidegate.runtime.default_patterns import DefaultPatterns

log = structlog.get_logger("tidegate.connection")


class ConnectionContext(msgspec.Struct, frozen=True, kw_only=True):
    """What all connections of a gateway share.

    `position` returns the position of the newest event. `authenticate` returns the grant of a token, or raises
    `MessageError`. `defaults` are the default subscriptions.
    """

    stream: Stream
    clock: Clock
    position: Callable[[], Position]
    authenticate: Callable[[str], Grant]
    server: str
    heartbeat_interval_s: float
    session_limits: SessionLimits
    send_limits: SendLimits
    defaults: DefaultPatterns


class Conversation:
    """The gateway's half of the conversation with one client. Its methods send at once.

    Call `start` once, first. The answers to requests need a subscriber that is live, `tell` and `explain_end` one that
    is not closed. Otherwise they raise `PhaseError`. For `too_slow` and `broken` see `Subscriber`.
    """

    __slots__ = ("_client_id", "_context", "_framing", "_request_id", "_session", "subscriber")

    def __init__(
        self,
        channel: Channel,
        *,
        client_id: str,
        request_id: str,
        framing: Framing,
        allowed: PatternSet,
        patterns: PatternSet,
        now: Instant,
        context: ConnectionContext,
        too_slow: Callable[[str], None],
        broken: Callable[[Exception], None],
    ) -> None:
        self._context = context
        self._client_id = client_id
        self._request_id = request_id
        self._framing = framing
        self._session = StreamSession(patterns, allowed=allowed, limits=context.session_limits, now=now.mono)
        self.subscriber = Subscriber(
            channel,
            stream=context.stream,
            interest=self._interest(),
            limits=context.send_limits,
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
        now, newest = self._context.clock.now(), self._context.position()
        refused = None
        if since is not None:
            not_before = self._context.defaults.since if by_default else 0
            refused = self._context.stream.history.gap_reason(since, newest, not_before=not_before)
            self._context.stream.traffic.resumes[refused or "whole"] += 1
        resumed = since is not None and refused is None
        # A resumed client has seen everything up to `since`, and nothing after it until the replay has been sent.
        begin = since if since is not None and resumed else newest
        head = preamble + replies.welcome(
            self._framing,
            wall=now.wall,
            client_id=self._client_id,
            request_id=self._request_id,
            server=self._context.server,
            begin=begin,
            resumed=resumed,
            patterns=self.patterns,
            heartbeat_interval_s=self._context.heartbeat_interval_s,
        )
        if refused is not None:
            head += replies.cannot_resume(self._framing, refused, wall=now.wall, requested=since)
        interest = self.subscriber.interest
        names: Iterable[Name] = ()
        if not resumed:
            names = self._names(interest, without=None)
        elif by_default and (known := self._context.defaults.known_at(begin.seq)) is not None:
            names = self._names(interest, without=Interest(known, allowed=interest.allowed, framing=self._framing))
        # Otherwise a resumed client has the values of before: every change since then is in the replay.
        self._feed(head, interest, names=names, position=begin, synced_from=newest.seq, now=now, has_position=resumed)

    def judge(self, text: bytes | None, arrived: float) -> Effect:
        """Return the effect of a request that came at `arrived` (monotonic). `text` None means a binary message.

        The session has changed its own patterns by then; carry out the effect before the next request.
        """
        return self._session.receive_binary(arrived) if text is None else self._session.receive(text, arrived)

    def subscribe(self, effect: AddPatterns, now: Instant) -> None:
        """Acknowledge, then send the current values of the types that were added."""
        # The session has the new patterns already, but the subscriber still has those before: their difference is new.
        before, position = self.subscriber.interest, self._context.position()
        head = replies.subscribed(self._framing, effect, wall=now.wall, position=position)
        if not effect.added:
            self.subscriber.send(head + replies.synced(self._framing, position, wall=now.wall))
            return
        interest = self._interest()
        names = self._names(interest, without=before)
        self._feed(head, interest, names=names, position=position, synced_from=position.seq, now=now)
        log.debug(
            "subscribed",
            client_id=self._client_id,
            request_id=self._request_id,
            added=effect.added.sorted(),
            patterns=effect.patterns.sorted(),
        )

    def unsubscribe(self, effect: RemovePatterns, now: Instant) -> None:
        """Acknowledge. After that, events that only the removed patterns matched are not sent any more."""
        head = replies.unsubscribed(self._framing, effect, wall=now.wall)
        position = self._context.position()
        # What a wider token makes visible waits for snapshots, and these come after a subscribe (see `regrant`).
        interest = self._interest(self.subscriber.interest.allowed)
        self._feed(head, interest, names=(), position=position, synced_from=None, now=now)
        log.debug(
            "unsubscribed", client_id=self._client_id, request_id=self._request_id, removed=effect.removed.sorted()
        )

    def renew(self, request_id: Raw | UnsetType, *, allowed: PatternSet, now: Instant) -> None:
        """Acknowledge a new token, which covers `allowed`. Then send the current values that become visible."""
        before, position = self.subscriber.interest, self._context.position()
        left = self._session.renew(allowed)
        head = replies.authenticated(self._framing, request_id, wall=now.wall, left=left)
        interest = self._interest()
        names = self._names(interest, without=before)
        self._feed(head, interest, names=names, position=position, synced_from=position.seq, now=now)

    def regrant(self, allowed: PatternSet, now: Instant) -> None:
        """The client's token covers `allowed` from now on. End the patterns that it does not cover, and say which.

        May be called in any phase. If the token covers more than before, the client may subscribe to more. The stream
        shows what becomes visible by it only after the next subscribe or new token, which brings the current values: a
        first change without the value before it would be of no use.
        """
        patterns, interest = self._session.patterns, self.subscriber.interest
        left = self._session.renew(allowed)
        seen = interest.allowed if allowed.is_everything else interest.allowed & allowed
        if left == patterns and seen == interest.allowed:
            self._session.patterns = patterns  # which the cohort shares
            return
        if left != patterns and self.subscriber.was_fed:  # otherwise the welcome will say what is left
            effect = RemovePatterns(UNSET, patterns - left, left)
            self.subscriber.send(replies.unsubscribed(self._framing, effect, wall=now.wall))
        self.subscriber.narrow(self._interest(seen))
        self._session.patterns = self.subscriber.interest.wanted
        log.debug(
            "token covers less",
            client_id=self._client_id,
            request_id=self._request_id,
            removed=(patterns - left).sorted(),
        )

    def pong(self, request_id: Raw | UnsetType, now: Instant) -> None:
        """Answer a ping message."""
        self.subscriber.send(replies.pong(self._framing, request_id, wall=now.wall))

    def refuse(self, request_id: Raw | UnsetType, error: MessageError, now: Instant) -> None:
        """Answer a request with an error."""
        self.subscriber.send(replies.error(self._framing, request_id, error, wall=now.wall))

    def tell(self, name: str, message: Message, *, retry_ms: int | None) -> None:
        """Send a message to this client alone. For `retry_ms` see `Connection.send`."""
        preamble = b"" if retry_ms is None else self._framing.retry(retry_ms)
        self.subscriber.send(preamble + replies.message(self._framing, name, message))

    def explain_end(self, code: CloseCode, reason: str) -> None:
        """Tell the client why its connection is about to be closed with `code`."""
        wall = self._context.clock.now().wall
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
        # The subscriber may have taken over an equal interest of its cohort. Sharing its patterns, too, saves memory.
        self._session.patterns = self.subscriber.interest.wanted

    def _names(self, interest: Interest, *, without: Interest | None) -> list[Name]:
        """Return the names of the retained values that `interest` matches and `without` does not."""
        names = self._context.stream.retained.names
        if without is None:
            return names(interest.matches)
        return names(lambda *event: interest.matches(*event) and not without.matches(*event))

    def _interest(self, allowed: PatternSet | None = None) -> Interest:
        """Return the interest in the session's patterns, as far as `allowed` covers them; None: its whole token."""
        allowed = self._session.allowed if allowed is None else allowed
        return Interest(self._session.patterns, allowed=allowed, framing=self._framing)
