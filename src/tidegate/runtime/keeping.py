"""Work that runs for as long as something is open: started together, started again if it fails, ended together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import structlog

from tidegate.ports import Clock

RESTART_S = 1.0
"""How long work that failed rests before it is started again."""

log = structlog.get_logger("tidegate.supervisor")


@asynccontextmanager
async def kept_running(works: Mapping[str, Callable[[], Awaitable[None]]], clock: Clock) -> AsyncIterator[None]:
    """Each of `works`, by name, runs while the context is open. On leaving, all are cancelled and waited for.

    Work that raises is logged and started again `RESTART_S` later, and so is work that returns.
    """
    tasks = [asyncio.create_task(_keep_running(name, run, clock), name=name) for name, run in works.items()]
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
