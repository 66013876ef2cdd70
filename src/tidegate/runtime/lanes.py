"""The lanes on which drafts reach the bus: encoded once, and those of one poller in the order of its decisions.

A `Lane` belongs to one poller and has one batch in flight at a time. Drafts that are submitted meanwhile join the next
batch, so events and their outcomes keep their order. Knows nothing of what the events mean.
`runtime/event_publisher.py` makes the lanes, and hands their batches to the bus.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from tidegate.core.envelope import encode_draft
from tidegate.core.events import Draft, EncodedDraft, Position
from tidegate.core.instant import Instant
from tidegate.core.log_events import LimitedEvent
from tidegate.errors import BusError, BusUnknown
from tidegate.ports import Clock
from tidegate.runtime.deadline import deadline
from tidegate.runtime.limited_log import LoggedFault
from tidegate.runtime.pending_publish import PendingPublish

RETRY_S = 0.5
"""Seconds after an unknown outcome until the same batch is published again, with the same id.

Long enough not to flood a bus in trouble, and short enough that events are late by less than a poll's usual interval.
"""

log = structlog.get_logger("tidegate.publishing")


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
