"""How late the event loop is: a timer is set for every 100 ms, and each time it is noted how late it was called.

So it shows when something holds the loop, when the machine has no time for this process, and when the process was
stopped. It wakes an idle machine no more often than that.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tidegate.core.readings import DELAYS_S, Distribution
from tidegate.ports import Clock, Reading

EVERY_S = 0.1
"""The interval of the timer, in seconds."""

MOST = 1000
"""So many ticks that passed while the loop stood still are counted at most: a machine may sleep for hours."""


class LoopLag:
    """The lag of the loop that `watched` is entered on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lags = Distribution(DELAYS_S)
        self._due = 0.0

    @contextmanager
    def watched(self, tell: Callable[[float], None] = lambda _: None) -> Iterator[None]:
        """Watch the loop while the context is open. Calls `tell` each time with how many seconds late the timer was."""
        self._tell = tell
        self._due = self._clock.now().mono
        self._timer = self._clock.call_at(self._next(), self._called)
        try:
            yield
        finally:
            self._timer.cancel()

    def readings(self) -> list[Reading]:
        """Return the lags so far."""
        return [Reading("tidegate_loop_lag_seconds", self._lags)]

    def _next(self) -> float:
        self._due += EVERY_S
        return self._due

    def _called(self) -> None:
        now = self._clock.now().mono
        late_s = max(0.0, now - self._due)
        # Each tick that passed meanwhile was late too, one less than the other. Else a stop of 5 s would be one value
        # among many that were good, which no quantile shows.
        missed = math.floor(late_s / EVERY_S)
        for n in range(min(missed + 1, MOST)):
            self._lags.note(late_s - n * EVERY_S)
        self._due += missed * EVERY_S
        self._timer = self._clock.call_at(self._next(), self._called)
        self._tell(late_s)
