"""What a lane promises, on a bus whose answers the test gives."""

import asyncio
from collections.abc import Sequence
from enum import StrEnum, auto

import pytest
from fanout import draft
from structlog.testing import capture_logs

from tidegate.core.events import EncodedDraft, Position
from tidegate.errors import BusError, BusRefused, BusUnknown
from tidegate.runtime.event_publisher import EventPublisher
from tidegate.runtime.lanes import RETRY_S, Lane
from tidegate.testing import ManualClock

AT_ONCE = Position("e1", 1)


class ScriptedSession:
    """Implements `tidegate.ports.BusSession`: every publish waits until the test ends it, unless `at_once`."""

    def __init__(self, *, at_once: BaseException | Position | None = None) -> None:
        self.position = Position("e1", 0)
        self.at_once = at_once
        self.asked: list[tuple[str, list[str]]] = []
        """The id and the types of every publish, in order."""
        self.stamps: list[list[float]] = []
        self._waiting: list[asyncio.Future[Position]] = []

    def publish(self, drafts: Sequence[EncodedDraft], *, id: str, fence: int | None = None) -> asyncio.Future[Position]:  # noqa: A002
        assert fence is None
        self.asked.append((id, [each.draft.type for each in drafts]))
        self.stamps.append([each.timestamp for each in drafts])
        outcome: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._waiting.append(outcome)
        if self.at_once is not None:
            self.answer(self.at_once)
        return outcome

    def answer(self, outcome: BaseException | Position = AT_ONCE) -> None:
        """End the oldest publish that waits."""
        waiting = self._waiting.pop(0)
        if isinstance(outcome, asyncio.CancelledError):
            waiting.cancel()
        elif isinstance(outcome, BaseException):
            waiting.set_exception(outcome)
        else:
            waiting.set_result(outcome)

    @property
    def batches(self) -> list[list[str]]:
        return [types for _, types in self.asked]


class Decider:
    """Submits drafts by their type, and notes what it is told of them."""

    def __init__(self, session: ScriptedSession) -> None:
        self.clock = ManualClock()
        publisher = EventPublisher(self.clock, stuck_after_s=5.0)
        publisher.open(session)
        self.lane: Lane = publisher.lane("engine")
        self.told: list[str] = []
        self.errors: list[BusError] = []

    def submit(self, *event_types: str) -> None:
        name = "".join(event_types)

        def refused(error: BusError) -> None:
            self.told.append(f"-{name}")
            self.errors.append(error)

        drafts = [draft(each) for each in event_types]
        self.lane.submit(drafts, taken=lambda: self.told.append(f"+{name}"), refused=refused)


async def turn() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_a_bus_that_answers_at_once_is_told_of_before_submit_returns() -> None:
    session = ScriptedSession(at_once=AT_ONCE)
    decider = Decider(session)
    decider.submit("a", "b")
    decider.submit("c")
    assert session.batches == [["a", "b"], ["c"]]
    assert decider.told == ["+ab", "+c"]


async def test_what_is_submitted_while_a_batch_is_in_flight_joins_the_next_one() -> None:
    session = ScriptedSession()
    decider = Decider(session)
    for name in "abc":
        decider.submit(name)
    assert (session.batches, decider.told) == ([["a"]], [])
    session.answer()
    await turn()
    assert (session.batches, decider.told) == ([["a"], ["b", "c"]], ["+a"])
    session.answer()
    await turn()
    assert decider.told == ["+a", "+b", "+c"]


async def test_a_draft_tells_when_it_was_submitted_however_long_it_waited() -> None:
    session = ScriptedSession()
    decider = Decider(session)
    decider.submit("a")
    submitted = decider.clock.now().wall
    decider.submit("b")
    decider.clock.advance(3.0)
    session.answer()
    await turn()
    assert session.stamps[1] == [submitted]


async def test_an_unknown_outcome_is_repeated_with_the_same_id_and_nothing_overtakes() -> None:
    session = ScriptedSession()
    decider = Decider(session)
    decider.submit("a")
    decider.submit("b")
    for _ in range(3):
        session.answer(BusUnknown("no answer"))
        await turn()
        decider.clock.advance(RETRY_S)
        await turn()
    assert (session.batches, decider.told) == ([["a"]] * 4, [])
    assert len({each for each, _ in session.asked}) == 1
    session.answer()
    await turn()
    assert session.batches[-1] == ["b"]
    assert session.asked[-1][0] != session.asked[0][0]


