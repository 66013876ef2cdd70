import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from house import LoopClock
from simulation.virtual import VirtualLoop, WorldClock

from tidegate.outbound.clock import SystemClock, boot_time
from tidegate.ports import Clock
from tidegate.testing import ManualClock
from tidegate.testing.contracts import ClockContract


class TestSystemClock(ClockContract):
    asleep_s = 0.0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Clock]:
        read = boot_time()
        yield SystemClock(mono=lambda: read() + self.asleep_s, wall=lambda: time.time() + self.asleep_s)

    async def sleeps(self, clock: Clock, seconds: float) -> None:
        self.asleep_s += seconds


class TestManualClock(ClockContract):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Clock]:
        yield ManualClock()

    async def passes(self, clock: Clock, seconds: float) -> None:
        assert isinstance(clock, ManualClock)
        clock.advance(seconds)
        await asyncio.sleep(0)

    async def sleeps(self, clock: Clock, seconds: float) -> None:
        """Its timers are called as soon as it is awake, so that is the same."""
        await self.passes(clock, seconds)

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
