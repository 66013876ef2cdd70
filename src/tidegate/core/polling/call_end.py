"""When the call of one source has to end, and whether it is better to wait for that than to speak now.

A call that is about to time out will say why the data is stale. If age spoke just before it, subscribers would be given
two reasons for one outage.
"""

from tidegate.core.instant import Instant

AT_DEADLINE_S = 0.02
"""How close to its deadline a call is about to end. The timers of a loop are a few milliseconds late."""

END_S = 0.25
"""How long to wait for the end of a call at its deadline. A backend may resist cancellation, and take longer.

So much later than it is due may stale data be told. Who cancels a call and frees its connection needs far less.
"""

_NEVER = float("inf")


class CallEnd:
    """The end of one source's call. Times are monotonic."""

    __slots__ = ("_deadline", "wait_until")

    def __init__(self) -> None:
        self.wait_until: float | None = None
        """Until when to wait for its end at the deadline; None before that wait has begun."""
        self._deadline = _NEVER

    def begin(self, deadline: float) -> None:
        """A call is sent, which is cancelled at `deadline`."""
        self._deadline = deadline

    def clear(self) -> None:
        """There is no call any more."""
        self._deadline = _NEVER
        self.wait_until = None

    def is_past_deadline(self, now: Instant) -> bool:
        """Whether the call has reached its deadline."""
        return now.mono >= self._deadline

    def wait_at_deadline(self, now: Instant) -> bool:
        """If the call is at its deadline, start to wait for its end, or go on with that. Return whether to wait now.

        The wait lasts `END_S` at most, from the first time that this is asked at the deadline.
        """
        if now.mono < self._deadline - AT_DEADLINE_S:
            return False
        if self.wait_until is None:
            self.wait_until = now.mono + END_S
        return now.mono < self.wait_until
