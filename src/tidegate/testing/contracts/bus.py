"""The contract of `tidegate.ports.Bus`."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from itertools import count

from msgspec import Raw

from tidegate.core.envelope import encode_draft, event_at
from tidegate.core.events import Draft, EncodedDraft, Event, Position
from tidegate.errors import BusRefused, BusUnknown
from tidegate.ports import Bus, BusSession

AT = 1_795_000_000.25
WITHIN_S = 10.0


class HeardEvents:
    """Implements `tidegate.ports.Receiver`. Records each event once, even if the bus delivers it again."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.again: list[Event] = []
        self.epochs: list[Position] = []

    def deliver(self, events: Sequence[Event]) -> None:
        """Record `events`. Check that they ascend, and that a repeated position has the same event."""
        assert events, "expected at least one event"
        for event in events:
            assert event.seq is not None
            known = {each.seq: each for each in self.events}
            if event.seq in known:
                assert known[event.seq].json == event.json
                self.again.append(event)
            else:
                assert not self.events or event.seq > (self.events[-1].seq or 0)
                self.events.append(event)

    def epoch_changed(self, position: Position) -> None:
        """Record the new epoch."""
        self.epochs.append(position)

    def lost(self, why: str) -> None:
        """Not tested here."""

    def regained(self) -> None:
        """Not tested here."""

    @property
    def types(self) -> list[str]:
        """The types of the delivered events, in order."""
        return [event.type for event in self.events]


class BusContract(ABC):
    """Tests for a bus. `opened` makes a new one each time.

    The bus may be slow, refuse a publish, or not know its outcome: the tests repeat each publish until it succeeds.
    """

    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[Bus]:
        """Make a bus on which nothing has been published."""

    async def test_a_publish_is_delivered_in_one_piece_before_it_is_done(self) -> None:
        heard = HeardEvents()
        async with self.opened() as bus, bus.open(heard) as session:
            position = await published(session, drafts("a", "b"), id="1")
            assert heard.types == ["a", "b"]
            assert position == session.position == Position(position.epoch, heard.events[-1].seq or 0)
            first, last = (event.seq or 0 for event in heard.events)
            assert last == first + 1

    async def test_positions_ascend_in_the_order_of_publishes_that_were_waited_for(self) -> None:
        heard = HeardEvents()
        async with self.opened() as bus, bus.open(heard) as session:
            begin = session.position
            positions = [await published(session, drafts(f"t{n}"), id=str(n)) for n in range(20)]
        assert positions == sorted(positions)
        assert {position.epoch for position in positions} == {begin.epoch}
        assert positions[0] > begin
        assert heard.types == [f"t{n}" for n in range(20)]

    async def test_the_envelope_is_the_publishers_with_the_position_in_it(self) -> None:
        heard = HeardEvents()
        (handed,) = drafts("a.b")
        async with self.opened() as bus, bus.open(heard) as session:
            await published(session, [handed], id="1")
        (event,) = heard.events
        assert event.seq is not None
        assert event.json == event_at(event.seq, handed).json
        assert event.draft == handed.draft
        assert (event.timestamp, event.age_s >= 0.0) == (AT, True)

    async def test_the_same_id_is_published_once(self) -> None:
        heard = HeardEvents()
        async with self.opened() as bus, bus.open(heard) as session:
            first = await published(session, drafts("a"), id="1")
            await published(session, drafts("b"), id="2")
            assert await published(session, drafts("a"), id="1") == first
            await published(session, drafts("c"), id="3")
        assert heard.types == ["a", "b", "c"]

    async def test_publishes_at_once_are_each_in_one_piece(self) -> None:
        heard = HeardEvents()
        async with self.opened() as bus, bus.open(heard) as session:
            batches = [drafts(*[f"t{n}"] * (n + 1)) for n in range(8)]
            await asyncio.gather(*(published(session, batch, id=str(n)) for n, batch in enumerate(batches)))
        assert sorted(heard.types) == sorted(each.draft.type for batch in batches for each in batch)
        pieces = [name for name, before in zip(heard.types, [None, *heard.types], strict=False) if name != before]
        assert len(pieces) == len(batches)

    async def test_everyone_who_listens_is_delivered_the_same(self) -> None:
        heard = [HeardEvents(), HeardEvents()]
        async with self.opened() as bus, bus.open(heard[0]) as one, bus.open(heard[1]) as other:
            await published(one, drafts("a", "b"), id="1")
            await published(other, drafts("c"), id="2")
            await published(one, drafts("d"), id="3")
        alike = [[(event.seq, event.json) for event in each.events] for each in heard]
        assert alike[0] == alike[1]
        assert heard[0].types == ["a", "b", "c", "d"]

    async def test_a_publish_whose_future_is_cancelled_is_published_or_not_but_whole(self) -> None:
        heard = HeardEvents()
        async with self.opened() as bus, bus.open(heard) as session:
            session.publish(drafts("a", "a"), id="1").cancel()
            await published(session, drafts("b"), id="2")
            await published(session, drafts("a", "a"), id="1")
        assert sorted(heard.types) == ["a", "a", "b"]


def drafts(*event_types: str) -> list[EncodedDraft]:
    """One draft of each type, encoded."""
    return [encode_draft(Draft(type=each, data=Raw(b'{"n":1.10}')), timestamp=AT) for each in event_types]


async def published(session: BusSession, handed: Sequence[EncodedDraft], *, id: str) -> Position:  # noqa: A002
    """Publish `handed`, and repeat until it succeeds. The same `id` makes the repetition safe after `BusUnknown`."""
    async with asyncio.timeout(WITHIN_S):
        for attempt in count():
            outcome = session.publish(handed, id=id)  # must not raise: whatever becomes of it, the future tells
            assert isinstance(outcome, asyncio.Future), f"expected a future, got {type(outcome).__name__}"
            try:
                return await outcome
            except (BusUnknown, BusRefused):
                await asyncio.sleep(0.001 * min(attempt, 50))
    raise AssertionError
