"""The way of drafts to the bus: in the order in which they were decided, whatever the bus does.

A `Lane` belongs to one decider. It has one batch in flight at a time; what is submitted meanwhile joins the next one.
So nothing overtakes, and whoever submits hears in the same order what was taken. Knows nothing of what is published.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from tidegate.core.envelope import encode_draft
from tidegate.core.events import Draft, EncodedDraft, Position
from tidegate.core.instant import Instant
from tidegate.errors import BusError, BusUnknown
from tidegate.ports import Clock

REPEAT_S = 0.5
"""After an unknown outcome the same batch is handed over again so many seconds later."""

HandOver = Callable[[Sequence[EncodedDraft]], asyncio.Future[Position]]

log = structlog.get_logger("tidegate.publishing")


class Lane:
    """Publishes what one decider submits, in that order.

    `begin` is called for each batch, and returns how to hand it over, as often as needed: each time with the same id.
    `timeout_s` is for how long a batch may wait for its outcome before the lane `is_stuck`.
    """

    def __init__(self, name: str, begin: Callable[[], HandOver], *, clock: Clock, timeout_s: float) -> None:
        self._name = name
        self._begin = begin
        self._clock = clock
        self._timeout_s = timeout_s
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
        encoded = [encode_draft(draft, timestamp=now.wall) for draft in drafts]
        self._waiting.append(_Submitted(encoded, taken, refused, now.mono))
        if not self._in_flight:
            self._advance()

    def is_stuck(self, now: Instant) -> bool:
        """Whether a batch has been waiting for its outcome for longer than the time-out: then decide nothing new."""
        return bool(self._in_flight) and now.mono - self._in_flight[0].since > self._timeout_s

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
                self._hand_over(self._begin(), drafts)
            else:
                self._end(None)

    def _hand_over(self, hand_over: HandOver, drafts: Sequence[EncodedDraft]) -> None:
        outcome = hand_over(drafts)
        if outcome.done():
            self._conclude(outcome, hand_over, drafts)
            return

        def conclude(outcome: asyncio.Future[Position]) -> None:
            self._conclude(outcome, hand_over, drafts)
            self._advance()

        outcome.add_done_callback(conclude)

    def _conclude(self, outcome: asyncio.Future[Position], hand_over: HandOver, drafts: Sequence[EncodedDraft]) -> None:
        if outcome.cancelled():
            return  # the session has ended
        match outcome.exception():
            case None:
                self._end(None)
            case BusError() as error if not isinstance(error, BusUnknown):
                log.warning("publish refused", lane=self._name, events=len(drafts), error=str(error))
                # Decided in the belief that the batch before would be told: so it is not published either.
                self._in_flight += self._waiting
                self._waiting = []
                self._end(error)
            case error:
                # Whatever else a bus fails with tells as little as `BusUnknown`; to repeat is always safe.
                log.warning("publish outcome unknown", lane=self._name, events=len(drafts), error=repr(error))
                self._repeating = asyncio.create_task(self._repeat(hand_over, drafts))

    async def _repeat(self, hand_over: HandOver, drafts: Sequence[EncodedDraft]) -> None:
        await self._clock.sleep_until(self._clock.now().mono + REPEAT_S)
        self._hand_over(hand_over, drafts)
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
