"""Keeps background tasks running while a context is open: a task that fails is restarted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import structlog

from tidegate.ports import Clock

RESTART_S = 1.0
"""Seconds before a failed task is restarted: a task that always fails at once must not use up the processor."""

log = structlog.get_logger("tidegate.supervisor")


@asynccontextmanager
async def kept_running(jobs: Mapping[str, Callable[[], Awaitable[None]]], clock: Clock) -> AsyncIterator[None]:
    """Run each of `jobs`, by name, as a task while the context is open. Leaving it cancels and awaits all of them.

    A job that raises or returns is started again after `RESTART_S`. An exception is logged.
    """
    tasks = [asyncio.create_task(_keep_running(name, run, clock), name=name) for name, run in jobs.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_running(name: str, run: Callable[[], Awaitable[None]], clock: Clock) -> None:
    while True:
        try:
            await run()
        except Exception:
            log.exception("a part failed and is started again", part=name, after_s=RESTART_S)
        await clock.sleep_until(clock.now().mono + RESTART_S)
