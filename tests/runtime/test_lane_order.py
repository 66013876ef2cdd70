"""What one lane publishes after everything that the others were given before, though the bus is slow."""

import asyncio
from collections.abc import Sequence

import msgspec
from house import virtual

from tidegate.core.events import Draft, EncodedDraft, Position
from tidegate.errors import BusRefused
from tidegate.outbound.clock import SystemClock
from tidegate.runtime.event_publisher import EventPublisher


class SlowSession:
    """Publishes when told to."""

    position = Position("here", 0)

    def __init__(self) -> None:
        self.asked: list[tuple[str, asyncio.Future[Position]]] = []

    def publish(
        self,
        drafts: Sequence[EncodedDraft],
        *,
        id: str,  # noqa: A002 - what every bus calls it
        fence: int | None = None,
    ) -> asyncio.Future[Position]:
        outcome: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self.asked.append((drafts[0].draft.type, outcome))
        return outcome

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.asked]


def draft(name: str) -> list[Draft]:
    return [Draft(type=name, data=msgspec.Raw(b"0"))]


def nothing(*_: object) -> None:
    pass


@virtual
async def test_two_lanes_that_wait_for_each_other_both_go_on() -> None:
    session = SlowSession()
    publisher = EventPublisher(SystemClock(), stuck_after_s=5.0)
    publisher.open(session)
    one, other = publisher.lane("one"), publisher.lane("other")
    one.submit(draft("one.old"), taken=nothing, refused=nothing)
    other.submit(draft("other.old"), taken=nothing, refused=nothing)
    one.follow_others()
    one.submit(draft("one.new"), taken=nothing, refused=nothing)
    other.follow_others()
    other.submit(draft("other.new"), taken=nothing, refused=nothing)
    session.asked[0][1].set_result(Position("here", 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert session.names == ["one.old", "other.old"], "the other one has not answered"
    session.asked[1][1].set_exception(BusRefused("no"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert session.names[2:] == ["one.new"]
    session.asked[2][1].set_result(Position("here", 2))
    await asyncio.sleep(0)
    assert not one.is_busy
