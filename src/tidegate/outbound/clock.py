"""The clocks of the operating system, and timers that hold when the machine sleeps.

Monotonic time is the boot-time clock where the system has one, which also counts the time that the machine is asleep.
So data gets older while it sleeps, and no wall clock seems to have been set. The timers of the event loop go by a clock
that stands still meanwhile. A longer wait is therefore kept here, and looked at once a second by the boot-time clock.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from functools import partial

from tidegate.core.instant import Instant
from tidegate.ports import Timer

LOOK_S = 1.0
"""A timer that is due sooner is the event loop's own. For the others the clock looks at the time so often.

So no timer is late by more than this after the machine wakes.
"""

EARLY_S = 0.0005
"""How much too early a timer may be called: uvloop rounds to milliseconds."""

MANY_TIMERS = 1000
"""From so many timers on, the cancelled ones are removed before their time comes."""


def boot_time() -> Callable[[], float]:
    """Return the function that reads monotonic time in seconds: with the time asleep if the system can tell it."""
    if not hasattr(time, "CLOCK_BOOTTIME"):  # not Linux
        return time.monotonic
    return partial(time.clock_gettime, time.CLOCK_BOOTTIME)


class SystemClock:
    """Implements `tidegate.ports.Clock` for one event loop at a time. `mono` and `wall` read the time, in seconds."""

    def __init__(self, *, mono: Callable[[], float] | None = None, wall: Callable[[], float] = time.time) -> None:
        self._mono = mono or boot_time()
        self._wall = wall
        self._distant: _DistantTimers | None = None

    def now(self) -> Instant:
        """See `tidegate.ports.Clock`."""
        return Instant(self._mono(), self._wall())

    async def sleep_until(self, mono: float) -> None:
        """See `tidegate.ports.Clock`."""
        wait_s = mono - self._mono()
        if wait_s <= LOOK_S:
            await asyncio.sleep(max(0.0, wait_s))
            return
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        timer = self._of(loop).add(mono, partial(_wake, woken))
        try:
            await woken
        finally:
            timer.cancel()

    def call_at(self, mono: float, callback: Callable[[], None]) -> Timer:
        """See `tidegate.ports.Clock`."""
        wait_s = mono - self._mono()
        loop = asyncio.get_running_loop()
        if wait_s <= LOOK_S:
            return loop.call_later(max(0.0, wait_s), callback)
        return self._of(loop).add(mono, callback)

    def _of(self, loop: asyncio.AbstractEventLoop) -> "_DistantTimers":
        if self._distant is None or self._distant.loop is not loop:
            self._distant = _DistantTimers(loop, self._mono)
        return self._distant


def _wake(sleeper: "asyncio.Future[None]") -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class _DistantTimers:
    """Timers that are more than `LOOK_S` away when they are added. One timer of `loop` looks after all of them.

    A new timer never has to be looked at before that one comes, because it is set for at most `LOOK_S` from now.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, mono: Callable[[], float]) -> None:
        self.loop = loop
        self._mono = mono
        self._numbers = itertools.count()
        self._heap: list[tuple[float, int, _DistantTimer]] = []
        self._many = MANY_TIMERS
        self._is_looking = False

    def add(self, mono: float, callback: Callable[[], None]) -> "_DistantTimer":
        timer = _DistantTimer(callback)
        heapq.heappush(self._heap, (mono, next(self._numbers), timer))
        if len(self._heap) > self._many:
            self._forget_cancelled()
        if not self._is_looking:
            self._is_looking = True
            self.loop.call_later(LOOK_S, self._look)
        return timer

    def _forget_cancelled(self) -> None:
        """Remove the cancelled timers, which most deadlines are long before their time comes.

        The next time is when there are twice as many as remain now, so this costs little for each timer.
        """
        self._heap = [entry for entry in self._heap if entry[2].callback is not None]
        heapq.heapify(self._heap)
        self._many = MANY_TIMERS + 2 * len(self._heap)

    def _look(self) -> None:
        """Have the loop call what is due, and look again when the next one is due, but after `LOOK_S` at the latest."""
        now = self._mono()
        while self._heap and (self._heap[0][2].callback is None or self._heap[0][0] <= now + EARLY_S):
            _, _, timer = heapq.heappop(self._heap)
            if timer.callback is not None:
                self.loop.call_soon(timer.call)
        self._is_looking = bool(self._heap)
        if self._heap:
            self.loop.call_later(min(self._heap[0][0] - now, LOOK_S), self._look)


class _DistantTimer:
    """Implements `tidegate.ports.Timer`. `callback` is None once the call was made or cancelled."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """See `tidegate.ports.Timer`."""
        self.callback = None

    def call(self) -> None:
        """Make the call, unless it was cancelled since it became due."""
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()
