"""The lag of the loop, on a clock that the test moves."""

import asyncio

import pytest

from tidegate.core.readings import Distribution
from tidegate.runtime.loop_lag import EVERY_S, MOST, LoopLag
from tidegate.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def lags(watch: LoopLag) -> Distribution:
    [reading] = watch.readings()
    assert reading.name == "tidegate_loop_lag_seconds"
    assert isinstance(reading.value, Distribution)
    return reading.value


async def passes(clock: ManualClock, seconds: float) -> None:
    clock.advance(seconds)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_loop_that_turns_is_never_late(clock: ManualClock) -> None:
    watch = LoopLag(clock)
    with watch.watched():
        for _ in range(50):
            await passes(clock, EVERY_S + 1e-6)  # a sum of tenths is not exact
    assert sum(lags(watch).counts) == 50
    assert lags(watch).sum < 0.01


async def test_every_timer_of_the_time_in_which_it_stood_still_was_late(clock: ManualClock) -> None:
    watch = LoopLag(clock)
    told: list[float] = []
    with watch.watched(told.append):
        await passes(clock, EVERY_S)
        await passes(clock, 3.0 + EVERY_S / 2)  # SIGSTOP for three seconds
        await passes(clock, EVERY_S)
    found = lags(watch)
    assert told == pytest.approx([0.0, 2.95, 0.05])
    assert sum(found.counts) == 32
    late = dict(zip((*found.bounds, float("inf")), found.counts, strict=True))
    assert late[5.0] == 5  # 2.95 to 2.55
    assert late[2.5] == 15  # 2.45 to 1.05
    assert found.sum == pytest.approx(sum(n / 10 + 0.05 for n in range(30)) + 0.05)


async def test_a_machine_that_slept_for_hours_holds_nobody_up(clock: ManualClock) -> None:
    watch = LoopLag(clock)
    with watch.watched():
        await passes(clock, 8 * 3600.0)
        assert sum(lags(watch).counts) == MOST
        await passes(clock, EVERY_S)
    assert sum(lags(watch).counts) == MOST + 1


async def test_it_wakes_an_idle_machine_ten_times_a_second_and_not_at_all_afterwards(clock: ManualClock) -> None:
    watch = LoopLag(clock)
    with watch.watched():
        assert clock.next_due_in == pytest.approx(EVERY_S)
        await passes(clock, EVERY_S)
        assert clock.next_due_in == pytest.approx(EVERY_S)
    await passes(clock, 1.0)
    assert clock.next_due_in is None
