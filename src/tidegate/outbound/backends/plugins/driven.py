"""Awaits a coroutine of other people's code so that it can neither swallow a cancellation nor block unnoticed.

A coroutine runs in steps, from one `await` to the next. Here each step is taken by hand. So a step that blocks the
event loop is found by its length, and a coroutine that goes on after it was cancelled is dropped. Tasks that it has
started are its own: nothing here knows of them.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

GRACE_S = 0.5
"""How long a cancelled coroutine may go on, to clean up, before it is dropped."""

BLOCKED_S = 0.25
"""How long one step may take without a word. All clients of the gateway wait meanwhile."""

_T = TypeVar("_T")


class Driven(Generic[_T]):
    """Awaiting it gives the result of `coroutine`, or raises what that raises.

    If the awaiting task is cancelled, the coroutine is cancelled too. Where it goes on for longer than `GRACE_S`, it is
    closed, `dropped` is called, and the cancellation goes on without it. `blocked` is called with the seconds of a step
    that was longer than `BLOCKED_S`.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, _T],
        *,
        dropped: Callable[[], None],
        blocked: Callable[[float], None],
    ) -> None:
        self._coroutine = coroutine
        self._dropped = dropped
        self._blocked = blocked
        self._grace_is_over = False

    def __await__(self) -> Generator[Any, Any, _T]:
        task = asyncio.current_task()
        assert task is not None, "a coroutine is awaited in a task"
        cancelled_before = task.cancelling()
        error: BaseException | None = None
        grace: asyncio.TimerHandle | None = None
        try:
            while True:
                try:
                    awaited = self._step(error)
                except StopIteration as ended:
                    result: _T = ended.value
                    return result
                # A timeout of the coroutine's own cancels the task too, and takes that back. So does a task that it
                # awaits and that is cancelled, without a wish of ours.
                is_cancelled = task.cancelling() > cancelled_before
                if is_cancelled and grace is None:
                    grace = asyncio.get_running_loop().call_later(GRACE_S, self._end_grace, task)
                elif grace is not None and not is_cancelled:
                    grace.cancel()
                    grace = None
                error = None
                try:
                    yield awaited
                except asyncio.CancelledError as cancelled:
                    if self._grace_is_over:
                        self._drop()
                        raise
                    error = cancelled
                except BaseException as raised:  # noqa: BLE001 - it is the coroutine's to handle
                    error = raised
        finally:
            if grace is not None:
                grace.cancel()

    def _step(self, error: BaseException | None) -> Any:
        began = time.perf_counter()
        try:
            return self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        finally:
            if (took_s := time.perf_counter() - began) > BLOCKED_S:
                self._blocked(took_s)

    def _end_grace(self, task: "asyncio.Task[Any]") -> None:
        self._grace_is_over = True
        task.cancel()
        task.uncancel()  # it was cancelled once by those who wanted its end, and they count

    def _drop(self) -> None:
        with contextlib.suppress(BaseException):  # it does not even end now; what it raises helps nobody
            self._coroutine.close()
        self._dropped()
