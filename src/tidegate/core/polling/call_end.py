"""When the call of one source has to end, and whether it is better to wait for that than to speak now.

A call that is about to time out will say why the data is stale. If age spoke just before it, subscribers would be given
two reasons for one outage.
"""

from tidegate.core.instant import Instant

AT_DEADLINE_S = 0.02
"""How close to its deadline a call is about to end. The timers of a loop are a few milliseconds late."""

END_S = 0.25
"""How long to wait for the end of a call at its deadline. A backend may resist cancellation, and take longer."""

_NEVER = float("inf")


class CallEnd:
    """The end of one source's call. Times are monotonic."""

    __slots__ = ("_deadline", "awaited_until")

    def __init__(self) -> None:
        self.awaited_until: float | None = None
        """Until when its end is awaited; None if nobody has asked for that yet."""
        self._deadline = _NEVER

    def begin(self, deadline: float) -> None:
        """A call is sent, which is cancelled at `deadline`."""
        self._deadline = deadline

    def clear(self) -> None:
        """There is no call any more."""
        self._deadline = _NEVER
        self.awaited_until = None

    def is_overdue(self, now: Instant) -> bool:
        """Whether the call has reached its deadline."""
        return now.mono >= self._deadline

    def is_awaited(self, now: Instant) -> bool:
        """Whether the call is at its deadline, and its end is still worth waiting for."""
        if now.mono < self._deadline - AT_DEADLINE_S:
            return False
        if self.awaited_until is None:
            self.awaited_until = now.mono + END_S
        return now.mono < self.awaited_until
