"""Time that passes when the test says so."""

import asyncio
import heapq
import itertools

from tidegate.core.instant import Instant

BEGINNING = Instant(1000.0, 1_795_383_603.123)


class ManualClock:
    """Implements `tidegate.ports.Clock`. It stands still until `advance` moves it, which wakes what is due by then."""

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
        """Let time pass, on both clocks. Whoever slept until then goes on at the next turn of the event loop."""
        self.elapsed += seconds
        now = self.now().mono
        while self._sleepers and self._sleepers[0][0] <= now:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)

    @property
    def next_due_in(self) -> float | None:
        """In how many seconds the next sleeper is woken; None while nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return max(0.0, self._sleepers[0][0] - self.now().mono) if self._sleepers else None

    def set_wall(self, by_s: float) -> None:
        """Set the wall clock forward, or back, against the monotonic one."""
        self._set_by += by_s
