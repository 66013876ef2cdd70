"""The state that everybody shares: what was published, what is kept, and who is connected.

Everything happens on one event loop, and nothing in here waits between reading shared state and changing it. That is
why a subscribe has no race with a publish. Who may connect, who may publish, and how everybody is seen off have
modules of their own; this one puts them together, and takes what the bus delivers.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec
import structlog

from tidegate.core.built_in import RETAINED, Heartbeat
from tidegate.core.envelope import raw, unplaced_event
from tidegate.core.events import Draft, Event, Position
from tidegate.core.history import History
from tidegate.core.hub import Hub, Multicast
from tidegate.core.instant import Instant, rfc3339
from tidegate.core.measurements import BusConnected, EventPublished, EventsSkipped
from tidegate.core.published import PublishedValues
from tidegate.core.rate import Rate
from tidegate.core.retained import Name, Retained
from tidegate.core.session import SessionLimits
from tidegate.core.stream import Stream
from tidegate.core.subscriber import SendLimits
from tidegate.core.topics import PatternSet
from tidegate.errors import BusError
from tidegate.ports import Authenticator, Bus, Clock, Metrics
from tidegate.runtime.clients import ClientRegistry
from tidegate.runtime.connection import Connection
from tidegate.runtime.conversation import Surroundings
from tidegate.runtime.draining import drain, send_away
from tidegate.runtime.publishers import Publishers
from tidegate.runtime.publishing import EventPublisher, gone
from tidegate.runtime.refusals import Refusals
from tidegate.runtime.snapshots import snapshot_pieces

REVIEW_S = 1.0
"""How often connections and retained values are looked through for what time has decided."""

EXPIRED_AT_ONCE = 500
"""So many retained values whose time is over are forgotten before others have their turn."""

log = structlog.get_logger("tidegate.gateway")


class GatewayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway is told at start. `source_types` are polled, so nobody else may publish them.

    `retained_keys`, `retained_bytes` (of data) and `publishes` (of each publisher) bound what comes from outside. What
    the bus has not answered for `publish_timeout_s` is given up, or keeps its publisher from deciding more. `drain_s`
    is over how many seconds everybody is sent away where another sequence of events begins.
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
    drain_s: float = 5.0
    session_limits: SessionLimits
    send_limits: SendLimits


class Gateway:
    """What everybody shares, on one event loop. Implements `tidegate.ports.Receiver`.

    Enter `open` before anything else; `run` must be running while clients are connected.
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
        self.on_interest: Callable[[], None] = lambda: None
        """Called when somebody may have become interested in more types."""
        self.on_clock_set: Callable[[], None] = lambda: None
        """Called when the wall clock was set: what is kept outside with a time of its own has to be kept anew."""
        self.on_epoch_changed: Callable[[], None] = lambda: None
        """Called when another sequence has begun, in which nothing was published yet that we knew."""
        ours = [*sorted(options.source_types), *RETAINED]
        self.retained = Retained(ours)
        self._published = PublishedValues(
            self.retained, ours=ours, max_keys=options.retained_keys, max_bytes=options.retained_bytes
        )
        self.refusals = Refusals(metrics, clock)
        self._bus = bus
        self._metrics = metrics
        self._debug = log.debug  # looked up once: structlog takes longer to find it than the hub to note an event
        self._history = History(max_events=options.history_events, max_bytes=options.history_bytes)
        self._hub = Hub(self._history.epoch, multicast)
        self._stream = Stream(
            hub=self._hub, history=self._history, retained=self.retained, count_skipped=self._count_skipped
        )
        self._flush_due = False
        self._expiry: dict[Name, float] = {}
        self._clock_held = self.started
        self._sending_away: asyncio.Task[None] | None = None
        self._publisher = EventPublisher(clock, stuck_after_s=options.publish_timeout_s)
        self.publishers = Publishers(
            source_types=options.source_types,
            event_bytes=options.event_bytes,
            publishes=options.publishes,
            timeout_s=options.publish_timeout_s,
            published=self._published,
            retained=self.retained,
            publisher=self._publisher,
            clock=clock,
        )
        self.clients = ClientRegistry(
            max_clients=options.max_clients,
            connects=options.connects,
            default_types=options.default_types,
            around=Surroundings(
                stream=self._stream,
                clock=clock,
                position=lambda: self._history.position,
                authenticate=authenticator.verify,
                server=options.server,
                heartbeat_interval_s=options.heartbeat_interval_s,
                session_limits=options.session_limits,
                send_limits=options.send_limits,
            ),
            clock=clock,
            metrics=metrics,
            interested=self._tell_of_interest,
        )
        # Others ask the gateway, whatever part of it answers.
        self.publish_from_outside = self.publishers.publish
        self.begin_from_outside = self.publishers.begin
        self.check_count = self.publishers.check_count
        self.forget = self.publishers.forget
        self.check_room = self.clients.check_room
        self.patterns_for = self.clients.patterns_for
        self.connect = self.clients.connect
        self.disconnect = self.clients.disconnect
        self.lane = self._publisher.lane

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Be connected to the bus while the context is open: only then may anything be published, or anyone connect.

        Raises `BusError` where the bus cannot be used.
        """
        async with self._bus.open(self) as session:
            self._publisher.begin(session)
            self._begin_at(session.position)
            try:
                yield
            finally:
                self._publisher.close()
                if self._sending_away is not None:
                    self._sending_away.cancel()

    async def run(self) -> None:
        """Heartbeats and what time decides, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            tasks.create_task(self._review())
            tasks.create_task(self._forget_expired())

    async def drain(self, drain_s: float, *, at_least_s: float = 0.0) -> None:
        """See `tidegate.runtime.draining.drain`."""
        await drain(self.clients, self.clock, drain_s, at_least_s=at_least_s)

    @property
    def draining(self) -> bool:
        """Whether nobody is let in any more, since the gateway is about to end."""
        return self.clients.draining

    @property
    def drain_left_s(self) -> int:
        """While draining: seconds until it is over at the latest, rounded up, and no less than 1."""
        return self.clients.drain_left_s

    @property
    def position(self) -> Position:
        """The newest position that was delivered here."""
        return self._history.position

    @property
    def connections(self) -> list[Connection]:
        """Everyone who is connected now, oldest first."""
        return self.clients.connections

    async def publish(self, drafts: Sequence[Draft]) -> Position:
        """Publish `drafts` in one go; the position of the last. Cancelling it publishes all of them or none.

        Raises `BusError`.
        """
        return await self._publisher.publish(drafts) if drafts else self.position

    def refresh(self, event_type: str, as_of: float) -> None:
        """Unchanged values of `event_type` were seen again: snapshots carry the newer `as_of` (Unix seconds).

        No event tells of it. Call it where a lane says that everything decided before was taken.
        """
        self.retained.refresh(event_type, as_of, self.clock.now())

    def snapshots(self, event_type: str | None, *, allowed: PatternSet) -> list[bytes]:
        """All of `snapshot_pieces` at once."""
        return [json for piece in self.snapshot_pieces(event_type, allowed=allowed) for json in piece]

    def snapshot_pieces(self, event_type: str | None, *, allowed: PatternSet) -> Iterator[list[bytes]]:
        """See `tidegate.runtime.snapshots.snapshot_pieces`."""
        return snapshot_pieces(self.retained, self.clock, event_type, allowed=allowed)

    def is_wanted(self, event_type: str) -> bool:
        """Whether anyone is subscribed to `event_type`."""
        return self._stream.is_wanted(event_type)

    # what the bus calls, as `tidegate.ports.Receiver` says

    def deliver(self, events: Sequence[Event]) -> None:
        now = self.clock.now()
        for event in events:
            if event.seq is not None and event.seq > self._history.newest:
                self._stream.append(event)
                self._keep(event, now)
                self._send(event)
            # else it was delivered before: a bus may begin a little earlier after a reconnect

    def epoch_changed(self, position: Position) -> None:
        log.warning("another sequence of events has begun", before=str(self.position), now=str(position))
        self._flush()
        self.retained.clear()
        self._published.clear()
        self._expiry.clear()
        leaving = self.clients.connections
        for connection in leaving:
            connection.detach()
        self._begin_at(position)
        if self._sending_away is not None:
            self._sending_away.cancel()
        self._sending_away = asyncio.create_task(
            send_away(leaving, self.clients, self.clock, self.options.drain_s), name="send away"
        )
        self.on_epoch_changed()

    def lost(self, why: str) -> None:
        log.error("bus lost", why=why)
        self.publishers.refused_for = why
        self._metrics.observe(BusConnected(connected=False))

    def regained(self) -> None:
        log.info("bus regained", position=str(self.position))
        self.publishers.refused_for = None
        self._metrics.observe(BusConnected(connected=True))

    def _begin_at(self, position: Position) -> None:
        """The sequence of events is that of `position`, and goes on from there."""
        self._history.begin(position)
        self._hub.epoch = position.epoch

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
        draft = event.draft
        self._metrics.observe(EventPublished(draft.type, reached))
        self._debug("published", type=draft.type, key=draft.key, seq=event.seq, clients=reached)
        if self._hub.dirty and not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self._hub.flush()
        self.clients.end_the_slow()

    def _count_skipped(self, skipped: Mapping[str, int]) -> None:
        for event_type, count in skipped.items():
            self._metrics.observe(EventsSkipped(event_type, count))

    def _tell_of_interest(self) -> None:
        self.on_interest()

    async def _beat(self) -> None:
        while True:
            await self.clock.sleep_until(self.clock.now().mono + self.options.heartbeat_interval_s)
            now, position = self.clock.now(), self.position
            data = Heartbeat(
                epoch=position.epoch,
                seq=position.seq,
                uptime_s=round(now.mono - self.started.mono, 3),
                clients=len(self.clients),
            )
            self._send(unplaced_event(Draft(type="heartbeat", data=raw(data)), timestamp=now.wall))

    async def _review(self) -> None:
        while True:
            await self.clock.sleep_until(self.clock.now().mono + REVIEW_S)
            now = self.clock.now()
            self._follow_clock(now)
            for connection in self.connections:
                # Thousands of them each second: nearly all are neither stuck nor here for a while only.
                if connection.subscriber.paused or connection.grant.expires_at is not None:
                    connection.review(now)
            self.publishers.forget_idle(now.mono)

    async def _forget_expired(self) -> None:
        # Apart from the review: a bus that takes its time must not keep stuck clients from being ended.
        while True:
            await self.clock.sleep_until(self.clock.now().mono + REVIEW_S)
            with suppress(BusError):  # it is tried again in the next round
                await self._expire(self.clock.now().mono)

    async def _expire(self, now: float) -> None:
        """Forget the values whose time was over by `now`, some at a time. One may be published anew meanwhile."""
        due = [name for name, at in self._expiry.items() if at <= now]
        for at in range(0, len(due), EXPIRED_AT_ONCE):
            renewed = self.publishers.names_under_way()
            some = [name for name in due[at : at + EXPIRED_AT_ONCE] if self._expiry.get(name, math.inf) <= now]
            await self.publish([gone(*name) for name in some if name not in renewed])
            await asyncio.sleep(0)

    def _follow_clock(self, now: Instant) -> None:
        step_s = self._clock_held.step_to(now)
        if step_s:
            self._clock_held = now
            log.warning("wall clock set", by_s=round(step_s, 3), now=rfc3339(now.wall))
            self.on_clock_set()
