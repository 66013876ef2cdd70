from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidegate.outbound.bus_memory import REMEMBERED, MemoryBus
from tidegate.ports import Bus
from tidegate.testing.contracts.bus import BusContract, HeardEvents, drafts


class TestMemoryBus(BusContract):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Bus]:
        yield MemoryBus()


async def test_it_answers_at_once() -> None:
    heard = HeardEvents()
    async with MemoryBus("e1").open(heard) as bus:
        assert (bus.position.epoch, bus.position.seq) == ("e1", 0)
        assert bus.publish(drafts("a", "b"), id="1").result().seq == 2
        assert bus.publish(drafts("c"), id="2").result() == bus.position
    assert [(event.seq, event.type) for event in heard.events] == [(1, "a"), (2, "b"), (3, "c")]


async def test_the_newest_ids_are_remembered_and_no_more_than_so_many() -> None:
    async with MemoryBus().open(HeardEvents()) as bus:
        for n in range(3 * REMEMBERED):
            bus.publish(drafts("a"), id=str(n))
        newest = bus.position
        for n in range(2 * REMEMBERED, 3 * REMEMBERED):
            bus.publish(drafts("a"), id=str(n))
        assert bus.position == newest
        assert len(bus._taken) + len(bus._taken_before) <= 2 * REMEMBERED


def test_every_process_has_an_epoch_of_its_own() -> None:
    assert MemoryBus().position.epoch != MemoryBus().position.epoch
