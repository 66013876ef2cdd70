"""Time that passes when the test says so."""

from tidegate.core.instant import Instant

BEGINNING = Instant(1000.0, 1_795_383_603.123)


class ManualClock:
    """Implements `tidegate.ports.Clock`. It stands still until `advance` moves it.

    The timers of the event loop do not follow: a gateway on this clock polls when it is told to, and what is to become
    due is found at the next occasion, a poll or a review of the connections.
    """

    def __init__(self, beginning: Instant = BEGINNING) -> None:
        self.elapsed = 0.0
        self._set_by = 0.0
        self._beginning = beginning

    def now(self) -> Instant:
        """See `tidegate.ports.Clock`."""
        return Instant(self._beginning.mono + self.elapsed, self._beginning.wall + self.elapsed + self._set_by)

    def advance(self, seconds: float) -> None:
        """Let time pass, on both clocks."""
        self.elapsed += seconds

    def set_wall(self, by_s: float) -> None:
        """Set the wall clock forward, or back, against the monotonic one."""
        self._set_by += by_s
