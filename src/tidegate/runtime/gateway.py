"""The single writer of shared state: what is published, what is kept, and who is connected.

Everything happens on one event loop, and nothing in here waits between reading shared state and changing it. That is
why a subscribe has no race with a publish.
"""

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from itertools import islice

import msgspec
import structlog

from tidegate.core.built_in import Heartbeat
from tidegate.core.channel import ClosableChannel
from tidegate.core.envelope import Notification, NotificationData, encode_draft, raw, unplaced_event
from tidegate.core.events import Draft, Event, Position
from tidegate.core.framing import Framing
from tidegate.core.grant import Grant, may_see, may_subscribe
from tidegate.core.history import History
from tidegate.core.hub import Hub, Multicast
from tidegate.core.instant import Instant, rfc3339
from tidegate.core.measurements import ClientConnected, ClientLeft, EventPublished, EventsSkipped
from tidegate.core.published import Published
from tidegate.core.rate import NOTHING_OWED, Allowances, Rate
from tidegate.core.retained import Name, Retained
from tidegate.core.session import SessionLimits
from tidegate.core.stream import Stream
from tidegate.core.subscriber import SendLimits
from tidegate.core.topics import RESERVED_TYPES, UNCOVERED_PATTERNS, PatternSet, check_event_type
from tidegate.errors import AccessRefused, CloseCode, PublishError, RefusalReason, TopicError, UnknownName
from tidegate.ports import Authenticator, Bus, BusSession, Clock, Metrics
from tidegate.runtime.connection import Connection, Surroundings
from tidegate.runtime.publishing import HandOver, Lane
from tidegate.runtime.refusals import Refusals

REVIEW_S = 1.0
"""How often connections and retained values are looked through for what time has decided."""

RETRY_SPREAD_S = 5
"""Clients that find no room are told to come back after 1 to this many seconds, in turn."""

DEFAULTS = 256
"""For how many kinds of tokens the default subscriptions are remembered."""

EVENT_TYPES = 1024
"""So many event types are known to be well formed, and not looked at again."""

SHOWN = 10
"""Of the types in one POST that a token does not cover, so many are named."""

EXPIRED_AT_ONCE = 500
"""So many retained values whose time is over are forgotten before others have their turn."""

SNAPSHOT_EVENTS = 250
SNAPSHOT_BYTES = 65536
"""A piece of a snapshot looks at so many retained values, and ends with the one that takes it over so many bytes."""

RETURN_MS = 500
RETURN_SPREAD_MS = 5000
"""A drained client comes back `RETURN_MS` after the drain, and a share of the spread that is its own."""

log = structlog.get_logger("tidegate.gateway")


class GatewayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway is told at start. `source_types` are polled, so nobody else may publish them.

    `retained_keys`, `retained_bytes` (of data) and `publishes` (of each publisher) bound what comes from outside. What
    the bus has not answered for `publish_timeout_s` is given up, or keeps its publisher from deciding more.
    """

    server: str
    source_types: frozenset[str]
    default_types: tuple[str, ...]
    heartbeat_interval_s: float
    history_events: int
    history_bytes: int
    event_bytes: int
    retained_keys: int = 100_000
    retained_bytes: int = 268_435_456
    publishes: Rate = Rate(per_s=2000.0, burst=5000)
    max_clients: int
    connects: Rate = Rate(per_s=1000.0, burst=5000)
    publish_timeout_s: float = 5.0
    session_limits: SessionLimits
    send_limits: SendLimits


class Gateway:
    """The state that everybody shares, on one event loop.

    `run` must be running while clients are connected.
    """

    def __init__(
        self,
        options: GatewayOptions,
        *,
        bus: Bus,
        clock: Clock,
        metrics: Metrics,
        authenticator: Authenticator,
        multicast: Multicast,
    ) -> None:
        self.options = options
        self.clock = clock
        self.started = clock.now()
        self.draining = False
        self._drain_ends = 0.0  # monotonic, while draining
        self._empty = asyncio.Event()  # while draining: nobody is connected
        self.on_interest: Callable[[], None] = lambda: None
        """Called when somebody may have become interested in more types."""
        self.on_clock_set: Callable[[], None] = lambda: None
        """Called when the wall clock was set: what is kept outside with a time of its own has to be kept anew."""
        ours = [*sorted(options.source_types), "circuit_breaker.state", "source.freshness"]
        self.retained = Retained(ours)
        self._published = Published(
            self.retained, ours=ours, max_keys=options.retained_keys, max_bytes=options.retained_bytes
        )
        self._publishers = Allowances(options.publishes)
        self.refusals = Refusals(metrics)
        self._bus = bus
        self._session: BusSession | None = None
        self._publishes = 0
        self._incarnation = secrets.token_hex(6)
        self._lanes: dict[str, Lane] = {}
        self._metrics = metrics
        self._history = History(max_events=options.history_events, max_bytes=options.history_bytes)
        self._hub = Hub(self._history.epoch, multicast)
        self._stream = Stream(
            hub=self._hub, history=self._history, retained=self.retained, count_skipped=self._count_skipped
        )
        self._connections: dict[str, Connection] = {}
        self._numbered = 0
        self._connects_owed_until = NOTHING_OWED
        self._turned_away = 0
        self._too_slow: dict[Connection, str] = {}
        self._flush_due = False
        self._interest_noted = False
        self._defaults = lru_cache(maxsize=DEFAULTS)(partial(_covered, self.options.default_types))
        self._expiry: dict[tuple[str, str], float] = {}
        self._clock_held = self.started
        self._around = Surroundings(
            stream=self._stream,
            clock=clock,
            position=lambda: self._history.position,
            authenticate=authenticator.verify,
            server=options.server,
            heartbeat_interval_s=options.heartbeat_interval_s,
            session_limits=options.session_limits,
            send_limits=options.send_limits,
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Be connected to the bus while the context is open: only then may anything be published, or anyone connect.

        Raises `BusError` where the bus cannot be used.
        """
        async with self._bus.open(self) as session:
            self._session = session
            self._begin_at(session.position)
            try:
                yield
            finally:
                for lane in self._lanes.values():
                    lane.close()

    @property
    def position(self) -> Position:
        """The newest position that was delivered here."""
        return self._history.position

    def lane(self, name: str) -> Lane:
        """Where the decider `name` publishes; always the same one."""
        lane = self._lanes.get(name)
        if lane is None:
            timeout_s = self.options.publish_timeout_s
            lane = self._lanes[name] = Lane(name, self._begin, clock=self.clock, timeout_s=timeout_s)
        return lane

    @property
    def connections(self) -> list[Connection]:
        """Everyone who is connected now, oldest first."""
        return list(self._connections.values())

    @property
    def publishers_in_debt(self) -> int:
        """How many publishers have sent something that `publishes` has not made good yet."""
        return len(self._publishers)

    async def publish(self, drafts: Sequence[Draft]) -> Position:
        """Publish `drafts` in one go; the position of the last. Cancelling it publishes all of them or none.

        Raises `BusError`.
        """
        if not drafts:
            return self.position
        now = self.clock.now().wall
        outcome = self._begin()([encode_draft(draft, timestamp=now) for draft in drafts])
        return outcome.result() if outcome.done() else await asyncio.shield(outcome)

    async def publish_from_outside(self, drafts: Sequence[Draft], grant: Grant) -> Position:
        """Publish what a publisher with `grant` sent, all or nothing; what is refused is charged to nobody.

        Raises `PublishError`, in this order: 413 for more than `check_count` lets in, 400 for a type that is malformed,
        403 for one that is not covered, polled or built in, 413 for data over the limit, 507 where too much would be
        retained, 429 for more than the publisher may send now.
        """
        self.check_count(len(drafts))
        event_types = dict.fromkeys([draft.type for draft in drafts])
        for event_type in event_types:
            _check_event_type(event_type)
        check_covered(event_types, grant)
        for event_type in event_types:
            self._check_publishable(event_type)
        for draft in drafts:
            if len(draft.data) > self.options.event_bytes:
                raise PublishError(
                    f"expected data of at most {self.options.event_bytes} bytes, got {len(draft.data)}", status=413
                )
        self._published.check(drafts)
        self._charge(grant, len(drafts))
        return await self.publish(drafts)

    def check_count(self, count: int) -> None:
        """Raise `PublishError` (413) for more events in one go than a publisher may ever send at once."""
        most = self.options.publishes.burst
        if count > most:
            raise PublishError(f"expected at most {most} events (limits.publishes_burst), got {count}", status=413)

    async def forget(self, event_type: str, key: str, grant: Grant) -> Position:
        """Take a published retained value away, for a publisher with `grant`, and say so with one event.

        Raises `PublishError` for a type that is malformed, not covered, polled or built in, or (429) for more than the
        publisher may send now; `UnknownName` where there is no such value.
        """
        _check_event_type(event_type)
        check_covered([event_type], grant)
        self._check_publishable(event_type)
        if self.retained.get(event_type, key) is None:
            raise UnknownName(f"expected the type and key of a retained value, got {event_type!r} with key {key!r}")
        self._charge(grant, 1)
        return await self.publish([_gone(event_type, key)])

    def refresh(self, event_type: str, as_of: float) -> None:
        """Unchanged values of `event_type` were seen again: snapshots carry the newer `as_of` (Unix seconds)."""
        self.retained.refresh(event_type, as_of, self.clock.now())

    def snapshots(self, event_type: str | None, *, allowed: PatternSet) -> list[bytes]:
        """The envelopes that a new subscriber would be handed, of one type or of all that `allowed` matches.

        Raises `UnknownName` for a type that was never retained, or that may not be seen.
        """
        return [json for piece in self.snapshot_pieces(event_type, allowed=allowed) for json in piece]

    def snapshot_pieces(self, event_type: str | None, *, allowed: PatternSet) -> Iterator[list[bytes]]:
        """The same in pieces, so that others can have their turn between them.

        Each envelope is the newest when its piece is asked for, and one that is gone by then is left out.
        """
        if event_type is not None and (event_type not in self.retained or not _has_visible(event_type, allowed)):
            raise UnknownName(f"expected a retained event type, got {event_type!r}")
        names = self.retained.walk() if event_type is None else self.retained.walk([event_type])
        return self._snapshot_pieces(names, allowed)

    def _snapshot_pieces(self, names: Iterator[Name], allowed: PatternSet) -> Iterator[list[bytes]]:
        while some := list(islice(names, SNAPSHOT_EVENTS)):
            piece, size, now = [], 0, self.clock.now()
            for name in some:
                found = self.retained.snapshot(name, now)
                if found is not None and may_see(allowed, found[0].type, found[0].draft.about):
                    piece.append(found[1])
                    size += len(found[1])
                    if size >= SNAPSHOT_BYTES:
                        yield piece
                        piece, size, now = [], 0, self.clock.now()
            yield piece

    def is_wanted(self, event_type: str) -> bool:
        """Whether anyone is subscribed to `event_type`."""
        return self._stream.is_wanted(event_type)

    def check_room(self) -> None:
        """Raise `AccessRefused` (503) while no further client is let in."""
        if self.draining:
            raise AccessRefused(
                503,
                "the gateway is draining: come back in a moment",
                reason=RefusalReason.DRAINING,
                retry_after_s=self.drain_left_s,
            )
        if len(self._connections) >= self.options.max_clients:
            message = f"all {self.options.max_clients} places (server.max_clients) are taken"
            raise self._turn_away(message, RefusalReason.MAX_CLIENTS)
        now = self.clock.now().mono
        if self.options.connects.is_over(self._connects_charged(now), now):
            message = "too many clients came at once (limits.connects_per_s)"
            raise self._turn_away(message, RefusalReason.CONNECTS_RATE)

    def patterns_for(self, wanted: PatternSet | None, grant: Grant) -> PatternSet:
        """The first subscriptions of a client; None asks for the defaults, cut down to what is wholly covered.

        Raises `AccessRefused`: 403 for a pattern that the token does not cover, 400 for too many.
        """
        if wanted is None:
            return self._defaults(grant.allowed)
        if refused := [pattern for pattern in wanted.patterns if not grant.covers(pattern)]:
            message = f"types: the token does not cover {', '.join(sorted(refused))}"
            raise AccessRefused(403, message, reason=RefusalReason.PATTERN)
        if len(wanted) > self.options.session_limits.patterns:
            message = f"types: expected at most {self.options.session_limits.patterns} patterns, got {len(wanted)}"
            raise AccessRefused(400, message, reason=RefusalReason.MALFORMED)
        return wanted

    def connect(
        self,
        channel: ClosableChannel,
        *,
        transport: str,
        address: str,
        framing: Framing,
        grant: Grant,
        patterns: PatternSet,
    ) -> Connection:
        """Take a client in. Call its `start` next, and `disconnect` once its stream has ended, for whatever reason."""
        now = self.clock.now()
        self._connects_owed_until = self._connects_charged(now.mono)
        self._numbered += 1
        client_id = f"c{self._numbered}-{self._history.epoch[:4]}"
        connection = Connection(
            channel,
            client_id=client_id,
            transport=transport,
            address=address,
            framing=framing,
            grant=grant,
            patterns=patterns,
            now=now,
            around=self._around,
            too_slow=self._note_too_slow,
            interested=self._notice_interest,
        )
        self._connections[client_id] = connection
        self._metrics.observe(ClientConnected(transport))
        if connection.subscriber.interest not in self._hub:
            self._notice_interest()
        log.debug("client connected", client_id=client_id, address=address, patterns=patterns.patterns)
        return connection

    def disconnect(self, connection: Connection, reason: str) -> None:
        """Forget a client whose stream has ended. May be called again."""
        connection.detach()
        if self._connections.pop(connection.id, None) is not None:
            self._metrics.observe(ClientLeft(connection.transport, reason))
            if not self._connections:
                self._empty.set()
            log.debug("client left", client_id=connection.id, reason=reason)

    async def run(self) -> None:
        """Heartbeats and what time decides, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            tasks.create_task(self._review())

    @property
    def drain_left_s(self) -> int:
        """While draining: seconds until it is over at the latest, rounded up, and no less than 1."""
        return max(1, math.ceil(self._drain_ends - self.clock.now().mono))

    async def drain(self, drain_s: float, *, at_least_s: float = 0.0) -> None:
        """Take nobody new, tell everyone when to come back, and close them one by one within `drain_s` seconds.

        It is over as soon as nobody is connected, but not before `at_least_s`. Nobody is told to come back before
        `drain_s` have passed, and no two at the same moment.
        """
        began = self.clock.now().mono
        self._drain_ends = began + drain_s
        self.draining = True
        leaving = self.connections
        if not leaving:
            self._empty.set()
        log.info("draining", clients=len(leaving), drain_s=drain_s)
        for n, connection in enumerate(leaving):
            retry_after_ms = int(1000 * drain_s) + RETURN_MS + n * max(1, RETURN_SPREAD_MS // len(leaving))
            connection.send("notification", self._draining_notice(retry_after_ms), retry_ms=retry_after_ms)
        for n, connection in enumerate(leaving):
            if n > 0:  # the first is closed at once: no event comes between what it is told and its close
                await self._until_empty(began + 0.8 * drain_s * n / len(leaving))
            connection.close(CloseCode.DRAINING, "the gateway is draining")
        await self._until_empty(self._drain_ends)
        if (left_s := began + at_least_s - self.clock.now().mono) > 0:
            await asyncio.sleep(left_s)

    async def _until_empty(self, at: float) -> None:
        """Until nobody is connected, or the monotonic time is `at`."""
        if self._empty.is_set():
            return
        left_s = at - self.clock.now().mono
        either = [asyncio.create_task(self._empty.wait()), asyncio.create_task(asyncio.sleep(left_s))]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in either:
                task.cancel()

    def _begin(self) -> HandOver:
        """One publish with an id of its own, however often it is handed over."""
        assert self._session is not None, "only an open gateway publishes"
        self._publishes += 1
        return partial(self._session.publish, id=f"{self._incarnation}.{self._publishes}")

    def _begin_at(self, position: Position) -> None:
        """The sequence of events is that of `position`, and goes on from there."""
        self._history.begin(position)
        self._hub.epoch = position.epoch

    # the bus calls these

    def deliver(self, events: Sequence[Event]) -> None:
        """See `tidegate.ports.Receiver`."""
        now = self.clock.now()
        for event in events:
            if event.seq is None or event.seq <= self._history.newest:
                continue  # delivered before: a bus may begin a little earlier after a reconnect
            self._stream.append(event)
            self._keep(event, now)
            self._send(event)

    def epoch_changed(self, position: Position) -> None:
        """See `tidegate.ports.Receiver`."""
        raise NotImplementedError

    def lost(self, why: str) -> None:
        """See `tidegate.ports.Receiver`."""
        raise NotImplementedError

    def regained(self) -> None:
        """See `tidegate.ports.Receiver`."""
        raise NotImplementedError

    def _keep(self, event: Event, now: Instant) -> None:
        draft = event.draft
        if draft.retain or draft.gone:
            self._published.note(draft)
            self.retained.apply(event, now)
            self._published.forget_empty_types(draft)
            name = (draft.type, draft.key or "")
            self._expiry.pop(name, None)
            if draft.ttl_s is not None and not draft.gone:
                self._expiry[name] = now.mono - event.age_s + draft.ttl_s

    def _send(self, event: Event) -> None:
        reached = self._hub.publish(event)
        self._metrics.observe(EventPublished(event.type, reached))
        log.debug("published", type=event.type, key=event.key, seq=event.seq, clients=reached)
        if self._hub.dirty and not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self._hub.flush()
        self._end_the_slow()

    def _count_skipped(self, skipped: Mapping[str, int]) -> None:
        for event_type, count in skipped.items():
            self._metrics.observe(EventsSkipped(event_type, count))

    def _notice_interest(self) -> None:
        if not self._interest_noted:
            self._interest_noted = True
            asyncio.get_running_loop().call_soon(self._tell_of_interest)

    def _tell_of_interest(self) -> None:
        self._interest_noted = False
        self.on_interest()

    def _note_too_slow(self, connection: Connection, reason: str) -> None:
        if not self._too_slow:
            asyncio.get_running_loop().call_soon(self._end_the_slow)
        self._too_slow[connection] = reason

    def _end_the_slow(self) -> None:
        slow, self._too_slow = self._too_slow, {}
        for connection, reason in slow.items():
            log.warning(
                "client too slow", client_id=connection.id, reason=reason, skipped=connection.subscriber.skipped
            )
            connection.abort(CloseCode.TOO_SLOW, reason)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.options.heartbeat_interval_s)
            now, position = self.clock.now(), self.position
            data = Heartbeat(
                epoch=position.epoch,
                seq=position.seq,
                uptime_s=round(now.mono - self.started.mono, 3),
                clients=len(self._connections),
            )
            self._send(unplaced_event(Draft(type="heartbeat", data=raw(data)), timestamp=now.wall))

    async def _review(self) -> None:
        while True:
            await asyncio.sleep(REVIEW_S)
            now = self.clock.now()
            self._follow_clock(now)
            for connection in self.connections:
                # Thousands of them each second: nearly all are neither stuck nor here for a while only.
                if connection.subscriber.paused or connection.grant.expires_at is not None:
                    connection.review(now)
            self._publishers.forget_idle(now.mono)
            await self._expire(now.mono)

    async def _expire(self, now: float) -> None:
        """Forget the values whose time was over by `now`, some at a time. One may be published anew meanwhile."""
        due = [name for name, at in self._expiry.items() if at <= now]
        for at in range(0, len(due), EXPIRED_AT_ONCE):
            still_due = [name for name in due[at : at + EXPIRED_AT_ONCE] if self._expiry.get(name, math.inf) <= now]
            await self.publish([_gone(*name) for name in still_due])
            await asyncio.sleep(0)

    def _charge(self, grant: Grant, count: int) -> None:
        if wait_s := self._publishers.charge(grant.name, self.clock.now().mono, count):
            raise PublishError(
                f"expected at most {self.options.publishes.per_s:g} events per second (limits.publishes_per_s)"
                f" and publisher, got {count} too early",
                status=429,
                retry_after_s=math.ceil(wait_s),
            )

    def _follow_clock(self, now: Instant) -> None:
        step_s = self._clock_held.step_to(now)
        if step_s:
            self._clock_held = now
            log.warning("wall clock set", by_s=round(step_s, 3), now=rfc3339(now.wall))
            self.on_clock_set()

    def _connects_charged(self, now: float) -> float:
        return self.options.connects.charged(self._connects_owed_until, now)

    def _turn_away(self, message: str, reason: RefusalReason) -> AccessRefused:
        self._turned_away += 1
        retry_after_s = 1 + self._turned_away % RETRY_SPREAD_S
        return AccessRefused(503, message, reason=reason, retry_after_s=retry_after_s)

    def _check_publishable(self, event_type: str) -> None:
        if event_type in RESERVED_TYPES:
            raise PublishError(f"{event_type!r} is a name that only the gateway itself uses", status=403)
        if event_type in self.options.source_types:
            raise PublishError(f"{event_type!r} is polled from a backend: nobody else may publish it", status=403)

    def _draining_notice(self, retry_after_ms: int) -> Notification:
        data = NotificationData(
            level="warning",
            message="the gateway is draining: reconnect after retry_after_ms",
            code="DRAINING",
            retry_after_ms=retry_after_ms,
        )
        return Notification(timestamp=rfc3339(self.clock.now().wall), data=data)


def check_covered(event_types: Iterable[str], grant: Grant) -> None:
    """Raise `PublishError` (403) unless `grant` covers all that is published. Asked first of what leads to a 403.

    So whoever may not publish a type does not learn whether it is polled.
    """
    allowed = grant.allowed
    if uncovered := [each for each in event_types if not allowed.matches(each)]:
        raise PublishError(f"the token does not cover {', '.join(sorted(uncovered)[:SHOWN])}", status=403)


@lru_cache(maxsize=EVENT_TYPES)
def _check_event_type(event_type: str) -> None:
    try:
        check_event_type(event_type)
    except TopicError as error:
        raise PublishError(str(error), status=400) from error


def _gone(event_type: str, key: str) -> Draft:
    return Draft(type=event_type, key=key or None, data=msgspec.Raw(b"null"), retain=True, gone=True)


def _covered(patterns: Sequence[str], allowed: PatternSet) -> PatternSet:
    return PatternSet(pattern for pattern in patterns if may_subscribe(allowed, pattern))


def _has_visible(event_type: str, allowed: PatternSet) -> bool:
    """Whether there may be events of `event_type` that who covers `allowed` may see."""
    return event_type in UNCOVERED_PATTERNS or allowed.matches(event_type)
