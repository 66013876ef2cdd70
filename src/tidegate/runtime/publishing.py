"""How drafts reach the bus: encoded once, and from each poller in the order of its decisions, whatever the bus does.

The bus gives a draft its position, here in `Attempt`. A `Lane` belongs to one poller and has one batch in flight at a
time; drafts submitted meanwhile join the next batch. So they keep their order, and so do the outcomes that the poller
is told. Knows nothing of what the events mean.
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
"""Seconds after an unknown outcome until the same batch is published again, with the same id."""

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
        """Use `session` from now on."""
        self._session = session

    def close(self) -> None:
        """Stop all retries: the session is about to end."""
        for lane in self._lanes.values():
            lane.close()

    def lane(self, name: str) -> "Lane":
        """Return the lane of poller `name`. Always the same one."""
        lane = self._lanes.get(name)
        if lane is None:
            lane = Lane(name, self._attempt, clock=self._clock, stuck_after_s=self._stuck_after_s)
            self._lanes[name] = lane
        return lane

    async def publish(self, drafts: Sequence[Draft]) -> Position:
        """Publish `drafts`, at least one, in one batch and return the position of the last.

        Raises `BusError`. If it is cancelled, all of them are published or none.
        """
        outcome = self.attempt(drafts).outcome
        return outcome.result() if outcome.done() else await asyncio.shield(outcome)

    def attempt(self, drafts: Sequence[Draft]) -> "Attempt":
        """Hand `drafts`, at least one, to the bus in one batch. Wait for the outcome with `outcome_within`."""
        return self._attempt(encoded(drafts, self._clock.now()))

    async def outcome_within(self, attempt: "Attempt", within_s: float) -> Position:
        """Wait for the position of `attempt`; retry while the outcome is unknown, for at most `within_s` seconds.

        Raises `BusRefused`, or after that time `BusUnknown` (perhaps published, now or later).
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
    """One publish and its retries, all with the same `id`. `outcome` is that of the last try."""

    __slots__ = ("_drafts", "_id", "_session", "outcome")

    def __init__(self, session: BusSession, id: str, drafts: Sequence[EncodedDraft]) -> None:  # noqa: A002
        self._session = session
        self._id = id
        self._drafts = drafts
        self.outcome = session.publish(drafts, id=id)

    @property
    def position(self) -> Position | None:
        """The position of the last draft, if it is known already."""
        outcome = self.outcome
        return outcome.result() if outcome.done() and outcome.exception() is None else None

    def repeat(self) -> None:
        """Try again. The bus knows the `id`, so the drafts are published once."""
        self.outcome = self._session.publish(self._drafts, id=self._id)


def encoded(drafts: Sequence[Draft], now: Instant) -> list[EncodedDraft]:
    """Encode `drafts` with `now` as their timestamp."""
    return [encode_draft(draft, timestamp=now.wall) for draft in drafts]


def gone(event_type: str, key: str) -> Draft:
    """The event that takes a retained value away; `key` is "" where the type has no keys."""
    return Draft(type=event_type, key=key or None, data=msgspec.Raw(b"null"), retain=True, gone=True)


def is_unknown(error: BaseException) -> bool:
    """Whether the drafts may have been published although the publish failed with `error`.

    An error that is no `BusError` says as little as `BusUnknown`. A retry is always safe.
    """
    return isinstance(error, BusUnknown) or not isinstance(error, BusError)


async def done_by(outcome: asyncio.Future[Position], clock: Clock, at: float) -> bool:
    """Wait for `outcome`, success or failure, until the monotonic time `at`. Whether it is done. Never cancels it."""
    slept = asyncio.ensure_future(clock.sleep_until(at))
    try:
        await asyncio.wait((outcome, slept), return_when=asyncio.FIRST_COMPLETED)
    finally:
        slept.cancel()
        # After a timeout nobody asks for its exception, and asyncio would log that.
        outcome.add_done_callback(_note_heard)
    return outcome.done()


class Lane:
    """Publishes what one poller submits, in that order.

    `begin` makes the first attempt at a batch. The lane `is_stuck` once a batch has waited for its outcome for longer
    than `stuck_after_s`.
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
        """Publish `drafts`, perhaps none, after everything submitted before. Their `timestamp` is now.

        Exactly one of `taken` and `refused` is called, once, in the order of `submit`; if the bus answers at once,
        before this returns. `taken`: the drafts were published and delivered to this gateway. `refused`: they were not
        and will not be. Everything that waited behind them is refused too, because it was decided in the belief that
        they would be published.

        `taken` may submit again; `refused` must not, or a bus that refuses everything would make an endless loop.
        Neither should raise: an exception is logged, and the next one is called.
        """
        now = self._clock.now()
        self._waiting.append(_Submitted(encoded(drafts, now), taken, refused, now.mono))
        if not self._in_flight:
            self._advance()

    def is_stuck(self, now: Instant) -> bool:
        """Whether a batch has waited for its outcome longer than the timeout. The poller then starts no polls."""
        return bool(self._in_flight) and now.mono - self._in_flight[0].since > self._stuck_after_s

    async def settled(self) -> None:
        """Wait until everything submitted so far was taken or refused."""
        done = asyncio.Event()
        self.submit([], taken=done.set, refused=lambda _: done.set())
        await done.wait()

    def close(self) -> None:
        """Stop retrying. A publish that is under way may still succeed; nobody is told."""
        if self._repeating is not None:
            self._repeating.cancel()

    def _advance(self) -> None:
        """Publish what waits, batch by batch, while the bus answers at once."""
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
            # What waits was decided in the belief that this batch would be published: refuse it too.
            self._in_flight += self._waiting
            self._waiting = []
            self._end(error)

    async def _repeat(self, attempt: Attempt) -> None:
        await self._clock.sleep_until(self._clock.now().mono + REPEAT_S)
        attempt.repeat()
        self._await_outcome(attempt)
        self._advance()

    def _end(self, error: BusError | None) -> None:
        """Call back for each part of the batch in flight. The lane stays busy until the last one returns: drafts that a
        callback submits must come after everything submitted before."""
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


def _note_heard(outcome: asyncio.Future[Position]) -> None:
    if not outcome.cancelled():
        outcome.exception()
