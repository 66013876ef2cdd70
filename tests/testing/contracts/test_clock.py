import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from house import LoopClock
from simulation.virtual import VirtualLoop, WorldClock

from tidegate.outbound.clock import SystemClock
from tidegate.ports import Clock
from tidegate.testing import ManualClock
from tidegate.testing.contracts import ClockContract


class TestSystemClock(ClockContract):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Clock]:
        yield SystemClock()

    async def test_monotonic_time_is_that_of_the_event_loop(self) -> None:
        assert SystemClock().now().mono == pytest.approx(asyncio.get_running_loop().time(), abs=1.0)


class TestManualClock(ClockContract):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Clock]:
        yield ManualClock()

    async def passes(self, clock: Clock, seconds: float) -> None:
        assert isinstance(clock, ManualClock)
        clock.advance(seconds)
        await asyncio.sleep(0)

    def test_time_passes_when_the_test_says_so(self) -> None:
        clock = ManualClock()
        before = clock.now()
        clock.advance(2.5)
        assert (clock.now().mono - before.mono, clock.now().wall - before.wall) == (2.5, 2.5)

    async def test_who_sleeps_is_woken_when_time_passes(self) -> None:
        clock, woken = ManualClock(), []

        async def sleep(seconds: float) -> None:
            await clock.sleep_until(clock.now().mono + seconds)
            woken.append(seconds)

        async with asyncio.TaskGroup() as sleepers:
            for seconds in (3.0, 1.0, 2.0):
                sleepers.create_task(sleep(seconds))
            given_up = sleepers.create_task(sleep(1.5))
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.sleep(0)
            assert woken == []
            clock.advance(2.0)
            await asyncio.sleep(0)
            assert woken == [1.0, 2.0]
            clock.advance(1.0)
        assert woken == [1.0, 2.0, 3.0]


class TestLoopClock(ClockContract):
    """That of the runtime's tests."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Clock]:
        yield LoopClock()


class TestWorldClock(ClockContract):
    """That of the simulation."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Clock]:
        yield WorldClock(cast("VirtualLoop", asyncio.get_running_loop()))
