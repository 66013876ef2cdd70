"""A coroutine that keeps its cancellation to itself is dropped; one that blocks the event loop is told of."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from tidegate.outbound.backends.plugins import driven
from tidegate.outbound.backends.plugins.driven import Driven


class Told:
    def __init__(self) -> None:
        self.dropped = 0
        self.blocked: list[float] = []

    def drive(self, coroutine: Coroutine[Any, Any, Any]) -> Driven[Any]:
        def dropped() -> None:
            self.dropped += 1

        return Driven(coroutine, dropped=dropped, blocked=self.blocked.append)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(driven, "GRACE_S", 0.02)
    return Told()


async def test_it_gives_what_the_coroutine_gives(told: Told) -> None:
    async def work() -> int:
        await asyncio.sleep(0.001)
        return await asyncio.get_running_loop().run_in_executor(None, int, "7")

    async def failing() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    assert await told.drive(work()) == 7
    with pytest.raises(KeyError):
        await told.drive(failing())
    assert (told.dropped, told.blocked) == (0, [])


async def test_a_coroutine_that_swallows_every_cancellation_is_dropped(told: Told) -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(3600.0)
            except asyncio.CancelledError:
                continue

    task = asyncio.create_task(_awaited(told.drive(stubborn())))
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(20.0):
        await asyncio.wait([task])
    assert task.cancelled()
    assert told.dropped == 1
    assert task.cancelling() == 1, "our own wish is none that others count"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python tells of such a coroutine too
async def test_its_deadline_is_a_timeout_all_the_same(told: Told) -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(3600.0)
            except BaseException:  # noqa: BLE001
                continue

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await told.drive(stubborn())
    assert told.dropped == 1


async def test_a_cancelled_coroutine_may_clean_up(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driven, "GRACE_S", 20.0)
    cleaned = []

    async def tidy() -> None:
        try:
            await asyncio.sleep(3600.0)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(True)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await told.drive(tidy())
    assert (cleaned, told.dropped) == ([True], 0)


async def test_a_timeout_or_a_cancelled_task_of_its_own_does_not_end_it(told: Told) -> None:
    async def careful() -> str:
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.001):
                    await asyncio.sleep(3600.0)
        helper = asyncio.create_task(asyncio.sleep(3600.0))
        asyncio.get_running_loop().call_soon(helper.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await helper
        await asyncio.sleep(0.1)
        return "well"

    assert await told.drive(careful()) == "well"
    assert told.dropped == 0


async def test_what_was_wanted_before_it_began_is_no_wish_that_it_ends(told: Told) -> None:
    async def work() -> str:
        await asyncio.sleep(0.1)
        return "well"

    async def outer() -> str:
        try:
            await asyncio.sleep(3600.0)
        except asyncio.CancelledError:
            return str(await told.drive(work()))
        raise AssertionError("expected to be cancelled")

    task = asyncio.create_task(outer())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "well"


async def test_a_long_step_is_told(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driven, "BLOCKED_S", 0.01)

    async def blocking() -> None:
        _spin(0.02)
        await asyncio.sleep(0)

    await told.drive(blocking())
    (took_s,) = told.blocked
    assert took_s >= 0.02


def _spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def _awaited(work: Driven[Any]) -> Any:
    return await work
