"""One client: its session decides, its subscriber streams, and this carries the session's effects out.

Requests are worked off while the subscriber is clear. Those that come while it catches up, or while its transport is
full, wait: an answer could not overtake the events before it anyway. What they may wait with is limited too, and the
rate of messages is judged by when they came.

A failure of ours in any of this ends the connection that it happened on, and no other: whoever carries one calls it
without a thought of that.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Iterable
from typing import Concatenate, ParamSpec, Protocol

import msgspec
import structlog
from msgspec import Raw, UnsetType

from tidegate.core import envelope as wire
from tidegate.core.events import Position
from tidegate.core.framing import Framing
from tidegate.core.grant import Grant, Role
from tidegate.core.hub import Interest
from tidegate.core.instant import Instant, rfc3339
from tidegate.core.retained import Name
from tidegate.core.session import (
    Authenticate,
    Close,
    Effect,
    Ping,
    Refuse,
    Session,
    SessionLimits,
    Subscribe,
    Unsubscribe,
)
from tidegate.core.subscriber import Channel, SendLimits, Stream, Subscriber
from tidegate.core.topics import PatternSet
from tidegate.errors import CloseCode, MessageError
from tidegate.ports import Clock

log = structlog.get_logger("tidegate.connection")

P = ParamSpec("P")

UNFORESEEN = "the gateway failed at something unforeseen on this connection"


def contained(
    step: Callable[Concatenate["Connection", P], None],
) -> Callable[Concatenate["Connection", P], None]:
    """A step of a connection that ends it with 1011, and never raises, whatever happens in it."""

    @functools.wraps(step)
    def attempt(self: "Connection", /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            step(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - `fail` logs it
            self.fail(error)

    return attempt


class ClosableChannel(Channel, Protocol):
    """A channel that the gateway can end."""

    def close(self, code: CloseCode, reason: str) -> None:
        """End the stream in good order: nothing is written afterwards."""
        ...

    def abort(self, code: CloseCode, reason: str) -> None:
        """End the stream now: the close code goes out as far as the kernel takes it, the rest is thrown away."""
        ...


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What every connection of a gateway shares.

    `position` tells the newest one; `authenticate` turns a token into a grant or raises `MessageError`. The default
    subscriptions have been what they are since `defaults_since`, a place in the sequence.
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


class Connection:
    """One client's connection, whatever carries it; `transport` names that.

    `too_slow` is called once, with this connection and the reason, when the client must be closed for being slow;
    `interested` whenever the client subscribes to more.
    """

    __slots__ = (
        "__weakref__",
        "_around",
        "_channel",
        "_closed",
        "_framing",
        "_interested",
        "_is_cut_off",
        "_request_bytes",
        "_requests",
        "_session",
        "_too_slow",
        "address",
        "connected",
        "grant",
        "id",
        "subscriber",
        "transport",
    )

    def __init__(
        self,
        channel: ClosableChannel,
        *,
        client_id: str,
        transport: str,
        address: str,
        framing: Framing,
        grant: Grant,
        patterns: PatternSet,
        now: Instant,
        around: Surroundings,
        too_slow: Callable[["Connection", str], None],
        interested: Callable[[], None],
    ) -> None:
        self.id = client_id
        self.transport = transport
        self.address = address
        self.connected = now
        self.grant = grant
        self._around = around
        self._channel = channel
        self._framing = framing
        self._session = Session(patterns, allowed=grant.allowed, limits=around.session_limits, now=now.mono)
        self._requests: deque[tuple[bytes | None, float]] | None = None
        self._request_bytes = 0
        self._closed = False
        self._is_cut_off = False
        self._too_slow = too_slow
        self._interested = interested
        self.subscriber = Subscriber(
            channel,
            stream=around.stream,
            interest=self._interest(),
            limits=around.send_limits,
            too_slow=self._note_too_slow,
            broken=self._note_broken,
        )

    @property
    def patterns(self) -> PatternSet:
        """What the client is subscribed to."""
        return self._session.patterns

    @contained
    def start(self, since: Position | None, *, by_default: bool = False, preamble: bytes = b"") -> None:
        """Welcome the client, then replay what it missed since `since`, or hand it the current values.

        `by_default`: it named no patterns, so its place counts only for what the defaults are now. `preamble` is what
        the channel has to say first: it goes out in the same write.
        """
        now, newest = self._around.clock.now(), self._around.position()
        refused = None
        if since is not None:
            not_before = self._around.defaults_since if by_default else 0
            refused = self._around.stream.history.refuses(since, newest, not_before=not_before)
        resumed = self.subscriber.placed = since is not None and refused is None
        begin = since if since is not None and resumed else newest
        head = preamble + self._message(
            "welcome",
            wire.Welcome(
                timestamp=rfc3339(now.wall),
                data=wire.WelcomeData(
                    client_id=self.id,
                    protocol=wire.PROTOCOL_VERSION,
                    server=self._around.server,
                    epoch=newest.epoch,
                    seq=begin.seq,
                    resumed=resumed,
                    subscriptions=self.patterns.sorted(),
                    heartbeat_interval_s=self._around.heartbeat_interval_s,
                ),
            ),
        )
        if refused is not None:
            gap = wire.encode_gap(refused, timestamp=now.wall, requested=since, skipped={})
            head += self._framing.message("gap", gap)
        interest = self.subscriber.interest
        names = () if resumed else self._names(interest, without=None)
        self._feed(head, interest, names=names, position=begin, synced_from=newest.seq, now=now)

    @contained
    def receive(self, text: bytes) -> None:
        """Take one text message of the client. Never raises."""
        self._take(text)

    @contained
    def receive_binary(self, data: bytes) -> None:
        """Take one binary message of the client: it is refused, whatever it holds. Never raises."""
        del data
        self._take(None)

    def pause(self) -> None:
        """The transport is full."""
        self.subscriber.pause()

    @contained
    def resume(self) -> None:
        """The transport has drained."""
        if self._closed or self._is_cut_off:
            return
        self.subscriber.resume(self._around.clock.now())
        self._work_off_requests()

    @contained
    def review(self, now: Instant) -> None:
        """What time decides: call about once a second."""
        self.subscriber.review(now)
        if self.grant.expires_at is not None and self.grant.expires_at <= now.wall:
            self._end(self._channel.close, CloseCode.UNAUTHENTICATED, "the token has expired")

    @contained
    def send(self, name: str, message: wire.Message, *, retry_ms: int | None = None) -> None:
        """Send a message that concerns this connection alone; `retry_ms`: when the client is to come back."""
        self._send(name, message, retry_ms=retry_ms)

    @contained
    def close(self, code: CloseCode, reason: str) -> None:
        """Say goodbye and end the stream."""
        self._end(self._channel.close, code, reason)

    @contained
    def abort(self, code: CloseCode, reason: str) -> None:
        """End the stream without waiting for the client to take what is queued."""
        self._end(self._channel.abort, code, reason)

    def fail(self, error: Exception) -> None:
        """End the stream for a failure of ours, which is logged here. Never raises."""
        if self._closed:
            return
        log.error("a connection failed", client_id=self.id, transport=self.transport, exc_info=error)
        try:
            self._end(self._channel.close, CloseCode.INTERNAL_ERROR, UNFORESEEN)
        except Exception as again:
            log.debug("a failed connection could not say so", client_id=self.id, exc_info=again)
            self._channel.abort(CloseCode.INTERNAL_ERROR, UNFORESEEN)
            self.detach()

    def cut_off(self) -> None:
        """The sequence of events that the client follows has ended: nothing is sent any more, but for the close."""
        self._is_cut_off = True
        self._requests = None
        self.subscriber.detach()

    def detach(self) -> None:
        """The stream has ended: forget what waits for it."""
        self._closed = True
        self._requests = None
        self.subscriber.detach()

    def _take(self, text: bytes | None) -> None:
        if self._closed or self._is_cut_off:
            return
        arrived = self._around.clock.now().mono
        if self._requests is None and self.subscriber.settle():
            self._apply(self._judge(text, arrived))
            return
        if self._requests is None:
            self._requests = deque()
        self._requests.append((text, arrived))
        self._request_bytes += len(text or b"") + 64
        if self._request_bytes > self._around.send_limits.hard_bytes:
            self._note_too_slow("too many messages wait for a connection that does not read")

    def _judge(self, text: bytes | None, arrived: float) -> Effect:
        return self._session.receive_binary(arrived) if text is None else self._session.receive(text, arrived)

    def _apply(self, effect: Effect) -> None:
        match effect:
            case Subscribe():
                self._subscribed(effect)
            case Unsubscribe():
                self._unsubscribed(effect)
            case Ping():
                self._send("pong", wire.Pong(timestamp=self._timestamp(), id=effect.id))
            case Refuse():
                self._refuse(effect.id, effect.error)
            case Authenticate():
                self._authenticate(effect)
            case Close():
                self._end(self._channel.close, effect.code, effect.reason)

    def _work_off_requests(self) -> None:
        while self._requests and self.subscriber.settle():
            text, arrived = self._requests.popleft()
            self._request_bytes -= len(text or b"") + 64
            self._apply(self._judge(text, arrived))
        if not self._requests:
            self._requests = None

    def _subscribed(self, effect: Subscribe) -> None:
        before = self.subscriber.interest
        position = self._around.position()
        reply = wire.Subscribed(
            timestamp=self._timestamp(),
            id=effect.id,
            data=wire.SubscribedData(
                types=effect.patterns.sorted(), added=effect.added.sorted(), epoch=position.epoch, seq=position.seq
            ),
        )
        head = self._message("subscribed", reply)
        if effect.added:
            interest = self._interest()
            names = self._names(interest, without=before)
            now = self._around.clock.now()
            self._feed(head, interest, names=names, position=position, synced_from=position.seq, now=now)
            self._interested()
            log.debug("subscribed", client_id=self.id, added=effect.added.sorted(), patterns=effect.patterns.sorted())
        else:
            synced = wire.encode_synced(position, timestamp=self._around.clock.now().wall)
            self.subscriber.send(head + self._framing.synced(position, synced))

    def _unsubscribed(self, effect: Unsubscribe) -> None:
        reply = wire.Unsubscribed(
            timestamp=self._timestamp(),
            id=effect.id,
            data=wire.UnsubscribedData(types=effect.patterns.sorted(), removed=effect.removed.sorted()),
        )
        head = self._message("unsubscribed", reply)
        position, now = self._around.position(), self._around.clock.now()
        self._feed(head, self._interest(), names=(), position=position, synced_from=None, now=now)
        log.debug("unsubscribed", client_id=self.id, removed=effect.removed.sorted())

    def _authenticate(self, effect: Authenticate) -> None:
        try:
            grant = self._around.authenticate(effect.token)
        except MessageError as error:
            self._refuse(effect.id, error)
            return
        if Role.SUBSCRIBER not in grant.roles:
            message = f"expected a token with the role {Role.SUBSCRIBER.value!r}"
            self._end(self._channel.close, CloseCode.FORBIDDEN, message)
            return
        before = self.subscriber.interest
        self.grant = grant
        left = self._session.renewed(self.grant.allowed)
        reply = wire.Authenticated(
            timestamp=self._timestamp(), id=effect.id, data=wire.AuthenticatedData(types=left.sorted())
        )
        interest = self._interest()
        names = self._names(interest, without=before)
        position, now = self._around.position(), self._around.clock.now()
        head = self._message("authenticated", reply)
        self._feed(head, interest, names=names, position=position, synced_from=position.seq, now=now)

    def _refuse(self, request_id: Raw | UnsetType, error: MessageError) -> None:
        data = wire.ErrorData(code=error.code, message=str(error), retryable=error.retryable)
        self._send("error", wire.Error(timestamp=self._timestamp(), id=request_id, data=data))

    def _note_too_slow(self, reason: str) -> None:
        self._too_slow(self, reason)

    def _note_broken(self, error: Exception) -> None:
        # The hub is in the middle of handing out: it may not be left before that is over.
        asyncio.get_running_loop().call_soon(self.fail, error)

    def _send(self, name: str, message: wire.Message, *, retry_ms: int | None = None) -> None:
        if not self._closed:
            preamble = b"" if retry_ms is None else self._framing.retry(retry_ms)
            self.subscriber.send(preamble + self._message(name, message))

    def _end(self, end: Callable[[CloseCode, str], None], code: CloseCode, reason: str) -> None:
        if not self._closed:
            self._goodbye(code, reason)
            end(code, reason)
            self.detach()

    def _goodbye(self, code: CloseCode, reason: str) -> None:
        if code >= CloseCode.UNAUTHENTICATED or code is CloseCode.INTERNAL_ERROR:
            data = wire.ConnectionErrorData(
                code=code, message=reason, retryable=code in {CloseCode.TOO_SLOW, CloseCode.INTERNAL_ERROR}
            )
            self._send("connection_error", wire.ConnectionError(timestamp=self._timestamp(), data=data))

    def _feed(
        self,
        head: bytes,
        interest: Interest,
        *,
        names: Iterable[Name],
        position: Position,
        synced_from: int | None,
        now: Instant,
    ) -> None:
        self.subscriber.feed(head, interest=interest, names=names, position=position, synced_from=synced_from, now=now)
        # Of a cohort's equal interests only one is kept, and only its patterns.
        self._session.patterns = self.subscriber.interest.wanted

    def _names(self, interest: Interest, *, without: Interest | None) -> list[Name]:
        names = self._around.stream.retained.names
        if without is None:
            return names(interest.matches)
        return names(lambda *event: interest.matches(*event) and not without.matches(*event))

    def _interest(self) -> Interest:
        return Interest(self._session.patterns, allowed=self._session.allowed, framing=self._framing)

    def _message(self, name: str, message: wire.Message) -> bytes:
        return self._framing.message(name, wire.encode(message))

    def _timestamp(self) -> str:
        return rfc3339(self._around.clock.now().wall)
