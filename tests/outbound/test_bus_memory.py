from collections.abc import Sequence

from fanout import draft

from tidegate.core.events import Draft, Position
from tidegate.outbound.bus_memory import MemoryBus


async def test_gives_consecutive_positions_and_delivers_in_one_go() -> None:
    bus = MemoryBus("e1")
    delivered: list[list[tuple[int, str]]] = []

    def deliver(drafts: Sequence[tuple[int, Draft]]) -> None:
        delivered.append([(seq, each.type) for seq, each in drafts])

    bus.connect(deliver)
    assert bus.position == Position("e1", 0)
    assert await bus.publish([draft("a"), draft("b")]) == Position("e1", 2)
    assert await bus.publish([draft("c")]) == bus.position == Position("e1", 3)
    assert delivered == [[(1, "a"), (2, "b")], [(3, "c")]]


def test_every_process_has_an_epoch_of_its_own() -> None:
    first, second = MemoryBus().position, MemoryBus().position
    assert first.epoch != second.epoch
    assert Position.parse(str(first)) == first
