"""One client's connection: when its requests are answered, what its channel reports, and how it ends.

Requests are answered while the subscriber is live. While it catches up, or while its channel is full, they wait: an
answer must not overtake the events before it. The bytes that may wait are limited. The rate limit goes by the time at
which a message arrived, not by when it is answered.

If our own code fails, the connection on which that happened is closed (1011), and no other. So the methods that
adapters call do not raise. What is sent in answer is in `runtime/conversation.py`.
"""

import asyncio
from collections.abc import Callable

import structlog

from tidegate.core.access.grant import Grant, Role
from tidegate.core.delivery.channel import ClosableChannel
from tidegate.core.delivery.cohort import CLOSED
from tidegate.core.delivery.framing import Framing
from tidegate.core.delivery.requests import WaitingRequests
from tidegate.core.delivery.session import AddPatterns, Authenticate, Close, Effect, Refuse, RemovePatterns, SendPong
from tidegate.core.delivery.slowness import SendLimits
from tidegate.core.envelope import Message
from tidegate.core.events import Position
from tidegate.core.instant import Instant
from tidegate.core.topics import PatternSet
from tidegate.errors import CloseCode, MessageError
from tidegate.runtime.client_identity import identity
from tidegate.runtime.containment import UNFORESEEN, contained
from tidegate.runtime.conversation import ConnectionContext, Conversation
from tidegate.secret import Secret

__all__ = ["Connection", "ConnectionContext"]

log = structlog.get_logger("tidegate.connection")

NO_SUBSCRIBER = f"expected a token with the role {Role.SUBSCRIBER.value!r}"


