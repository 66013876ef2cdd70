"""Deadlines by the gateway's clock: the same as `asyncio.timeout`, as each of these says of both."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from house import LoopClock, virtual

from tidegate.outbound.clock import SystemClock
from tidegate.runtime.deadline import deadline
from tidegate.testing import ManualClock

Limit = Callable[[float], Any]


def of_both(test: Callable[[Limit], Any]) -> Callable[[str], None]:
    @pytest.mark.parametrize("kind", ["asyncio.timeout", "deadline"])
    def run(kind: str) -> None:
        @virtual
        async def go() -> None:
            await test(asyncio.timeout if kind == "asyncio.timeout" else lambda s: deadline(LoopClock(), s))
            assert asyncio.all_tasks() == {asyncio.current_task()}

        go()

    run.__name__ = test.__name__
    return run


def now() -> float:
    return asyncio.get_running_loop().time()


@of_both
async def test_what_takes_too_long_is_cancelled_and_raises(limit: Limit) -> None:
    with pytest.raises(TimeoutError):
        async with limit(2.0) as inner:
            await asyncio.sleep(10.0)
    assert now() == pytest.approx(2.0, abs=0.01)
    assert inner.expired()
    await asyncio.sleep(1.0)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


@of_both
async def test_what_ends_in_time_is_left_alone(limit: Limit) -> None:
    async with limit(2.0) as inner:
        await asyncio.sleep(1.0)
    await asyncio.sleep(5.0)
    assert not inner.expired()


@of_both
async def test_a_deadline_that_is_past_gives_one_turn(limit: Limit) -> None:
    with pytest.raises(TimeoutError):
        async with limit(-1.0):
            await asyncio.sleep(10.0)
    assert now() < 0.01


@of_both
async def test_an_outer_deadline_that_passes_first_is_the_one_that_is_told(limit: Limit) -> None:
    with pytest.raises(TimeoutError):
        async with limit(1.0) as outer, limit(5.0) as inner:
            await asyncio.sleep(10.0)
    assert (outer.expired(), inner.expired()) == (True, False)


@of_both
async def test_an_inner_deadline_does_not_end_the_outer_one(limit: Limit) -> None:
    async with limit(5.0) as outer:
        with pytest.raises(TimeoutError):
            async with limit(1.0):
                await asyncio.sleep(10.0)
        await asyncio.sleep(1.0)
    assert not outer.expired()


@of_both
async def test_whoever_is_cancelled_by_somebody_else_ends_as_cancelled(limit: Limit) -> None:
    async def work() -> None:
        async with limit(1.0):
            try:
                await asyncio.sleep(10.0)
            finally:
                task.cancel()  # somebody else, at the same moment
                await asyncio.sleep(0)

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task


@of_both
async def test_a_cancellation_that_is_swallowed_shows_in_expired_alone(limit: Limit) -> None:
    async with limit(1.0) as inner:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10.0)
    assert inner.expired()
    await asyncio.sleep(1.0)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


@of_both
async def test_another_error_is_left_alone(limit: Limit) -> None:
    async def work() -> None:
        async with limit(1.0):
            try:
                await asyncio.sleep(10.0)
            except asyncio.CancelledError:
                raise ValueError("mine") from None

    with pytest.raises(ValueError, match="mine"):
        await work()


async def test_a_clock_that_is_moved_by_hand_ends_what_it_is_to_end() -> None:
    clock = ManualClock()
    ended = asyncio.Event()

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with deadline(clock, 30.0):
                await asyncio.Event().wait()
        ended.set()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.advance(29.0)
    await asyncio.sleep(0.01)
    assert not ended.is_set()
    clock.advance(1.0)
    await task
    assert ended.is_set()


async def test_the_machines_clock_ends_it_too() -> None:
    with pytest.raises(TimeoutError):
        async with deadline(SystemClock(), 0.001):
            await asyncio.Event().wait()
