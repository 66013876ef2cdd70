"""For how long one breaker was open. Half-open does not count: a call may be made then."""

from tidegate.core.instant import Instant


class OpenTime:
    """The seconds in which a breaker was open, counted since it was first seen to be."""

    __slots__ = ("_is_open", "_seconds", "_since")

    def __init__(self) -> None:
        self._is_open = False
        self._since = 0.0
        self._seconds = 0.0

    def noted(self, now: Instant, *, is_open: bool) -> float:
        """Note whether the breaker is open at `now`, and return for how many seconds it was open until then.

        Call this whenever it has moved.
        """
        if self._is_open:
            self._seconds += now.mono - self._since
        self._is_open, self._since = is_open, now.mono
        return self._seconds
