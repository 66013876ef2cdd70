"""The clocks of the operating system."""

import asyncio
import time
from collections.abc import Callable

from tidegate.core.instant import Instant
from tidegate.ports import Timer


class SystemClock:
    """Implements `tidegate.ports.Clock` with the wall clock and the monotonic clock, which asyncio's timers use too."""

    def now(self) -> Instant:
        """See `tidegate.ports.Clock`."""
        return Instant(time.monotonic(), time.time())

    async def sleep_until(self, mono: float) -> None:
        """See `tidegate.ports.Clock`."""
        await asyncio.sleep(max(0.0, mono - time.monotonic()))

    def call_at(self, mono: float, callback: Callable[[], None]) -> Timer:
        """See `tidegate.ports.Clock`."""
        return asyncio.get_running_loop().call_later(max(0.0, mono - time.monotonic()), callback)
