"""A fake clock that a test moves by hand."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from functools import partial

from tidegate.core.instant import Instant

BEGINNING = Instant(1000.0, 1_795_383_603.123)


class ManualTimer:
    """A call that a `ManualClock` makes when its time has come. Implements `tidegate.ports.Timer`."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self.is_over = False
        """Whether the call was made or cancelled."""

    def cancel(self) -> None:
        """See `tidegate.ports.Timer`."""
        self.is_over = True

    def call(self) -> None:
        """Make the call, unless it was made or cancelled."""
        if not self.is_over:
            self.is_over = True
            self._callback()


class ManualClock:
    """Implements `tidegate.ports.Clock`. The time changes only when `advance` is called, which wakes due sleepers."""

    def __init__(self, beginning: Instant = BEGINNING) -> None:
        self.elapsed = 0.0
        self._set_by = 0.0
        self._beginning = beginning
        self._numbers = itertools.count()
        self._timers: list[tuple[float, int, ManualTimer, Callable[[], object]]] = []

    def now(self) -> Instant:
        """See `tidegate.ports.Clock`."""
        return Instant(self._beginning.mono + self.elapsed, self._beginning.wall + self.elapsed + self._set_by)

    async def sleep_until(self, mono: float) -> None:
        """See `tidegate.ports.Clock`."""
        if mono <= self.now().mono:
            await asyncio.sleep(0)
            return
        woken = asyncio.Event()
        timer = ManualTimer(woken.set)
        self._add(mono, timer, timer.call)
        try:
            await woken.wait()
        finally:
            timer.cancel()

    def call_at(self, mono: float, callback: Callable[[], None]) -> ManualTimer:
        """See `tidegate.ports.Clock`."""
        timer = ManualTimer(callback)
        call_soon = partial(asyncio.get_running_loop().call_soon, timer.call)
        if mono <= self.now().mono:
            call_soon()
        else:
            self._add(mono, timer, call_soon)
        return timer

    def advance(self, seconds: float) -> None:
        """Move both clocks forward. What is due is called or woken in the next iteration of the event loop."""
        self.elapsed += seconds
        now = self.now().mono
        while self._timers and self._timers[0][0] <= now:
            _, _, timer, make_due = heapq.heappop(self._timers)
            if not timer.is_over:  # a cancelled one is still in the heap
                make_due()

    @property
    def next_due_in(self) -> float | None:
        """Seconds until the next call or sleeper is due; None if there is none."""
        while self._timers and self._timers[0][2].is_over:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - self.now().mono) if self._timers else None

    def set_wall(self, by_s: float) -> None:
        """Set the wall clock forward by `by_s` seconds, or back if negative. The monotonic clock stays."""
        self._set_by += by_s

    def _add(self, mono: float, timer: ManualTimer, make_due: Callable[[], object]) -> None:
        heapq.heappush(self._timers, (mono, next(self._numbers), timer, make_due))
