"""Estimates the speed of progress and the time that is left. Pure: positions and monotonic times are arguments."""

from collections import deque

WINDOW_S = 5.0
"""The time over which a rate is measured: long enough to be steady, short enough to be current."""

MIN_SPAN_S = 0.5
"""The shortest time over which a rate is reported. Over a shorter one it would be too noisy."""


class Pace:
    """The recent positions of something that only moves forward."""

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def mark(self, position: int, *, now: float) -> None:
        """Record `position` at the monotonic time `now`. If it is lower than before, the measurement starts anew."""
        marks = self._marks
        if marks and position < marks[-1][1]:
            marks.clear()
        marks.append((now, position))
        # Keep one mark before the window, so that slow progress with rare marks has a rate too.
        while len(marks) > 2 and marks[1][0] <= now - WINDOW_S:
            marks.popleft()

    @property
    def rate(self) -> float | None:
        """The speed in positions per second; None while it is unknown."""
        if not self._marks:
            return None
        (began, start), (ended, end) = self._marks[0], self._marks[-1]
        return (end - start) / (ended - began) if ended - began >= MIN_SPAN_S else None

    def eta_s(self, total: int) -> float | None:
        """Return the seconds until `total` is reached at this rate; None if the rate is unknown or zero."""
        rate = self.rate
        if not rate:
            return None
        return max(0.0, (total - self._marks[-1][1]) / rate)