class Connection:
    """One client's connection over any channel. `transport` is the kind of channel: "websocket" or "sse".

    Call `start` first. `too_slow` is called with this connection and the reason when the client must be closed for
    being slow. `interested` is called whenever the client subscribes to more.
    """

    __slots__ = (
        "__weakref__",
        "_channel",
        "_context",
        "_conversation",
        "_interested",
        "_requests",
        "_too_slow",
        "address",
        "by_default",
        "connected",
        "grant",
        "id",
        "request_id",
        "subscriber",
        "token",
        "transport",
    )

    def __init__(
        self,
        channel: ClosableChannel,
        *,
        client_id: str,
        transport: str,
        address: str,
        request_id: str,
        framing: Framing,
        grant: Grant,
        token: Secret,
        patterns: PatternSet,
        now: Instant,
        context: ConnectionContext,
        too_slow: Callable[["Connection", str], None],
        interested: Callable[[], None],
    ) -> None:
        self.id = client_id
        self.transport, self.address, self.request_id = transport, address, request_id
        self.connected = now
        self.grant, self.token, self.by_default = grant, token, False
        self._context = context
        self._channel = channel
        # Only while requests wait: a gateway has thousands of connections, and on nearly all of them nothing waits.
        self._requests: WaitingRequests | None = None
        self._too_slow = too_slow
        self._interested = interested
        self._conversation = Conversation(
            channel,
            client_id=client_id,
            request_id=request_id,
            framing=framing,
            allowed=grant.allowed,
            patterns=patterns,
            now=now,
            context=context,
            too_slow=self._note_too_slow,
            broken=self._note_broken,
        )
        self.subscriber = self._conversation.subscriber

    @property
    def patterns(self) -> PatternSet:
        """What the client is subscribed to."""
        return self._conversation.patterns

    @contained
    def start(self, since: Position | None, *, by_default: bool = False, preamble: bytes = b"") -> None:
        """Welcome the client, then replay what it missed since `since`, or send it the current values.

        `by_default`: the client named no patterns and gets the default ones. It cannot resume from a position before
        the defaults changed. `preamble` is what the channel has to send first; it goes out in the same write.
        """
        self.by_default = by_default
        if not self.is_closed:
            self._conversation.start(since, by_default=by_default, preamble=preamble)

    @contained
    def receive(self, text: bytes) -> None:
        """Handle a text message from the client, or queue it if it cannot be answered yet. Never raises."""
        self._take(text)

    @contained
    def receive_binary(self, data: bytes) -> None:
        """Refuse a binary message from the client, in its turn. Never raises."""
        del data
        self._take(None)

    def set_holding(self, holds: bool) -> None:
        """Note whether the channel holds bytes that the kernel has not taken. Call it at each change. Never raises."""
        self.subscriber.set_holding(holds)

    def pause(self) -> None:
        """Stop sending: the channel is over its soft limit. May be called again. Never raises."""
        self.subscriber.pause()

    @contained
    def resume(self) -> None:
        """Go on sending: the channel has drained. May be called again. Never raises."""
        self.subscriber.resume(self._context.clock.now())
        self._answer_waiting()

    @contained
    def review(self, now: Instant) -> None:
        """Close the client if it is stuck, or if its token has expired. Call about once a second. Never raises."""
        self.subscriber.review(now)
        if self.grant.expires_at is not None and self.grant.expires_at <= now.wall:
            self._end(self._channel.close, CloseCode.UNAUTHENTICATED, "the token has expired")

    def regrant(self, grant: Grant) -> bool:
        """The client's token grants this from now on. Return whether that is anything else. Never raises.

        Without the role subscriber the connection is closed (4403). Patterns that are not covered end, in any phase,
        and nothing that is not covered is sent any more.
        """
        if self.is_closed or grant == self.grant:
            return False
        self._take_grant(grant)
        return True

    @contained
    def send(self, name: str, message: Message, *, retry_ms: int | None = None) -> None:
        """Send a message to this client alone. `retry_ms` tells it in how many milliseconds to reconnect, once closed.

        Does nothing if the stream has ended.
        """
        if not self.is_closed:
            self._conversation.tell(name, message, retry_ms=retry_ms)

    @contained
    def close(self, code: CloseCode, reason: str) -> None:
        """Tell the client why, if `code` is an error, and end the stream. Does nothing if it has ended."""
        self._end(self._channel.close, code, reason)

    @contained
    def abort(self, code: CloseCode, reason: str) -> None:
        """As `close`, but without waiting for the client to read what is queued."""
        self._end(self._channel.abort, code, reason)

    def fail(self, error: Exception) -> None:
        """Log `error`, a failure of our own code, and close the connection for it (1011). Never raises."""
        if self.is_closed:
            return
        log.error("a connection failed", **identity(self), exc_info=error)
        try:
            self._end(self._channel.close, CloseCode.INTERNAL_ERROR, UNFORESEEN)
        except Exception as again:
            log.debug("a failed connection could not say so", **identity(self), exc_info=again)
            self._channel.abort(CloseCode.INTERNAL_ERROR, UNFORESEEN)
            self.detach()

    def hang_up(self, code: CloseCode, reason: str) -> None:
        """Close the channel of a connection that was detached before. Use `close` if it was not."""
        self._channel.close(code, reason)

    def detach(self) -> None:
        """End the stream on our side: nothing is sent any more, and what waits is dropped. May be called again."""
        self._requests = None
        self.subscriber.detach()

    @property
    def is_closed(self) -> bool:
        """Whether the stream has ended."""
        return self.subscriber.phase is CLOSED

    @property
    def heartbeat_interval_s(self) -> float:
        """The interval of heartbeats that the client was told."""
        return self._context.heartbeat_interval_s

    @property
    def send_limits(self) -> SendLimits:
        """How much may wait for this connection, and for how long: the limits at the time when it was opened."""
        return self._context.send_limits

    @contained
    def _take_grant(self, grant: Grant) -> None:
        if Role.SUBSCRIBER not in grant.roles:
            self._end(self._channel.close, CloseCode.FORBIDDEN, NO_SUBSCRIBER)
            return
        is_as_wide = grant.allowed == self.grant.allowed
        self.grant = grant
        if not is_as_wide:
            self._conversation.regrant(grant.allowed, self._context.clock.now())

    def _take(self, text: bytes | None) -> None:
        if self.is_closed:
            return
        arrived = self._context.clock.now().mono
        # If others wait already, this one must queue behind them: requests are answered in their order.
        if self._requests is None and self.subscriber.flush():
            self._apply(self._conversation.judge(text, arrived))
            return
        if self._requests is None:
            self._requests = WaitingRequests()
        self._requests.add(text, arrived)
        if self._requests.bytes > self._context.send_limits.hard_bytes:
            self._note_too_slow("too many messages wait for a connection that does not read")

    def _answer_waiting(self) -> None:
        """Answer the waiting requests until none is left or the channel is full."""
        # `_requests` is looked up each time: an answer may end the connection, and `detach` drops the others.
        while self._requests and self.subscriber.flush():
            self._apply(self._conversation.judge(*self._requests.take()))
        if not self._requests:
            self._requests = None

    def _apply(self, effect: Effect) -> None:
        now = self._context.clock.now()
        match effect:
            case AddPatterns():
                self._conversation.subscribe(effect, now)
                if effect.added:
                    self._interested()
            case RemovePatterns():
                self._conversation.unsubscribe(effect, now)
            case SendPong():
                self._conversation.pong(effect.id, now)
            case Refuse():
                self._conversation.refuse(effect.id, effect.error, now)
            case Authenticate():
                self._authenticate(effect, now)
            case Close():
                self._end(self._channel.close, effect.code, effect.reason)

    def _authenticate(self, effect: Authenticate, now: Instant) -> None:
        try:
            grant = self._context.authenticate(effect.token)
        except MessageError as error:
            self._conversation.refuse(effect.id, error, now)
            return
        if Role.SUBSCRIBER in grant.roles:
            self.grant, self.token = grant, Secret(effect.token)
            self._conversation.renew(effect.id, allowed=grant.allowed, now=now)
        else:
            self._end(self._channel.close, CloseCode.FORBIDDEN, NO_SUBSCRIBER)

    def _note_too_slow(self, reason: str) -> None:
        self._too_slow(self, reason)

    def _note_broken(self, error: Exception) -> None:
        # The hub is in the middle of sending to its members. None may leave before it has finished, so fail later.
        asyncio.get_running_loop().call_soon(self.fail, error)

    def _end(self, end: Callable[[CloseCode, str], None], code: CloseCode, reason: str) -> None:
        if not self.is_closed:
            # The other codes mean "reconnect" or an orderly end: the close frame says enough.
            if code >= CloseCode.UNAUTHENTICATED or code is CloseCode.INTERNAL_ERROR:
                self._conversation.explain_end(code, reason)
            end(code, reason)
            self.detach()
