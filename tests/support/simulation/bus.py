"""A bus with everything that may be wrong with one: slow, refusing, silent, repeating itself, with holes.

It implements `tidegate.ports.Bus` on the running loop's time, which a test may make virtual. What it does is drawn
from a seed, so a world is the same each time.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import msgspec

from tidegate.core.envelope import event_at
from tidegate.core.events import EncodedDraft, Event, Position
from tidegate.errors import BusError, BusRefused, BusUnknown
from tidegate.ports import Receiver


class Troubles(msgspec.Struct, frozen=True, kw_only=True):
    """How often what goes wrong, as shares of all publishes.

    Each takes up to `latency_s`; unless `in_order`, one may overtake another that is in flight. Of those whose outcome
    is `unknown` half are stored all the same, up to `late_s` afterwards, and half never. A delivery `repeats` some
    events before it; `holes` are positions that are given to nothing.
    """

    latency_s: float = 0.0
    in_order: bool = True
    refused: float = 0.0
    unknown: float = 0.0
    late_s: float = 0.0
    repeats: float = 0.0
    holes: float = 0.0


NONE = Troubles()
REPEATED = 5
"""So many events are delivered again at the most."""


class UnsteadyBus:
    """One log for every receiver that opens it."""

    def __init__(self, troubles: Troubles = NONE, *, seed: object = 0, epoch: str = "here") -> None:
        self.troubles = troubles
        self.position = Position(epoch, 0)
        self.receivers: list[Receiver] = []
        self.log: list[Event] = []
        """Everything that is stored, in order."""
        self._rng = random.Random(f"bus {seed}")
        self._stored: dict[str, Position] = {}
        self._last_at = 0.0
        self._late: set[str] = set()  # ids that are stored soon, so they cannot be refused any more
        self._unheard: list[Event] | None = None  # while lost: what was stored meanwhile

    def open(self, receiver: Receiver) -> "_Opened":
        return _Opened(self, receiver)

    def publish(self, drafts: Sequence[EncodedDraft], *, id: str, fence: int | None = None) -> asyncio.Future[Position]:  # noqa: A002
        del fence
        assert drafts, "expected at least one draft"
        loop, troubles, rng = asyncio.get_running_loop(), self.troubles, self._rng
        outcome: asyncio.Future[Position] = loop.create_future()
        fate = rng.random()
        if self._unheard is not None:
            self._fail_soon(outcome, BusRefused("the bus is lost"))
        elif fate < troubles.refused and id not in self._stored and id not in self._late:
            self._fail_soon(outcome, BusRefused("drawn"))
        elif fate < troubles.refused + troubles.unknown:
            self._fail_soon(outcome, BusUnknown("drawn"))
            if rng.random() < 0.5:
                self._late.add(id)
                loop.call_later(rng.uniform(0, troubles.late_s), self._store, drafts, id, None)
        elif troubles.latency_s:
            loop.call_at(self._answer_at(), self._store, drafts, id, outcome)
        else:
            self._store(drafts, id, outcome)
        return outcome

    def lose(self, why: str) -> None:
        """Nothing is delivered or taken, until `regain`."""
        self._unheard = []
        for receiver in self.receivers:
            receiver.lost(why)

    def regain(self) -> None:
        """Deliver what was missed, and go on."""
        missed, self._unheard = self._unheard or [], None
        if missed:
            self._deliver(missed)
        for receiver in self.receivers:
            receiver.regained()

    def change_epoch(self, epoch: str) -> None:
        """The log is gone, and another begins where it ended."""
        self.log.clear()
        self._stored.clear()
        self.position = Position(epoch, self.position.seq)
        for receiver in self.receivers:
            receiver.epoch_changed(self.position)

    def _answer_at(self) -> float:
        at = asyncio.get_running_loop().time() + self._rng.uniform(0, self.troubles.latency_s)
        if self.troubles.in_order:
            at = self._last_at = max(at, self._last_at)
        return at

    def _fail_soon(self, outcome: asyncio.Future[Position], error: BusError) -> None:
        asyncio.get_running_loop().call_at(self._answer_at(), _fail, outcome, error)

    def _store(self, drafts: Sequence[EncodedDraft], id: str, outcome: asyncio.Future[Position] | None) -> None:  # noqa: A002
        """Give `drafts` their positions, once, and deliver them; then tell who waits for it."""
        if id not in self._stored:
            seq = self.position.seq
            if self._rng.random() < self.troubles.holes:
                seq += self._rng.randint(1, 3)
            events = [event_at(each, draft) for each, draft in enumerate(drafts, seq + 1)]
            self.log += events
            self.position = self._stored[id] = Position(self.position.epoch, seq + len(events))
            self._deliver(events)
        if outcome is not None and not outcome.done():
            outcome.set_result(self._stored[id])

    def _deliver(self, events: list[Event]) -> None:
        if self._unheard is not None:
            self._unheard += events
            return
        if self._rng.random() < self.troubles.repeats:
            known = len(self.log) - len(events)
            events = self.log[max(0, known - self._rng.randint(1, REPEATED)) : known] + events
        for receiver in self.receivers:
            receiver.deliver(events)


class _Opened(AbstractAsyncContextManager[UnsteadyBus]):
    def __init__(self, bus: UnsteadyBus, receiver: Receiver) -> None:
        self._bus = bus
        self._receiver = receiver

    async def __aenter__(self) -> UnsteadyBus:
        self._bus.receivers.append(self._receiver)
        return self._bus

    async def __aexit__(self, *_: object) -> None:
        self._bus.receivers.remove(self._receiver)


def _fail(outcome: asyncio.Future[Position], error: BusError) -> None:
    if not outcome.done():
        outcome.set_exception(error)