@pytest.mark.parametrize("error", [OSError("broken"), ValueError("a bus with a mistake")])
async def test_what_a_bus_should_not_fail_with_leaves_the_outcome_unknown(error: Exception) -> None:
    session = ScriptedSession()
    decider = Decider(session)
    decider.submit("a")
    session.answer(error)
    await turn()
    decider.clock.advance(RETRY_S)
    await turn()
    assert session.batches == [["a"], ["a"]]


async def test_a_refused_batch_takes_with_it_what_was_decided_after_it() -> None:
    session = ScriptedSession()
    decider = Decider(session)
    for name in "abc":
        decider.submit(name)
    error = BusRefused("full")
    session.answer(error)
    await turn()
    assert decider.told == ["-a", "-b", "-c"]
    assert decider.errors == [error] * 3
    assert session.batches == [["a"]]
    decider.submit("d")
    assert session.batches == [["a"], ["d"]], "and the lane is free"


async def test_what_is_submitted_in_answer_comes_after_everything_before_it() -> None:
    session = ScriptedSession()
    decider = Decider(session)
    decider.lane.submit([draft("a")], taken=lambda: decider.submit("e"), refused=decider.errors.append)
    for name in "bc":
        decider.submit(name)
    for _ in range(2):
        session.answer()
        await turn()
    assert session.batches == [["a"], ["b", "c", "e"]]
    assert decider.told == ["+b", "+c", "+e"]


async def test_nothing_to_publish_has_its_turn_all_the_same() -> None:
    session = ScriptedSession()
    decider = Decider(session)
    decider.submit("a")
    decider.submit()
    assert decider.told == []
    session.answer()
    await turn()
    assert (decider.told, session.batches) == (["+a", "+"], [["a"]])


async def test_a_decider_that_fails_at_its_answer_does_not_keep_the_others_from_theirs() -> None:
    session = ScriptedSession(at_once=AT_ONCE)
    decider = Decider(session)

    def fail() -> None:
        raise RuntimeError("a mistake of the decider's")

    decider.lane.submit([draft("a")], taken=fail, refused=decider.errors.append)
    decider.submit("b")
    assert decider.told == ["+b"]


async def test_it_is_stuck_once_a_batch_has_waited_for_too_long() -> None:
    session = ScriptedSession()
    decider = Decider(session)
    decider.submit("a")
    decider.clock.advance(5.0)
    assert not decider.lane.is_stuck(decider.clock.now())
    decider.clock.advance(0.1)
    assert decider.lane.is_stuck(decider.clock.now())
    session.answer()
    await turn()
    assert not decider.lane.is_stuck(decider.clock.now())


@pytest.mark.parametrize("outcome", [AT_ONCE, BusRefused("full")])
async def test_it_has_settled_when_everything_before_was_answered(outcome: BaseException | Position) -> None:
    session = ScriptedSession()
    decider = Decider(session)
    await asyncio.wait_for(decider.lane.settled(), 5)
    decider.submit("a")
    settled = asyncio.create_task(decider.lane.settled())
    await turn()
    assert not settled.done()
    session.answer(outcome)
    await turn()
    assert settled.done()
    assert decider.told in (["+a"], ["-a"])


class Defect(StrEnum):
    """What a bus may do with a publish, and must not."""

    RAISES = auto()
    RAISES_UNKNOWN = auto()
    RETURNS_NONE = auto()
    CANCELS = auto()
    STOPS_ITERATION = auto()


class DefectiveSession(ScriptedSession):
    """Has one of the `defects` at each publish, until there are no more. From then on it answers at once."""

    def __init__(self, *defects: Defect) -> None:
        super().__init__(at_once=AT_ONCE)
        self.defects = list(defects)

    def publish(self, drafts: Sequence[EncodedDraft], *, id: str, fence: int | None = None) -> asyncio.Future[Position]:  # noqa: A002
        outcome = super().publish(drafts, id=id, fence=fence)
        match self.defects.pop(0) if self.defects else None:
            case Defect.RAISES:
                raise RuntimeError("a mistake of the bus's")
            case Defect.RAISES_UNKNOWN:
                raise BusUnknown("no answer")
            case Defect.STOPS_ITERATION:
                raise StopIteration
            case Defect.RETURNS_NONE:
                return None  # type: ignore[return-value]
            case Defect.CANCELS:
                outcome = asyncio.get_running_loop().create_future()
                outcome.cancel()
        return outcome


