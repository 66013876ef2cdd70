"""The way of drafts to the bus: each encoded once, and in the order in which they were decided, whatever the bus does.

A `Lane` belongs to one decider. It has one batch in flight at a time; what is submitted meanwhile joins the next one.
So nothing overtakes, and whoever submits hears in the same order what was taken. Knows nothing of what is published.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence

import msgspec
import structlog

from tidegate.core.envelope import encode_draft
from tidegate.core.events import Draft, EncodedDraft, Position
from tidegate.core.instant import Instant
from tidegate.errors import BusError, BusUnknown
from tidegate.ports import BusSession, Clock

REPEAT_S = 0.5
"""After an unknown outcome the same is handed over again so many seconds later."""

log = structlog.get_logger("tidegate.publishing")


class EventPublisher:
    """Publishes on one session of the bus, from `begin` to `close`."""

    def __init__(self, clock: Clock, *, stuck_after_s: float) -> None:
        self._clock = clock
        self._stuck_after_s = stuck_after_s
        self._session: BusSession | None = None
        self._incarnation = secrets.token_hex(6)
        self._publishes = 0
        self._lanes: dict[str, Lane] = {}

    def begin(self, session: BusSession) -> None:
        """Publish on `session` from now on."""
        self._session = session

    def close(self) -> None:
        """The session is about to end: hand nothing over again."""
        for lane in self._lanes.values():
            lane.close()

    def lane(self, name: str) -> "Lane":
        """Where the decider `name` publishes; always the same one."""
        lane = self._lanes.get(name)
        if lane is None:
            lane = Lane(name, self._attempt, clock=self._clock, stuck_after_s=self._stuck_after_s)
            self._lanes[name] = lane
        return lane

    async def publish(self, drafts: Sequence[Draft]) -> Position:
        """Publish `drafts`, at least one, in one go; the position of the last.

        Cancelling it publishes all of them or none. Raises `BusError`.
        """
        outcome = self.attempt(drafts).outcome
        return outcome.result() if outcome.done() else await asyncio.shield(outcome)

    def attempt(self, drafts: Sequence[Draft]) -> "Attempt":
        """Hand `drafts`, at least one, over in one go; see `outcome_within` for what comes of it."""
        return self._attempt(encoded(drafts, self._clock.now()))

    async def outcome_within(self, attempt: "Attempt", within_s: float) -> Position:
        """What came of `attempt`: repeated where that is unknown, and given up `within_s` seconds from now.

        Raises `BusRefused`, or `BusUnknown` in the end: then they may have been published, or may be yet.
        """
        ends = self._clock.now().mono + within_s
        while True:
            outcome = attempt.outcome
            if not outcome.done() and not await done_by(outcome, self._clock, ends):
                raise BusUnknown(f"no outcome within {within_s:g} s")
            error = outcome.exception()
            if error is None:
                return outcome.result()
            if not is_unknown(error):
                raise error
            repeat_at = self._clock.now().mono + REPEAT_S
            if repeat_at >= ends:
                raise BusUnknown(f"no outcome within {within_s:g} s: {error}") from error
            await self._clock.sleep_until(repeat_at)
            attempt.repeat()

    def _attempt(self, drafts: Sequence[EncodedDraft]) -> "Attempt":
        assert self._session is not None, "only an open gateway publishes"
        self._publishes += 1
        return Attempt(self._session, f"{self._incarnation}.{self._publishes}", drafts)


class Attempt:
    """One publish, however often it is handed over: always with the same `id`. `outcome` is that of the last time."""

    __slots__ = ("_drafts", "_id", "_session", "outcome")

    def __init__(self, session: BusSession, id: str, drafts: Sequence[EncodedDraft]) -> None:  # noqa: A002
        self._session = session
        self._id = id
        self._drafts = drafts
        self.outcome = session.publish(drafts, id=id)

    @property
    def position(self) -> Position | None:
        """Where it was published, if that is known already."""
        outcome = self.outcome
        return outcome.result() if outcome.done() and outcome.exception() is None else None

    def repeat(self) -> None:
        """Hand the same over again: it is published once."""
        self.outcome = self._session.publish(self._drafts, id=self._id)


def encoded(drafts: Sequence[Draft], now: Instant) -> list[EncodedDraft]:
    """`drafts` as they are published `now`."""
    return [encode_draft(draft, timestamp=now.wall) for draft in drafts]


def gone(event_type: str, key: str) -> Draft:
    """The event that takes a retained value away; `key` is "" where the type has no keys."""
    return Draft(type=event_type, key=key or None, data=msgspec.Raw(b"null"), retain=True, gone=True)


def is_unknown(error: BaseException) -> bool:
    """Whether what a publish failed with leaves open what became of it.

    Whatever a bus fails with besides its own errors tells as little as `BusUnknown`; to repeat is always safe.
    """
    return isinstance(error, BusUnknown) or not isinstance(error, BusError)


async def done_by(outcome: asyncio.Future[Position], clock: Clock, at: float) -> bool:
    """Wait for `outcome` until the monotonic time `at`, whatever it is; whether it has come. It is never cancelled."""
    slept = asyncio.ensure_future(clock.sleep_until(at))
    try:
        await asyncio.wait((outcome, slept), return_when=asyncio.FIRST_COMPLETED)
    finally:
        slept.cancel()
        # Nobody may be left to ask for it.
        outcome.add_done_callback(_note_heard)
    return outcome.done()


class Lane:
    """Publishes what one decider submits, in that order.

    `begin` hands a batch over for the first time. A batch may wait for its outcome for `stuck_after_s` before the lane
    `is_stuck`.
    """

    def __init__(
        self,
        name: str,
        begin: Callable[[Sequence[EncodedDraft]], Attempt],
        *,
        clock: Clock,
        stuck_after_s: float,
    ) -> None:
        self._name = name
        self._begin = begin
        self._clock = clock
        self._stuck_after_s = stuck_after_s
        self._waiting: list[_Submitted] = []
        self._in_flight: list[_Submitted] = []
        self._repeating: asyncio.Task[None] | None = None

    def submit(
        self, drafts: Sequence[Draft], *, taken: Callable[[], None], refused: Callable[[BusError], None]
    ) -> None:
        """Publish `drafts`, which may be none, after everything that was submitted before.

        Their `timestamp` is now. Exactly one of `taken` and `refused` is called, once, in the order of `submit`;
        where the bus answers at once, before this returns. `taken`: they have been published, and delivered to this
        gateway. `refused`: they have not been, and will not be; all that waited behind them is refused too, since it
        was decided in the belief that they would be told. `taken` may submit again; `refused` may not, or it would go
        on for ever. They should not raise: that is logged, and the next one has its turn.
        """
        now = self._clock.now()
        self._waiting.append(_Submitted(encoded(drafts, now), taken, refused, now.mono))
        if not self._in_flight:
            self._advance()

    def is_stuck(self, now: Instant) -> bool:
        """Whether a batch has been waiting for its outcome for longer than the time-out: then decide nothing new."""
        return bool(self._in_flight) and now.mono - self._in_flight[0].since > self._stuck_after_s

    async def settled(self) -> None:
        """Wait until everything that was submitted so far has been taken or refused."""
        done = asyncio.Event()
        self.submit([], taken=done.set, refused=lambda _: done.set())
        await done.wait()

    def close(self) -> None:
        """Hand nothing over again. What is under way ends as it may, and nobody is told."""
        if self._repeating is not None:
            self._repeating.cancel()

    def _advance(self) -> None:
        """Hand over what waits, batch by batch, for as long as the outcome comes at once."""
        while self._waiting and not self._in_flight:
            self._in_flight, self._waiting = self._waiting, []
            drafts = [draft for each in self._in_flight for draft in each.drafts]
            if drafts:
                self._await_outcome(self._begin(drafts))
            else:
                self._end(None)

    def _await_outcome(self, attempt: Attempt) -> None:
        if attempt.outcome.done():
            self._conclude(attempt)
            return

        def conclude(_: asyncio.Future[Position]) -> None:
            self._conclude(attempt)
            self._advance()

        attempt.outcome.add_done_callback(conclude)

    def _conclude(self, attempt: Attempt) -> None:
        if attempt.outcome.cancelled():
            return  # the session has ended
        error = attempt.outcome.exception()
        if error is None:
            self._end(None)
        elif is_unknown(error):
            log.warning("publish outcome unknown", lane=self._name, error=repr(error))
            self._repeating = asyncio.create_task(self._repeat(attempt))
        else:
            assert isinstance(error, BusError)
            log.warning("publish refused", lane=self._name, error=str(error))
            # Decided in the belief that the batch before would be told: so it is not published either.
            self._in_flight += self._waiting
            self._waiting = []
            self._end(error)

    async def _repeat(self, attempt: Attempt) -> None:
        await self._clock.sleep_until(self._clock.now().mono + REPEAT_S)
        attempt.repeat()
        self._await_outcome(attempt)
        self._advance()

    def _end(self, error: BusError | None) -> None:
        """Tell the batch in flight what became of it. The lane is free only after that: what is submitted in answer
        comes after everything that was submitted before."""
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
    """What was submitted at once, when (monotonic), and who is told of its outcome."""

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


def _note_heard(outcome: asyncio.Future[Position]) -> None:
    if not outcome.cancelled():
        outcome.exception()
