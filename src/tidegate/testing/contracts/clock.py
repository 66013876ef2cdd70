"""The contract of `tidegate.ports.Clock`."""

import asyncio
import unittest
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import pairwise

from tidegate.ports import Clock
from tidegate.testing.contracts.expectations import until

STEP_S = 0.05
"""How long a test waits at a time: long enough for a real clock to measure, short enough for a test."""

LONG_S = 1.1
"""A wait that is long enough for a clock to treat it otherwise than a short one."""

ASLEEP_S = 60.0
"""How long a test lets the machine sleep."""

AWAKE_S = 1.0
"""Within how many seconds of waking everything is called that became due while the machine was asleep."""

EARLY_S = 0.002
"""How much too early a sleeper may wake: event loops round to milliseconds."""

TOLERANCE_S = 1.0
"""How far the two clocks may move apart during a test: the system adjusts a wall clock all the time."""


class ClockContract(ABC):
    """Tests for a clock. Override `passes` if time does not pass by itself.

    The tests of a machine that sleeps are skipped unless you override `sleeps`.
    """

    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[Clock]:
        """Make the clock."""

    async def passes(self, clock: Clock, seconds: float) -> None:
        """Let `seconds` pass. By default, sleep on the event loop, which suits a real clock."""
        del clock
        await asyncio.sleep(seconds)

    async def sleeps(self, clock: Clock, seconds: float) -> None:
        """Let the machine sleep for `seconds`: both clocks move on by that, and no timer is called."""
        del clock, seconds
        raise unittest.SkipTest("this clock's machine cannot be put to sleep")

    async def test_both_clocks_go_together_and_never_back(self) -> None:
        async with self.opened() as clock:
            moments = [clock.now()]
            for _ in range(3):
                await self.passes(clock, STEP_S)
                moments.append(clock.now())
        for before, after in pairwise(moments):
            assert after.mono > before.mono
            assert abs((after.wall - before.wall) - (after.mono - before.mono)) < TOLERANCE_S

    async def test_a_time_that_is_past_is_not_waited_for_but_others_have_their_turn(self) -> None:
        async with self.opened() as clock:
            for back_s in (1.0, 0.0, float("inf")):
                others: list[str] = []
                asyncio.get_running_loop().call_soon(others.append, "had their turn")
                await clock.sleep_until(clock.now().mono - back_s)
                assert others == ["had their turn"]

    async def test_nobody_is_woken_before_the_time(self) -> None:
        async with self.opened() as clock:
            due = clock.now().mono + STEP_S
            sleeper = asyncio.create_task(_woken_at(clock, due))
            await asyncio.sleep(0)
            assert not sleeper.done()
            for _ in range(2):
                await self.passes(clock, STEP_S / 2)
            await until(sleeper.done)
            assert await sleeper >= due - EARLY_S

    async def test_sleepers_are_woken_in_the_order_of_their_times(self) -> None:
        async with self.opened() as clock:
            begin, order = clock.now().mono, []

            async def sleep(steps: int) -> None:
                await clock.sleep_until(begin + steps * STEP_S)
                order.append(steps)

            sleepers = [asyncio.create_task(sleep(steps)) for steps in (3, 1, 2)]
            await asyncio.sleep(0)
            for _ in range(3):
                await self.passes(clock, STEP_S)
            await until(lambda: all(sleeper.done() for sleeper in sleepers))
            assert order == [1, 2, 3]

    async def test_one_that_is_cancelled_does_not_keep_others_asleep(self) -> None:
        async with self.opened() as clock:
            due = clock.now().mono + STEP_S
            cancelled, other = [asyncio.create_task(clock.sleep_until(due)) for _ in range(2)]
            await asyncio.sleep(0)
            cancelled.cancel()
            await self.passes(clock, STEP_S)
            await until(lambda: cancelled.done() and other.done())
            assert cancelled.cancelled()
            assert not other.cancelled()

    async def test_a_call_is_made_once_and_not_before_the_time(self) -> None:
        async with self.opened() as clock:
            due, made = clock.now().mono + STEP_S, []
            timer = clock.call_at(due, lambda: made.append(clock.now().mono))
            await asyncio.sleep(0)
            assert made == []
            for _ in range(2):
                await self.passes(clock, STEP_S / 2)
            await until(lambda: bool(made))
            assert made[0] >= due - EARLY_S
            timer.cancel()
            await self.passes(clock, STEP_S)
            assert len(made) == 1

    async def test_a_call_that_is_due_already_is_made_in_another_turn(self) -> None:
        async with self.opened() as clock:
            made: list[str] = []
            clock.call_at(clock.now().mono - 1.0, lambda: made.append("made"))
            assert made == []
            await until(lambda: bool(made))

    async def test_a_cancelled_call_is_not_made(self) -> None:
        async with self.opened() as clock:
            due, made = clock.now().mono + STEP_S, []
            cancelled = clock.call_at(due, lambda: made.append("cancelled"))
            clock.call_at(due, lambda: made.append("other"))
            cancelled.cancel()
            cancelled.cancel()
            await self.passes(clock, STEP_S)
            await until(lambda: bool(made))
            assert made == ["other"]

    async def test_a_long_wait_ends_at_its_time_too(self) -> None:
        async with self.opened() as clock:
            due, made = clock.now().mono + LONG_S, []
            sleeper = asyncio.create_task(_woken_at(clock, due))
            given_up = asyncio.create_task(clock.sleep_until(due))
            clock.call_at(due, lambda: made.append(clock.now().mono))
            clock.call_at(due, lambda: made.append(0.0)).cancel()
            await asyncio.sleep(0)
            given_up.cancel()
            for _ in range(2):
                assert (made, sleeper.done()) == ([], False)
                await self.passes(clock, LONG_S / 2)
            await until(lambda: bool(made) and sleeper.done())
            assert (given_up.cancelled(), sleeper.cancelled()) == (True, False)
            assert [at >= due - EARLY_S for at in (*made, await sleeper)] == [True, True]

    async def test_the_time_asleep_counts(self) -> None:
        async with self.opened() as clock:
            before = clock.now()
            await self.sleeps(clock, ASLEEP_S)
            after = clock.now()
        assert after.mono - before.mono >= ASLEEP_S
        assert abs((after.wall - before.wall) - (after.mono - before.mono)) < TOLERANCE_S

    async def test_what_became_due_while_the_machine_slept_is_made_up_for_when_it_wakes(self) -> None:
        async with self.opened() as clock:
            begin = clock.now().mono
            made: list[float] = []
            sleeper = asyncio.create_task(clock.sleep_until(begin + ASLEEP_S / 2))
            for after_s in (ASLEEP_S / 3, AWAKE_S / 2, ASLEEP_S * 2):
                clock.call_at(begin + after_s, partial(made.append, after_s))
            await asyncio.sleep(0)
            await self.sleeps(clock, ASLEEP_S)
            await self.passes(clock, AWAKE_S)
            await until(lambda: sleeper.done() and len(made) == 2)
            assert sorted(made) == [AWAKE_S / 2, ASLEEP_S / 3]


async def _woken_at(clock: Clock, due: float) -> float:
    await clock.sleep_until(due)
    return clock.now().mono
