"""The parts that are open: those that are made beside them take their places, or are closed again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from structlog.testing import capture_logs

from tidegate import open_parts
from tidegate.open_parts import OpenParts


class Doors:
    """Context managers by name, and which of them are open."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.stuck = asyncio.Event()
        self.stuck.set()

    @asynccontextmanager
    async def door(self, name: str, *, fails: bool = False) -> AsyncIterator[str]:
        self.open.append(name)
        try:
            yield name
        finally:
            await self.stuck.wait()
            self.open.remove(name)
            if fails:
                raise OSError(name)


async def test_all_are_closed_at_the_end() -> None:
    doors = Doors()
    async with OpenParts() as opened:
        assert await opened.open("a", doors.door("first")) == "first"
        await opened.open("b", doors.door("second"))
        assert doors.open == ["first", "second"]
    assert doors.open == []


async def test_what_is_made_beside_is_closed_again_unless_it_takes_over() -> None:
    doors = Doors()
    async with OpenParts() as opened:
        await opened.open("a", doors.door("old"))
        with suppress(OSError):
            async with opened.beside() as new:
                await new.open("a", doors.door("new"))
                raise OSError("broken")
        assert doors.open == ["old"]
        async with opened.beside() as new:
            await new.open("a", doors.door("new"))
            opened.take_over(new)
            assert doors.open == ["old", "new"]
        await asyncio.sleep(0.01)
        assert doors.open == ["new"]
    assert doors.open == []


async def test_what_is_dropped_is_closed_when_its_time_has_come() -> None:
    doors, over = Doors(), asyncio.get_running_loop().create_future()
    async with OpenParts() as opened:
        await opened.open("a", doors.door("a"))
        await opened.open("b", doors.door("b"))
        opened.take_over(OpenParts(), dropped=["a", "b", "unknown"], after={"b": over})
        await asyncio.sleep(0.01)
        assert doors.open == ["b"]
        over.set_exception(OSError("whatever it ended with"))
        await asyncio.sleep(0.01)
        assert doors.open == []


async def test_a_part_that_fails_to_close_keeps_no_other_open() -> None:
    doors = Doors()
    with capture_logs() as lines:
        async with OpenParts() as opened:
            await opened.open("a", doors.door("a", fails=True))
            await opened.open("b", doors.door("b"))
    assert doors.open == []
    assert [line["log_level"] for line in lines] == ["error"]


async def test_the_end_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_parts, "END_S", 0.05)
    doors = Doors()
    async with OpenParts() as opened:
        await opened.open("a", doors.door("a"))
        doors.stuck.clear()
    assert doors.open == ["a"]
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
