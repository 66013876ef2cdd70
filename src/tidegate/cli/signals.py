"""Running a command's coroutine, and ending it on signals: first politely, then at once."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from importlib.util import find_spec
from typing import Any, TypeVar

from tidegate.signals import stopping

T = TypeVar("T")


def run(work: Callable[[asyncio.Event], Coroutine[Any, Any, int]]) -> int:
    """Run `work` on a new event loop; its result.

    The first SIGINT or SIGTERM sets the event that `work` is given, which is to end in good order then. The second
    ends the process at once, with exit code 128 + its number.
    """
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        return runner.run(_guarded(work))


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop, which a gateway or an engine always has; a client's commands go without where it is missing."""
    if find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


async def until(stopped: asyncio.Event, work: Awaitable[T]) -> T | None:
    """The result of `work`, or None if `stopped` was set first; then `work` has been cancelled."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for future in (watcher, task):
            future.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({future})


async def _guarded(work: Callable[[asyncio.Event], Coroutine[Any, Any, int]]) -> int:
    stopped = asyncio.Event()
    with stopping(stopped.set):
        return await work(stopped)
