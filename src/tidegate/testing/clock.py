"""A fake clock that a test moves by hand."""

import asyncio
import heapq
import itertools

from tidegate.core.instant import Instant

BEGINNING = Instant(1000.0, 1_795_383_603.123)


class ManualClock:
    """Implements `tidegate.ports.Clock`. The time changes only when `advance` is called, which wakes due sleepers."""

    def __init__(self, beginning: Instant = BEGINNING) -> None:
        self.elapsed = 0.0
        self._set_by = 0.0
        self._beginning = beginning
        self._numbers = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> Instant:
        """See `tidegate.ports.Clock`."""
        return Instant(self._beginning.mono + self.elapsed, self._beginning.wall + self.elapsed + self._set_by)

    async def sleep_until(self, mono: float) -> None:
        """See `tidegate.ports.Clock`."""
        if mono <= self.now().mono:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (mono, next(self._numbers), woken))
        await woken

    def advance(self, seconds: float) -> None:
        """Move both clocks forward. Sleepers that are due continue in the next iteration of the event loop."""
        self.elapsed += seconds
        now = self.now().mono
        while self._sleepers and self._sleepers[0][0] <= now:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():  # a cancelled sleeper is still in the heap
                woken.set_result(None)

    @property
    def next_due_in(self) -> float | None:
        """Seconds until the next sleeper is due; None if nothing is sleeping."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return max(0.0, self._sleepers[0][0] - self.now().mono) if self._sleepers else None

    def set_wall(self, by_s: float) -> None:
        """Set the wall clock forward by `by_s` seconds, or back if negative. The monotonic clock stays."""
        self._set_by += by_s
