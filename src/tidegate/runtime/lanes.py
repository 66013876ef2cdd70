"""The lanes on which drafts reach the bus: encoded once, and those of one poller in the order of its decisions.

`EventPublisher` hands drafts to the bus, which gives them their positions. A `Lane` belongs to one poller and has one
batch in flight at a time. Drafts that are submitted meanwhile join the next batch, so events and their outcomes keep
their order. Knows nothing of what the events mean.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from tidegate.core.envelope import encode_draft
from tidegate.core.events import Draft, EncodedDraft, Position
from tidegate.core.instant import Instant
from tidegate.core.log_events import LimitedEvent
from tidegate.errors import BusError, BusUnknown
from tidegate.ports import BusSession, Clock
from tidegate.runtime.deadline import deadline
from tidegate.runtime.limited_log import LoggedFault
from tidegate.runtime.pending_publish import PendingPublish

RETRY_S = 0.5
"""Seconds after an unknown outcome until the same batch is published again, with the same id.

Long enough not to flood a bus in trouble, and short enough that events are late by less than a poll's usual interval.
"""

log = structlog.get_logger("tidegate.publishing")


class EventPublisher:
    """Publishes on one session of the bus, from `open` to `close`."""

    def __init__(self, clock: Clock, *, stuck_after_s: float) -> None:
        self._clock = clock
        self._stuck_after_s = stuck_after_s
        self._session: BusSession | None = None
        self._closed = False
        # Ids must not repeat those of an earlier process: the bus would take new drafts for ones that it has.
        self._id_prefix = secrets.token_hex(6)
        self._publishes = 0
        self._lanes: dict[str, Lane] = {}

    def open(self, session: BusSession) -> None:
        """Publish on `session` from now on."""
        self._session = session

    def close(self) -> None:
        """Stop all retries: the session is about to end."""
        self._closed = True
        for lane in self._lanes.values():
            lane.close()

    def set_stuck_after(self, stuck_after_s: float) -> None:
        """Change after how many seconds a lane is stuck, for all of them."""
        self._stuck_after_s = stuck_after_s
        for lane in self._lanes.values():
            lane.stuck_after_s = stuck_after_s

    def lane(self, name: str) -> "Lane":
        """Return the lane of poller `name`. Always the same one."""
        lane = self._lanes.get(name)
        if lane is None:
            lane = Lane(name, self.start, others=self._lanes, clock=self._clock, stuck_after_s=self._stuck_after_s)
            self._lanes[name] = lane
        return lane

    async def publish(self, drafts: Sequence[Draft]) -> Position:
        """Publish `drafts`, at least one, in one batch and return the position of the last.

        While the outcome is unknown, it is tried again, for as long as it takes. Raises `BusRefused`, or `BusUnknown`
        if the gateway leaves the bus before the outcome is known. If it is cancelled, all are published or none.
        """
        return await self.outcome_within(self.hand_over(drafts), None)

    def hand_over(self, drafts: Sequence[Draft]) -> PendingPublish:
        """Hand `drafts`, at least one, to the bus in one batch. Wait for the outcome with `outcome_within`."""
        return self.start(encoded(drafts, self._clock.now()))

    def start(self, drafts: Sequence[EncodedDraft]) -> PendingPublish:
        """Hand `drafts`, at least one, to the bus with the timestamps that they have."""
        assert self._session is not None, "only an open gateway publishes"
        self._publishes += 1
        return PendingPublish(self._session, f"{self._id_prefix}.{self._publishes}", drafts)

    async def outcome_within(self, pending: PendingPublish, within_s: float | None) -> Position:
        """Wait for the position of `pending`; retry while the outcome is unknown, for at most `within_s` seconds.

        None: for as long as it takes. Raises `BusRefused`; or, after that time or once the gateway leaves the bus,
        `BusUnknown` (perhaps published, now or later).
        """
        ends = None if within_s is None else self._clock.now().mono + within_s
        while True:
            if not await pending.done_by(self._clock, ends):
                raise BusUnknown(f"no outcome within {within_s:g} s")
            failure = pending.failure()
            if not isinstance(failure, BusUnknown):
                return pending.result()
            retry_at = self._clock.now().mono + RETRY_S
            if ends is not None and retry_at >= ends:
                raise BusUnknown(f"no outcome within {within_s:g} s: {failure}") from failure
            await self._clock.sleep_until(retry_at)
            if self._closed:
                raise BusUnknown(f"no outcome before the gateway left the bus: {failure}") from failure
            pending.retry()


def encoded(drafts: Sequence[Draft], now: Instant) -> list[EncodedDraft]:
    """Encode `drafts` with `now` as their timestamp."""
    return [encode_draft(draft, timestamp=now.wall) for draft in drafts]


class Lane:
    """Publishes what one poller submits, in the order in which it was submitted.

    `start` hands a batch to the bus. `others` are all lanes. The lane `is_stuck` once a batch has waited for its
    outcome, or for other lanes, for longer than `stuck_after_s` seconds.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[Sequence[EncodedDraft]], PendingPublish],
        *,
        others: Mapping[str, "Lane"],
        clock: Clock,
        stuck_after_s: float,
    ) -> None:
        self._name = name
        self._failing = LoggedFault.by(clock, "tidegate.gateway", LimitedEvent.PUBLISH_FAILED, over="published again")
        self._start = start
        self._others = others
        self._clock = clock
        self.stuck_after_s = stuck_after_s
        self._waiting: list[_Submitted | _Barrier] = []
        self._in_flight: list[_Submitted] = []
        self._retrying: asyncio.Task[None] | None = None
        self._closed = False

    def submit(
        self, drafts: Sequence[Draft], *, taken: Callable[[], None], refused: Callable[[BusError], None]
    ) -> None:
        """Publish `drafts`, perhaps none, after everything submitted before. Their `timestamp` is now.

        Exactly one of `taken` and `refused` is called, once, and in the order of the calls of `submit`. If the bus
        answers at once, it is called before `submit` returns.

        `taken`: the drafts were published and delivered to this gateway. `refused`: they were not published and will
        not be. Everything that waited behind them is refused too: it was decided in the belief that they would be.

        `taken` may submit again; `refused` must not, or a bus that refuses everything would make an endless loop.
        Neither should raise: an exception is logged, and the next one is called. After `close`, neither is called.
        """
        now = self._clock.now()
        self._waiting.append(_Submitted(encoded(drafts, now), taken, refused, now.mono))
        if not self._in_flight:
            self._publish_waiting()

    def follow_others(self) -> None:
        """Publish what is submitted from now on after everything that the other lanes were given until now."""
        busy = [lane for lane in self._others.values() if lane is not self and lane.is_busy]
        barrier = _Barrier(len(busy), self._clock.now().mono)
        self._waiting += [barrier] if busy else []

        def answered(_: BusError | None = None) -> None:
            barrier.awaited -= 1
            if not self._in_flight:
                self._publish_waiting()

        for lane in busy:
            lane.submit([], taken=answered, refused=answered)

    @property
    def is_busy(self) -> bool:
        """Whether something that was submitted has no outcome yet."""
        return bool(self._in_flight or self._waiting)

    def is_stuck(self, now: Instant) -> bool:
        """Whether a batch has waited for its outcome too long. The poller then starts no polls."""
        oldest = next(iter(self._in_flight or self._waiting), None)
        return oldest is not None and now.mono - oldest.since > self.stuck_after_s

    async def settled(self) -> bool:
        """Wait until everything submitted so far was taken or refused, but not longer than `stuck_after_s` seconds.

        Returns whether it was. What was not yet is still published, later.
        """
        done = asyncio.Event()
        self.submit([], taken=done.set, refused=lambda _: done.set())
        with suppress(TimeoutError):
            async with deadline(self._clock, self.stuck_after_s):
                await done.wait()
        return done.is_set()

    def close(self) -> None:
        """Publish nothing more, and retry nothing. A publish that is under way may still succeed."""
        self._closed = True
        if self._retrying is not None:
            self._retrying.cancel()

    def _publish_waiting(self) -> None:
        """Publish what waits, batch by batch, for as long as the bus answers at once."""
        while not self._in_flight and not self._closed:
            self._take_waiting()
            if not self._in_flight:
                return
            drafts = [draft for each in self._in_flight for draft in each.drafts]
            if drafts:
                self._conclude_when_done(self._start(drafts))
            else:
                self._call_back(None)

    def _take_waiting(self) -> None:
        """Put what waits in flight, up to the first barrier that is closed."""
        for number, each in enumerate(self._waiting):
            if isinstance(each, _Submitted):
                self._in_flight.append(each)
            elif each.awaited:
                self._waiting = self._waiting[number:]
                return
        self._waiting = []

    def _conclude_when_done(self, pending: PendingPublish) -> None:
        if pending.outcome.done():
            self._conclude(pending)
            return

        def conclude(_: asyncio.Future[Position]) -> None:
            self._conclude(pending)
            self._publish_waiting()

        pending.outcome.add_done_callback(conclude)

    def _conclude(self, pending: PendingPublish) -> None:
        failure = pending.failure()
        if self._closed:
            return
        if failure is None:
            self._failing.fine(lane=self._name)
            self._call_back(None)
        elif isinstance(failure, BusUnknown):
            self._failing.occurred(lane=self._name, error=repr(failure), outcome="unknown")
            self._retrying = asyncio.create_task(self._retry(pending))
        else:
            self._failing.occurred(lane=self._name, error=str(failure), outcome="refused")
            # What waits was decided in the belief that this batch would be published: refuse it too.
            self._in_flight += [each for each in self._waiting if isinstance(each, _Submitted)]
            self._waiting = [each for each in self._waiting if isinstance(each, _Barrier)]
            self._call_back(failure)

    async def _retry(self, pending: PendingPublish) -> None:
        await self._clock.sleep_until(self._clock.now().mono + RETRY_S)
        pending.retry()
        self._conclude_when_done(pending)
        self._publish_waiting()

    def _call_back(self, error: BusError | None) -> None:
        """Tell everyone whose drafts are in the batch in flight what became of it: no `error` means taken."""
        # The batch stays in flight until the last callback returns: `submit` in a callback must only queue its drafts,
        # or they would overtake those that were submitted before.
        for each in self._in_flight:
            try:
                if error is None:
                    each.taken()
                else:
                    each.refused(error)
            except Exception:
                log.exception("a publisher failed at the outcome of what it published", lane=self._name)
        self._in_flight = []


class _Submitted:
    """The drafts of one `submit`, when it was called (monotonic), and its callbacks."""

    __slots__ = ("drafts", "refused", "since", "taken")

    def __init__(
        self,
        drafts: Sequence[EncodedDraft],
        taken: Callable[[], None],
        refused: Callable[[BusError], None],
        since: float,
    ) -> None:
        self.drafts = drafts
        self.taken = taken
        self.refused = refused
        self.since = since


class _Barrier:
    """Nothing behind it is published while any of the `awaited` lanes has yet to answer. It is there since (mono)."""

    __slots__ = ("awaited", "since")

    def __init__(self, awaited: int, since: float) -> None:
        self.awaited = awaited
        self.since = since
