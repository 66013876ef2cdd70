"""The events of the log of which not every occurrence gets a line, and the rule for faults that go on."""

from enum import StrEnum

import msgspec

from tidegate.core.instant import LONG_AGO

EVERY_S = 60.0
"""A fault that goes on is said once in so many seconds, and limited lines are summed up as often."""


class LimitedEvent(StrEnum):
    """An event of the log whose lines are limited. The value is the name of the event, a stable identifier."""

    CLIENT_CONNECTED = "client connected"
    CLIENT_LEFT = "client left"
    CLOCK_STEPPED = "wall clock set"
    FILE_NOT_RELOADED = "not reloaded, the earlier content stays in use"
    KEYS_NOT_FETCHED = "keys not fetched"
    LOOP_STALLED = "the event loop stood still"
    NO_FILE_DESCRIPTOR = "no file descriptor left"
    PART_FAILED = "a part failed and is started again"
    PUBLISH_FAILED = "publish failed"
    REFUSED = "refused"
    VALUES_NOT_WRITTEN = "values could not be written"


class FaultLine(msgspec.Struct, frozen=True):
    """A line to write: the fault is there. `suppressed` occurrences before this one got no line.

    `since_s` is for how many seconds the fault has been there.
    """

    suppressed: int
    since_s: float


class OverLine(msgspec.Struct, frozen=True):
    """A line to write: the fault is over, after `after_s` seconds and so many occurrences (`times`)."""

    after_s: float
    times: int


class RepeatingFault:
    """Decides which occurrences of one fault are said: when it begins, once in `EVERY_S` while it lasts, and its end.

    One that comes and goes is not said to begin more often than that, either. What happened in between is summed up
    when the time has passed: by the next call, or by `look` at `look_at`. So there are at most two lines in `EVERY_S`.
    Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._said_at = LONG_AGO
        self.is_there = False
        """Whether the fault has occurred, and is not over."""
        self._from = LONG_AGO  # when the first occurrence came that no end was said of
        self._is_open = False  # whether it was said that it is there, and not yet that it is over
        self._suppressed = 0
        self._times = 0  # occurrences since the last time that an end was said

    @property
    def look_at(self) -> float | None:
        """Monotonic time at which `look` has something to say; None if there is nothing that was not said."""
        return self._said_at + EVERY_S if self._suppressed else None

    def occurred(self, now: float) -> FaultLine | None:
        """The fault occurred `now`. Return the line to write, if any."""
        self.is_there = True
        if not self._times:
            self._from = now
        self._times += 1
        if now < self._said_at + EVERY_S:
            self._suppressed += 1
            return None
        return self._fault_line(now)

    def fine(self, now: float) -> OverLine | None:
        """What failed before went well `now`. Return the line to write, if any. Cheap if called often."""
        if not self.is_there and not self._suppressed:
            return None
        self.is_there = False
        return self._over_line(now) if self._is_open or now >= self._said_at + EVERY_S else None

    def look(self, now: float) -> FaultLine | OverLine | None:
        """The time of `look_at` has come. Return the line to write, if any."""
        if not self._suppressed or now < self._said_at + EVERY_S:
            return None
        return self._fault_line(now) if self.is_there else self._over_line(now)

    def _fault_line(self, now: float) -> FaultLine:
        line = FaultLine(self._suppressed, round(now - self._from, 3))
        self._said_at, self._suppressed, self._is_open = now, 0, True
        return line

    def _over_line(self, now: float) -> OverLine:
        line = OverLine(round(now - self._from, 3), self._times)
        if not self._is_open:  # it came and went unsaid: this line stands for that it was there, too
            self._said_at = now
        self._suppressed, self._times, self._is_open = 0, 0, False
        return line
