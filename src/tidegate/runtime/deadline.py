"""A deadline over what may take too long, by the gateway's clock.

The same as `asyncio.timeout`, but that it asks `tidegate.ports.Clock` for time: so a test's clock ends a call when the
test says so. The same task must enter and leave it.
"""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from tidegate.ports import Clock


def deadline(clock: Clock, seconds: float) -> "Deadline":
    """Cancel what runs inside after `seconds`, and raise `TimeoutError` in its place once it has ended."""
    return Deadline(clock, clock.now().mono + seconds)


class Deadline:
    """An asynchronous context manager, entered once. `at` is a monotonic time.

    What is inside sees a cancellation. If it ends with that, leaving the context raises `TimeoutError`. If somebody
    else cancelled the task too, or an outer deadline has passed, it stays a cancellation for whoever is meant; and
    another error that comes out of the context is left alone.
    """

    __slots__ = ("_asleep", "_at", "_begin", "_cancelling", "_clock", "_expired", "_task", "_woken")

    _task: "asyncio.Task[object]"  # these three from when it is entered
    _cancelling: int
    _begin: asyncio.Handle

    def __init__(self, clock: Clock, at: float) -> None:
        self._clock = clock
        self._at = at
        self._expired = False
        self._asleep: Coroutine[Any, Any, None] | None = None
        self._woken: asyncio.Future[None] | None = None

    def expired(self) -> bool:
        """Whether the deadline has passed before the context was left; also where the cancellation was swallowed."""
        return self._expired

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("expected to be entered in a task")
        self._task = task
        self._cancelling = task.cancelling()
        # What ends without waiting for anything, as most of what gets a call ready does, needs no timer.
        self._begin = asyncio.get_running_loop().call_soon(self._go_on)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._begin.cancel()
        if self._woken is not None:
            self._woken.remove_done_callback(self._go_on)
        if self._asleep is not None:
            self._asleep.close()  # ends the sleep, which takes its timer back
        # Taken back also where the cancellation was swallowed: it was ours, and must not end what comes after.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _go_on(self, _: object = None) -> None:
        """Take the sleep one step further, as a task of its own would: with a task for each deadline, polling was 10 %
        dearer."""
        self._woken = None
        if self._asleep is None:
            self._asleep = self._clock.sleep_until(self._at)
        try:
            woken = self._asleep.send(None)
        except StopIteration:
            self._expired = True
            self._task.cancel()
            return
        if woken is None:  # a sleep that is over already lets others have their turn
            woken = asyncio.get_running_loop().create_future()
            woken.set_result(None)
        else:
            woken._asyncio_future_blocking = False  # noqa: SLF001 - what a task does with what it is given to wait for
        self._woken = woken
        woken.add_done_callback(self._go_on)
