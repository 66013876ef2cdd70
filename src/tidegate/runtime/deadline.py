"""A deadline over what may take too long, by the gateway's clock.

The same as `asyncio.timeout`, except that it asks `tidegate.ports.Clock` for time. So a test's clock ends a call when
the test says so. The same task must enter and leave it.
"""

import asyncio
from types import TracebackType
from typing import Self

from tidegate.ports import Clock, Timer


def deadline(clock: Clock, seconds: float) -> "Deadline":
    """Cancel what runs inside after `seconds`, and raise `TimeoutError` in its place once it has ended."""
    return Deadline(clock, clock.now().mono + seconds)


class Deadline:
    """An async context manager, entered once. `at` is a monotonic time.

    What is inside sees a cancellation. If it ends with that, leaving the context raises `TimeoutError`. If somebody
    else cancelled the task too, or an outer deadline has passed, it stays a cancellation. Any other error that leaves
    the context is left alone.
    """

    __slots__ = ("_at", "_cancelling", "_clock", "_expired", "_task", "_timer")

    _task: "asyncio.Task[object]"  # these three from when it is entered
    _cancelling: int
    _timer: Timer

    def __init__(self, clock: Clock, at: float) -> None:
        self._clock = clock
        self._at = at
        self._expired = False

    def expired(self) -> bool:
        """Whether the deadline passed before the context was left; also if the cancellation was swallowed."""
        return self._expired

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("expected to be entered in a task")
        self._task = task
        # Cancellations of others that are under way already are not ours to turn into a timeout.
        self._cancelling = task.cancelling()
        self._timer = self._clock.call_at(self._at, self._expire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        # Taken back also where the cancellation was swallowed: it was ours, and must not end what comes after.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()
