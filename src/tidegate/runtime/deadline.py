"""A timeout by the gateway's clock.

Like `asyncio.timeout`, but the time comes from `tidegate.ports.Clock`. So a test that moves its clock can make a call
time out. The same task must enter and leave the context.
"""

import asyncio
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Self

from tidegate.ports import Clock, Timer


def deadline(clock: Clock, seconds: float) -> "Deadline":
    """Cancel the body of the context after `seconds`, and raise `TimeoutError` when it has ended."""
    return Deadline(clock, clock.now().mono + seconds)


async def set_or_due(event: asyncio.Event, clock: Clock, at: float | None) -> None:
    """Wait until `event` is set, or until the monotonic time `at`; None waits without a limit."""
    with suppress(TimeoutError):
        async with nullcontext() if at is None else Deadline(clock, at):
            await event.wait()


class Deadline:
    """An async context manager, entered once. `at` is a monotonic time.

    At the deadline the body sees a cancellation. If it ends with that, leaving the context raises `TimeoutError`. If
    others cancelled the task too, or an outer deadline has passed, it stays a cancellation. Any other error passes
    through.
    """

    __slots__ = ("_at", "_cancelling", "_clock", "_expired", "_task", "_timer")

    _task: "asyncio.Task[object]"  # this and the next two are set on entering
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
        # The task may have been cancelled by others already: that must not be turned into a timeout.
        self._cancelling = task.cancelling()
        self._timer = self._clock.call_at(self._at, self._expire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        # `uncancel` even if the body swallowed our cancellation: it must not count for what the task does next.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()
