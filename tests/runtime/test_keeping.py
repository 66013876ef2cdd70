"""Work that is kept running: started again if it fails, and over when the context is left."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from house import House, source, virtual

from tidegate.runtime.keeping import kept_running


@virtual
async def test_a_part_that_fails_is_started_again() -> None:
    starts = []

    async def service() -> None:
        starts.append(asyncio.get_running_loop().time())
        raise RuntimeError("broken")

    async with kept_running({"service": service}, House(source()).gateway.clock):
        await asyncio.sleep(3.5)
    assert starts == pytest.approx([0.0, 1.0, 2.0, 3.0], abs=0.01)


@virtual
async def test_all_are_told_to_end_before_any_is_waited_for() -> None:
    ends = []

    def service(name: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(1.0)
                ends.append((name, asyncio.get_running_loop().time()))

        return run

    async with kept_running({name: service(name) for name in "ab"}, House(source()).gateway.clock):
        await asyncio.sleep(3.0)
    assert ends == [("a", 4.0), ("b", 4.0)]
    assert len(asyncio.all_tasks()) == 1