@pytest.mark.parametrize("defect", Defect)
async def test_whatever_a_bus_does_with_a_publish_it_is_repeated_until_the_outcome_is_known(defect: Defect) -> None:
    session = DefectiveSession(defect, defect)
    decider = Decider(session)
    with capture_logs() as lines:
        decider.submit("a")
        decider.submit("b")
        for _ in range(2):
            await turn()
            decider.clock.advance(RETRY_S)
            await turn()
    assert session.batches == [["a"], ["a"], ["a"], ["b"]]
    assert len({each for each, _ in session.asked}) == 2
    assert decider.told == ["+a", "+b"]
    (line,) = [line for line in lines if line["event"] == "publish failed"]
    assert line["outcome"] == "unknown"


async def test_a_bus_that_raises_a_refusal_has_refused() -> None:
    class Raising(ScriptedSession):
        def publish(self, *_: object, **__: object) -> asyncio.Future[Position]:
            raise BusRefused("full")

    decider = Decider(Raising())
    decider.submit("a")
    decider.submit("b")
    assert decider.told == ["-a", "-b"]


@pytest.mark.parametrize("defect", Defect)
async def test_a_publish_of_our_own_is_repeated_until_its_outcome_is_known(defect: Defect) -> None:
    clock = ManualClock()
    publisher = EventPublisher(clock, stuck_after_s=5.0)
    publisher.open(DefectiveSession(defect))
    publishing = asyncio.create_task(publisher.publish([draft("a")]))
    await turn()
    assert not publishing.done()
    clock.advance(RETRY_S)
    assert await publishing == AT_ONCE


async def test_a_publish_of_our_own_ends_with_the_session() -> None:
    clock = ManualClock()
    publisher = EventPublisher(clock, stuck_after_s=5.0)
    publisher.open(DefectiveSession(Defect.RAISES))
    publishing = asyncio.create_task(publisher.publish([draft("a")]))
    await turn()
    publisher.close()
    clock.advance(RETRY_S)
    with pytest.raises(BusUnknown):
        await publishing


@pytest.mark.parametrize("defect", Defect)
async def test_a_publisher_is_told_once_the_outcome_is_known(defect: Defect) -> None:
    clock = ManualClock()
    publisher = EventPublisher(clock, stuck_after_s=5.0)
    publisher.open(DefectiveSession(defect))
    pending = publisher.hand_over([draft("a")])
    assert pending.position is None
    waiting = asyncio.create_task(publisher.outcome_within(pending, 5.0))
    await turn()
    clock.advance(RETRY_S)
    assert await waiting == AT_ONCE


async def test_one_that_is_cancelled_while_it_waits_leaves_the_publish_to_the_bus() -> None:
    session = ScriptedSession()
    publisher = EventPublisher(ManualClock(), stuck_after_s=5.0)
    publisher.open(session)
    waiting = asyncio.create_task(publisher.publish([draft("a")]))
    await turn()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    session.answer()  # raises if its future was cancelled


@pytest.mark.parametrize("outcome", [BusUnknown("no answer"), OSError("broken"), asyncio.CancelledError()])
async def test_a_lane_that_is_closed_repeats_nothing_and_publishes_nothing_more(outcome: BaseException) -> None:
    session = ScriptedSession()
    decider = Decider(session)
    decider.submit("a")
    decider.submit("b")
    decider.lane.close()
    session.answer(outcome)
    await turn()
    decider.clock.advance(RETRY_S)
    await turn()
    decider.submit("c")
    await turn()
    assert (session.batches, decider.told) == ([["a"]], [])


async def test_closing_ends_the_retries_of_lanes_and_publishers() -> None:
    session = ScriptedSession()
    clock = ManualClock()
    publisher = EventPublisher(clock, stuck_after_s=5.0)
    publisher.open(session)
    publisher.lane("engine").submit([draft("a")], taken=lambda: None, refused=lambda _: None)
    waiting = asyncio.create_task(publisher.outcome_within(publisher.hand_over([draft("b")]), 5.0))
    await turn()
    for _ in range(2):
        session.answer(BusUnknown("no answer"))
    await turn()
    publisher.close()
    clock.advance(RETRY_S)
    with pytest.raises(BusUnknown, match="left the bus"):
        await waiting
    assert session.batches == [["a"], ["b"]]


async def test_it_waits_no_longer_for_a_silent_bus_than_a_publisher_does() -> None:
    session = ScriptedSession()
    decider = Decider(session)
    decider.submit("a")
    settled = asyncio.create_task(decider.lane.settled())
    await turn()
    decider.clock.advance(4.9)
    await turn()
    assert not settled.done()
    decider.clock.advance(0.1)
    assert await settled is False
    session.answer()
    await turn()
    assert decider.told == ["+a"], "nothing is lost by that"
    assert await decider.lane.settled()
