"""How fast something goes on, and when it will be there. Pure: positions and monotonic times in."""

from collections import deque

WINDOW_S = 5.0
"""A rate is over so many seconds: long enough to be steady, short enough to be of now."""

MIN_SPAN_S = 0.5
"""Positions closer together than this say too little."""


class Pace:
    """The last positions of something that only moves forward."""

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def mark(self, position: int, *, now: float) -> None:
        """It is at `position` at `now`, in monotonic seconds. Going back begins anew."""
        marks = self._marks
        if marks and position < marks[-1][1]:
            marks.clear()
        marks.append((now, position))
        # The mark just before the window stays, so that a slow thing has a rate too.
        while len(marks) > 2 and marks[1][0] <= now - WINDOW_S:
            marks.popleft()

    @property
    def rate(self) -> float | None:
        """Positions per second; None while that is not known."""
        if not self._marks:
            return None
        (began, start), (ended, end) = self._marks[0], self._marks[-1]
        return (end - start) / (ended - began) if ended - began >= MIN_SPAN_S else None

    def eta_s(self, total: int) -> float | None:
        """Seconds to `total` at this rate; None while that is not known, or never."""
        rate = self.rate
        if not rate:
            return None
        return max(0.0, (total - self._marks[-1][1]) / rate)
