"""The machine's clocks."""

import time

from tidegate.core.instant import Instant


class SystemClock:
    """The monotonic clock that the event loop's timers follow too, and the wall clock."""

    def now(self) -> Instant:
        return Instant(time.monotonic(), time.time())
