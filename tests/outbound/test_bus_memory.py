from collections.abc import Sequence

from fanout import WALL, draft

from tidegate.core.envelope import encode_draft
from tidegate.core.events import EncodedDraft, Event, Position
from tidegate.outbound.bus_memory import MemoryBus


class Heard:
    """Implements `tidegate.ports.Receiver`: what was delivered, each time."""

    def __init__(self) -> None:
        self.delivered: list[list[tuple[int | None, str]]] = []

    def deliver(self, events: Sequence[Event]) -> None:
        self.delivered.append([(each.seq, each.type) for each in events])

    def epoch_changed(self, position: Position) -> None:
        raise AssertionError(position)

    def lost(self, why: str) -> None:
        raise AssertionError(why)

    def regained(self) -> None:
        raise AssertionError


def encoded(*event_types: str) -> list[EncodedDraft]:
    return [encode_draft(draft(each), timestamp=WALL) for each in event_types]


async def test_gives_consecutive_positions_and_delivers_in_one_go() -> None:
    heard = Heard()
    async with MemoryBus("e1").open(heard) as bus:
        assert bus.position == Position("e1", 0)
        assert bus.publish(encoded("a", "b"), id="1").result() == Position("e1", 2)
        assert bus.publish(encoded("c"), id="2").result() == bus.position == Position("e1", 3)
    assert heard.delivered == [[(1, "a"), (2, "b")], [(3, "c")]]


def test_every_process_has_an_epoch_of_its_own() -> None:
    first, second = MemoryBus().position, MemoryBus().position
    assert first.epoch != second.epoch
    assert Position.parse(str(first)) == first
