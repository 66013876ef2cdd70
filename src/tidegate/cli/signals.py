"""Runs the coroutine of a command, and stops it on SIGINT and SIGTERM."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine
from importlib.util import find_spec
from typing import Any, TypeVar

from tidegate.signals import stopping

T = TypeVar("T")


class Stop(asyncio.Event):
    """Is set when the program should stop. `why` is the name of the signal that asked for it, None until then."""

    why: str | None = None


def run(work: Callable[[Stop], Coroutine[Any, Any, int]]) -> int:
    """Run `work` on a new event loop and return its result.

    The first SIGINT or SIGTERM sets the event that is passed to `work`, which should then finish. The second ends the
    process immediately, with exit code 128 + its number.
    """
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        return runner.run(_guarded(work))


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop of uvloop if that is installed. Only commands of a client run without it."""
    if find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


async def until(stopped: asyncio.Event, work: Awaitable[T]) -> T | None:
    """Return the result of `work`, or None if `stopped` was set first. In that case `work` is cancelled."""
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


async def _guarded(work: Callable[[Stop], Coroutine[Any, Any, int]]) -> int:
    stopped = Stop()

    def stop(received: signal.Signals) -> None:
        stopped.why = received.name
        stopped.set()

    with stopping(stop):
        return await work(stopped)
