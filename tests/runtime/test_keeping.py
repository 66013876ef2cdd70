"""Work that is kept running: started again if it fails, and over when the context is left."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from house import House, source, virtual
from structlog.testing import capture_logs

from tidegate.runtime.keeping import kept_running
from tidegate.testing import RecordingMetrics


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


@virtual
async def test_a_part_that_fails_again_and_again_is_counted_and_logged_once_a_minute_and_so_is_its_end() -> None:
    metrics, broken_until = RecordingMetrics(), 130.0

    async def service() -> None:
        if asyncio.get_running_loop().time() < broken_until:
            raise RuntimeError("broken")
        await asyncio.Event().wait()

    with capture_logs() as lines:
        clock = House(source()).gateway.clock
        async with kept_running({"poller engine": service}, clock, observe=metrics.observe):
            await asyncio.sleep(300)
    assert metrics.named("part_restarted") == [("poller",)] * 130
    assert [(line["event"], line["log_level"]) for line in lines] == [
        *[("a part failed and is started again", "error")] * 3,
        ("the part runs again", "info"),
    ]
    assert [(line["part"], line["error"]) for line in lines[:3]] == [("poller engine", "RuntimeError('broken')")] * 3
    assert isinstance(lines[2]["exc_info"], RuntimeError)
    assert [line.get("suppressed", 0) for line in lines[:3]] == [0, 59, 60]
    assert lines[3]["times"] == 130


@virtual
async def test_a_job_that_may_end_is_not_started_again_once_it_has_returned() -> None:
    starts: list[float] = []
    over = asyncio.Event()

    async def work() -> None:
        starts.append(asyncio.get_running_loop().time())
        await over.wait()
        if len(starts) == 1:
            raise RuntimeError("broken")

    async with kept_running({}, House(source()).gateway.clock) as jobs:
        job = jobs.start("poller", work)
        await asyncio.sleep(0.5)
        job.let_end()
        over.set()
        await asyncio.sleep(0.4)
        assert not job.task.done(), "it failed before it had said everything"
        await job.task
        assert starts == pytest.approx([0.0, 1.5])
        await asyncio.sleep(5.0)
    assert len(starts) == 2


@virtual
async def test_a_job_that_was_started_later_ends_with_the_others() -> None:
    async with kept_running({}, House(source()).gateway.clock) as jobs:
        job = jobs.start("poller", asyncio.Event().wait)  # type: ignore[arg-type]
        await asyncio.sleep(1.0)
    assert job.task.cancelled()
