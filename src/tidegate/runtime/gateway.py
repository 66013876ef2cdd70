"""The gateway in the middle: keeps the events that the bus delivers, and sends them to the clients.

Everything runs on one event loop, and no method here awaits between reading shared state and changing it. So a
subscribe cannot race with a publish.

The rest is elsewhere: who may connect and who is too slow in `runtime/clients.py`, what publishers may send in
`runtime/publishers.py`, how events reach the bus in `runtime/event_publisher.py`, how a client's requests are answered
in `runtime/connection.py`, and what happens once a second in `runtime/housekeeping.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import structlog

from tidegate.core.delivery.history import History
from tidegate.core.delivery.hub import WRITE_BYTES, Hub, Multicast
from tidegate.core.delivery.stream import Stream
from tidegate.core.delivery.traffic import Traffic
from tidegate.core.events import Draft, Event, Position
from tidegate.core.measurements import BusConnected
from tidegate.core.readings import Reading
from tidegate.core.topics import BUILT_IN_TYPES, PatternSet
from tidegate.ports import Authenticator, Bus, Clock, Metrics, Store
from tidegate.runtime.authentication import CurrentAuthenticator
from tidegate.runtime.beats import Beats
from tidegate.runtime.clients import ClientRegistry
from tidegate.runtime.conversation import ConnectionContext
from tidegate.runtime.default_patterns import DefaultPatterns
from tidegate.runtime.draining import drain, send_away
from tidegate.runtime.event_publisher import EventPublisher
from tidegate.runtime.gateway_options import GatewayOptions
from tidegate.runtime.housekeeping import Housekeeping
from tidegate.runtime.kept_values import KeptValues
from tidegate.runtime.lanes import Lane
from tidegate.runtime.publishers import Publishers
from tidegate.runtime.refusals import Refusals
from tidegate.runtime.request_counts import RequestCounts
from tidegate.runtime.snapshots import snapshot_pieces
from tidegate.runtime.traffic_readings import client_readings, kept_readings, traffic_readings

log = structlog.get_logger("tidegate.gateway")


class Gateway:
    """The state that pollers, publishers and clients share. Implements `tidegate.ports.Receiver` for the bus.

    Enter `open` before anything else, then restore what is `published`, and keep `run` running while clients are
    connected. `clients` and `publishers` are for the adapters; pollers publish through `lane`.
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
        store: Store | None = None,
    ) -> None:
        self.options = options
        self.clock = clock
        self.started = clock.now()
        self.on_interest: Callable[[], None] = lambda: None
        """Called after a client has subscribed to types that may have had no subscriber before."""
        self.on_clock_set: Callable[[], None] = lambda: None
        """Called after the wall clock was set: times that are saved on disk have to be saved again."""
        self.on_epoch_changed: Callable[[], None] = lambda: None
        """Called after the epoch changed: nothing that we published before exists in the new sequence."""
        self.refusals, self.requests = Refusals(metrics, clock), RequestCounts()
        self.authentication = CurrentAuthenticator(authenticator)
        """Checks tokens everywhere. Replaced by `authenticate_with`."""
        self._bus, self._metrics = bus, metrics
        self.observe = metrics.observe  # records what is counted and measured around it
        self._publisher = EventPublisher(clock, stuck_after_s=options.publish_timeout_s)
        self._kept = KeptValues(options, publisher=self._publisher, clock=clock, store=store)
        self.retained, self.published = self._kept.retained, self._kept.published
        self._history = History(max_events=options.history_events, max_bytes=options.history_bytes)
        self.traffic = Traffic([*options.source_types, *BUILT_IN_TYPES])
        write_bytes = options.send_limits.at_once(WRITE_BYTES)
        self._hub = Hub(self._history.epoch, multicast, traffic=self.traffic, write_bytes=write_bytes)
        self._stream = Stream(hub=self._hub, history=self._history, retained=self.retained, traffic=self.traffic)
        self._flush_due = False
        self._sending_away: asyncio.Task[None] | None = None
        self._defaults = DefaultPatterns(options.default_types)
        self.publishers = Publishers(options, self._kept, publisher=self._publisher, clock=clock)
        self.clients = self._make_clients()
        self._housekeeping = self._make_housekeeping()
        self._beats = Beats(self._hand_to_hub, clients=self.clients, history=self._history, clock=clock)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Stay connected to the bus while the context is open. Only then may anyone publish or connect.

        Raises `BusError` if the bus cannot be used.
        """
        async with self._bus.open(self) as session:
            self._publisher.open(session)
            self._begin_at(session.position)
            self._metrics.observe(BusConnected(connected=True))
            try:
                yield
            finally:
                self._publisher.close()
                self.published.save()
                if self._sending_away is not None:
                    self._sending_away.cancel()

    async def run(self) -> None:
        """Send heartbeats, and make the regular checks of `Housekeeping`, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beats.run())
            tasks.create_task(self._housekeeping.review())
            tasks.create_task(self._housekeeping.expire_values())

    async def drain(self, drain_s: float, *, at_least_s: float = 0.0) -> None:
        """See `tidegate.runtime.draining.drain`."""
        await drain(self.clients, self.clock, drain_s, at_least_s=at_least_s)

    def apply(self, options: GatewayOptions) -> None:
        """Take over other options at once, all in this step. Never raises.

        Who is connected stays connected, with the limits, buffers and interval of heartbeats from before. For the types
        of new and of removed sources see `KeptValues`. Do this before the sources themselves change.
        """
        self.traffic.begin(options.source_types - self.options.source_types)
        self.options = options
        self._stream.resize_history(max_events=options.history_events, max_bytes=options.history_bytes)
        self._publisher.set_stuck_after(options.publish_timeout_s)
        self.publishers.apply(options)
        self.clients.apply(options)
        at_once = [each.send_limits.at_once(WRITE_BYTES) for each in self.clients.connections]
        self._hub.write_bytes = min([options.send_limits.at_once(WRITE_BYTES), *at_once])
        self._kept.apply(options)
        self._beats.interval_changed()

    def authenticate_with(self, authenticator: Authenticator) -> None:
        """Check tokens with `authenticator` from now on, and those of open connections again (see `Rechecks`)."""
        self.authentication.replace(authenticator)
        self.clients.recheck()

    def readings(self) -> Iterator[Reading]:
        """Yield what the metrics show of clients and events now. Other things may happen between two."""
        yield from self.requests.readings()
        yield from traffic_readings(self.traffic)
        yield from kept_readings(self._history, self.retained, self.options)
        yield from client_readings(self.clients, self.options)

    @property
    def position(self) -> Position:
        """The position of the newest event delivered to this gateway."""
        return self._history.position

    def lane(self, name: str) -> Lane:
        """Return the lane of poller `name`, always the same one. It publishes in the order of its decisions."""
        return self._publisher.lane(name)

    async def publish(self, drafts: Sequence[Draft]) -> Position:
        """Publish `drafts` in one batch and return the position of the last. Does not check who publishes.

        See `EventPublisher.publish` for errors and cancellation.
        """
        if not drafts:
            return self.position
        return await self._publisher.publish(drafts)

    def refresh(self, event_type: str, as_of: float) -> None:
        """Show the newer `as_of` in snapshots of `event_type`: its values were polled again, and are unchanged.

        `as_of` is in Unix seconds. No event is published. Call this only when everything that was decided before has
        been taken by the bus. Otherwise an older value would get the new time.
        """
        self.retained.refresh(event_type, as_of, self.clock.now())

    def snapshot_pieces(self, event_type: str | None, *, allowed: PatternSet) -> Iterator[list[bytes]]:
        """See `tidegate.runtime.snapshots.snapshot_pieces`."""
        return snapshot_pieces(self.retained, self.clock, event_type, allowed=allowed)

    def is_wanted(self, event_type: str) -> bool:
        """Tell whether anyone is subscribed to `event_type`."""
        return self._stream.is_wanted(event_type)

    # tidegate.ports.Receiver: called by the bus

    def deliver(self, events: Sequence[Event]) -> None:
        now = self.clock.now()
        for event in events:
            if event.seq is not None and event.seq > self._history.newest:
                # The history first: a client that is still catching up reads from it, and would miss the event.
                self._stream.append(event)
                self._kept.note(event, now)
                self._hand_to_hub(event)
            # Otherwise it was delivered before: after a reconnect, a bus may deliver a few events again.

    def epoch_changed(self, position: Position) -> None:
        log.warning("another sequence of events has begun", before=str(self.position), now=str(position))
        # What is noted but not sent yet belongs to the old epoch, and the hub frames events with the current one.
        self._flush()
        self._kept.clear()
        leaving = self.clients.connections
        for connection in leaving:
            connection.detach()  # at once, so that none of them is sent events of both epochs
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

    def _make_clients(self) -> ClientRegistry:
        options = self.options
        return ClientRegistry(
            max_clients=options.max_clients,
            connects=options.connects,
            context=ConnectionContext(
                stream=self._stream,
                clock=self.clock,
                position=lambda: self._history.position,
                authenticate=self.authentication.verify,
                server=options.server,
                heartbeat_interval_s=options.heartbeat_interval_s,
                session_limits=options.session_limits,
                send_limits=options.send_limits,
                defaults=self._defaults,
            ),
            authentication=self.authentication,
            clock=self.clock,
            metrics=self._metrics,
            interested=self._tell_of_interest,
        )

    def _make_housekeeping(self) -> Housekeeping:
        return Housekeeping(
            clients=self.clients,
            publishers=self.publishers,
            expires=self.published.expires,
            publish=self.publish,
            clock_set=self._tell_of_clock_set,
            clock=self.clock,
            observe=self.observe,
        )

    def _begin_at(self, position: Position) -> None:
        """Take the next event as the one that follows `position`."""
        self._history.begin(position)
        self._hub.epoch = position.epoch
        self._defaults.epoch_began()

    def _hand_to_hub(self, event: Event) -> None:
        """Queue `event` for the clients that are subscribed to it. They are sent it at the end of this turn."""
        self._hub.publish(event)
        self.traffic.note_published(event)
        # Not at once: all events of one turn of the loop then cost each client one write.
        if self._hub.dirty and not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        began = self.clock.now().mono
        self._hub.flush()
        self.traffic.fan_out.note(self.clock.now().mono - began)
        # Only now: a client must not leave the hub while the hub is sending.
        self.clients.end_the_slow()

    def _tell_of_interest(self) -> None:
        self.on_interest()

    def _tell_of_clock_set(self) -> None:
        self.published.clock_set()
        self.on_clock_set()
